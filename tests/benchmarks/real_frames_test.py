"""The reference of the real frames: made cameras see made points, and the errors of made bodies are known."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks import real_frames
from multibodies_jax.geometry import joints

CALIBRATION = """<calibration><cameras><camera serial="cam01">
<transform r11="1" r12="0" r13="0" r21="0" r22="0" r23="1" r31="0" r32="-1" r33="0" x="100" y="-2000" z="1500"/>
<intrinsic focallength="9.3" focalLengthU="64000" focalLengthV="65280" centerPointU="32000" centerPointV="57600"
 radialDistortion1="-0.05" radialDistortion2="0.1" tangentalDistortion1="0.001" tangentalDistortion2="0"/>
</camera></cameras></calibration>"""


@pytest.fixture(scope="module")
def cameras():
    """Four cameras around the origin, 3 m away, looking at it."""
    K = np.array([[900.0, 0, 540], [0, 900, 960], [0, 0, 1]])
    about_y = [Rotation.from_euler("y", angle, degrees=True).as_matrix() for angle in (0, 80, 170, 260)]
    distortion = np.array([-0.05, 0.1, 0.001, 0.0])
    return [real_frames.Camera(K, distortion, R, np.array([0, 0, 3.0])) for R in about_y]


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).uniform(-0.8, 0.8, (17, 3))


def _seen(cameras, points):
    return np.stack(
        [cv2.projectPoints(points, cv2.Rodrigues(c.R)[0], c.t, c.K, c.distortion)[0][:, 0] for c in cameras]
    )


def test_points_that_all_views_see_are_found(cameras, points):
    found = real_frames.triangulate(cameras, _seen(cameras, points), np.ones((4, 17)))
    np.testing.assert_allclose(found, points, atol=1e-5)


def test_views_that_do_not_see_a_joint_do_not_count(cameras, points):
    keypoints, confidence = _seen(cameras, points), np.ones((4, 17))
    keypoints[0, 3], confidence[0, 3] = (5.0, 5.0), 0.1
    confidence[1:, 4] = 0.1
    found = real_frames.triangulate(cameras, keypoints, confidence)
    np.testing.assert_allclose(found[3], points[3], atol=1e-5)
    assert np.isnan(found[4]).all() and np.isfinite(found[np.arange(17) != 4]).all()


def test_the_calibration_gives_pixels_and_a_camera_that_looks_forward(tmp_path):
    path = tmp_path / "Calib.qca.txt"
    path.write_text(CALIBRATION, encoding="utf-8")
    (camera,) = real_frames.read_cameras(path)
    np.testing.assert_allclose(camera.K, [[1000, 0, 500], [0, 1020, 900], [0, 0, 1]])
    np.testing.assert_allclose(camera.R @ np.array([0.1, -2.0, 1.5]) + camera.t, 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(camera.R), 1)
    np.testing.assert_allclose(camera.distortion, [-0.05, 0.1, 0.001, 0])
    for text in ("no xml", "<a><camera/></a>"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="no Qualisys calibration"):
            real_frames.read_cameras(path)


@pytest.mark.slow
def test_the_error_is_that_of_the_best_body_around_the_middle_of_the_hips(points):
    body = np.zeros((24, 3))
    for index, name in enumerate(joints.J24):
        if name in joints.COCO17:
            body[index] = points[joints.COCO17.index(name)]
    moved = body + np.array([0.5, 0.2, 3.0])
    wrong = moved.copy()
    wrong[joints.J24.index("left_wrist")] += [0.12, 0, 0]
    mpjpe, re = real_frames.errors_mm(np.stack([wrong, moved]), points)
    assert mpjpe < 1e-3 and re < 1e-3
    mpjpe, _ = real_frames.errors_mm(wrong[None], points)
    np.testing.assert_allclose(mpjpe, 120 / 12, rtol=1e-4)
    hidden = points.copy()
    hidden[joints.COCO17.index("left_wrist")] = np.nan
    assert real_frames.errors_mm(wrong[None], hidden)[0] < 1e-3
    hidden[joints.COCO17.index("left_hip")] = np.nan
    assert np.isnan(real_frames.errors_mm(wrong[None], hidden)[0])
