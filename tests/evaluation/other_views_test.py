"""Bodies in cameras that the model did not see, against OpenCV's projection."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.data import pipeline
from multibodies_jax.evaluation import lenses, other_views
from multibodies_jax.geometry import joints

C = 4
HIPS = list(joints.MIDHIP_J24)


@pytest.fixture(scope="module")
def record():
    """An example of camera 1 of four that see points from a quarter turn each; camera 3 misses a knee."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.6, 0.6, (24, 3))
    R = np.stack([Rotation.from_euler("yx", [90 * k, 10], degrees=True).as_matrix() for k in range(C)])
    t = np.tile([0.2, -0.1, 3.5], (C, 1)) + rng.normal(0, 0.1, (C, 3))
    K = np.tile(np.array([[900.0, 0, 500], [0, 910, 620], [0, 0, 1]]), (C, 1, 1))
    distortion = np.tile([-0.05, 0.1, 0.001, -0.002], (C, 1))
    kp2d = np.stack(
        [cv2.projectPoints(points, cv2.Rodrigues(R[k])[0], t[k], K[k], distortion[k])[0][:, 0] for k in range(C)]
    )
    valid = np.ones((C, 24))
    valid[3, joints.J24.index("left_knee")] = 0
    kp2d[3, joints.J24.index("left_knee")] = 0
    kp2d[2, joints.J24.index("nose")] += 500  # No limb: it does not count.
    values = {
        "view": np.int32(1),
        "views_world_to_camera": np.concatenate([R, t[..., None]], axis=2),
        **{"views_intrinsics": K, "views_distortion": distortion, "views_kp2d": kp2d, "views_kp2d_valid": valid},
        "views_box_scale": np.array([2.0, 1.0, 4.0, 3.0]),
        "joints3d": points @ R[1].T + t[1],
        **{"intrinsics": K[1], "intrinsics_valid": np.float32(1), "box_center": np.array([430.0, 700.0])},
        "box_scale": np.float32(3.0),
    }
    return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in values.items()}


def views_of(record):
    rows = pipeline.collate([other_views.row(record) | lenses.row(record)])
    views, lens = other_views.of_rows(rows), lenses.of_rows(rows)
    assert views is not None and lens is not None
    return jax.tree.map(jnp.asarray, views), lens


def seen_by_crop(record, lens):
    """The true joints, mid-hip centred, in the frame of the crop's camera."""
    centred = record["joints3d"] - record["joints3d"][HIPS].mean(axis=0)
    return centred @ np.asarray(lens.turn[0])


def error(record, points):
    views, lens = views_of(record)
    return float(
        other_views.error_px(jnp.asarray(points[None, None], jnp.float32), jnp.asarray(lens.turn), views)[0, 0]
    )


@pytest.mark.slow
def test_the_truth_is_where_the_other_cameras_see_it(record):
    _, lens = views_of(record)
    assert error(record, seen_by_crop(record, lens)) < 0.01


@pytest.mark.slow
def test_a_joint_that_is_off_counts_in_the_pixels_of_each_view(record):
    views, lens = views_of(record)
    points, wrist = seen_by_crop(record, lens), joints.J24.index("left_wrist")
    points[wrist] += (0.1, 0.0, 0.3)
    own = points @ np.asarray(lens.turn[0]).T + record["joints3d"][HIPS].mean(axis=0)
    R, t = np.split(record["views_world_to_camera"].astype(np.float64), [3], axis=2)
    world = (own - t[1, :, 0]) @ R[1]
    total, count = 0.0, 0
    for k in (0, 2, 3):
        shown = cv2.projectPoints(
            world,
            cv2.Rodrigues(R[k])[0],
            t[k],
            record["views_intrinsics"][k].astype(float),
            record["views_distortion"][k],
        )[0][:, 0]
        seen = [j for j in range(12) if record["views_kp2d_valid"][k, j] > 0]
        scale = 224 / (200 * record["views_box_scale"][k])
        total += scale * np.linalg.norm(shown[seen] - record["views_kp2d"][k, seen], axis=1).sum()
        count += len(seen)
    assert count == 35 and views.valid.sum() == 35
    assert error(record, points) == pytest.approx(total / count, rel=1e-3) and total / count > 0.2


def test_sets_of_one_camera_have_no_other_views():
    assert other_views.row({"joints3d": np.zeros((24, 3))}) == {} and other_views.of_rows({}) is None
