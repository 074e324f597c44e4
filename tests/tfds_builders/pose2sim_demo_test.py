"""Real frames from a made-up wheel: made cameras see made points, which have to come back, and what is wrong is named."""

import itertools
import zipfile

import numpy as np
import pytest

import tfds_builders
from multibodies_jax import detection, io
from multibodies_jax.geometry import joints
from tests.helpers import made_videos, pose2sim_fixture, training_checks
from tfds_builders import building
from tfds_builders.pose2sim_demo import pose2sim_demo_dataset_builder
from tfds_builders.sources import pose2sim, video

no_workers = pytest.fixture(autouse=True)(training_checks.no_workers)

FRAMES, SIZE = 3, (240, 320)
PLACES = joints.index_map(joints.COCO17, joints.J24)
CAMERAS = pose2sim.read_cameras(pose2sim_fixture.calibration())
POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (FRAMES, 17, 3)) * [1, 1, 1.6]


def _seen(camera, points):
    return CAMERAS[camera].pixels(points)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The folder of a made-up wheel, whose frames get brighter."""
    (tmp_path / "archive").mkdir()
    path = tmp_path / "archive" / pose2sim.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Pose2Sim/Demo_SinglePerson/calibration/Calib.qca.txt", pose2sim_fixture.calibration())
        for name in pose2sim.CAMERAS:
            clip = made_videos.write(tmp_path / "clip.mp4", made_videos.counted(FRAMES, SIZE))
            archive.write(clip, f"Pose2Sim/Demo_SinglePerson/videos/{name}.mp4")
    monkeypatch.setattr(pose2sim, "FRAMES", FRAMES)
    monkeypatch.setattr(pose2sim, "SHA256", io.sha256_of_file(path))
    monkeypatch.setattr(detection, "load", lambda: _detector())
    return path.parent


def _detector(change=lambda frame, camera, found: [found], skipped=None):
    """Sees the points of the frames in their order, camera after camera; and a smaller passer-by before him."""
    calls = iter([call for call in itertools.product(range(FRAMES), range(4)) if call != skipped])

    def detect(image):
        frame, camera = next(calls)
        assert made_videos.number(image) == frame
        keypoints = _seen(camera, POINTS[frame]).astype(np.float32)
        man = detection.Detection(keypoints, np.full(17, 0.9, np.float32), (40.0, 20.0, 150.0, 280.0), 0.9)
        passer_by = detection.Detection(keypoints + 50, man.confidence, (0.0, 0.0, 20.0, 60.0), 0.9)
        return [*([passer_by] if frame == 0 else []), *change(frame, camera, man)]

    return detect


def test_points_come_back_with_their_cameras(wheel):
    rows, report = training_checks.build("pose2sim_demo", wheel)
    assert list(rows) == ["test"] and len(rows["test"]) == 4 * FRAMES and "skipped" not in report
    for row, (frame, camera) in zip(rows["test"], itertools.product(range(FRAMES), range(4)), strict=True):
        assert row["example_id"].decode() == f"pose2sim_demo/test/cam0{camera + 1}/{frame:06d}"
        its, known = CAMERAS[camera], PLACES >= 0
        expected = (POINTS[frame] @ its.R.T + its.t)[PLACES[known]]
        np.testing.assert_allclose(row["joints3d"][known], expected, atol=1e-3)
        np.testing.assert_array_equal(row["joints3d_valid"], known)
        np.testing.assert_allclose(row["kp2d"][known], _seen(camera, POINTS[frame])[PLACES[known]], atol=1e-3)
        np.testing.assert_array_equal(row["kp2d_input"], row["kp2d_valid"])
        np.testing.assert_allclose(row["intrinsics"], its.K)
        assert row["view"] == camera and made_videos.number(row["image"]) == frame
        R, t = np.split(row["views_world_to_camera"][2], [3], axis=1)
        np.testing.assert_allclose(
            POINTS[frame] @ R.T + t[:, 0], POINTS[frame] @ CAMERAS[2].R.T + CAMERAS[2].t, atol=1e-5
        )
        np.testing.assert_allclose(row["views_kp2d"][2][known], _seen(2, POINTS[frame])[PLACES[known]], atol=1e-3)
        assert (row["num_views"][known] == 4).all() and row["residual_px"].max() < 0.01


def test_ambiguous_frames_hide_keypoints_and_keep_their_truth(wheel):
    rows, _ = training_checks.build("pose2sim_demo/ambiguous", wheel, seed=1)
    names = {0: "none", 1: "legs", 2: "arms_head", 3: "head"}
    assert {names[row["occlusion"]] for row in rows["test"]} > {"legs"}
    for row in rows["test"]:
        hidden = (row["kp2d_valid"] > 0) & (row["kp2d_input"] == 0)
        assert hidden.any() == (row["occlusion"] > 0) and row["joints3d_valid"][hidden].all()
        np.testing.assert_array_equal(row["views_kp2d_valid"][row["view"]], row["kp2d_valid"])
        assert row["box_scale"] <= row["box_scale_full"] + 1e-6


def test_who_is_not_seen_is_named_and_the_other_views_are_used(wheel, monkeypatch):
    def change(frame, camera, man):
        if (frame, camera) == (1, 2) or (frame == 2 and camera > 0):
            return []
        return [man]

    monkeypatch.setattr(detection, "load", lambda: _detector(change))
    rows, report = training_checks.build("pose2sim_demo", wheel)
    assert len(rows["test"]) == 7 and "but the complete archive gives 12" in report
    assert "4 skipped: nobody detected (cam03 frame 1, cam02 frame 2, cam03 frame 2, ...)" in report
    assert "1 skipped: a limb joint without two good views (cam01 frame 2)" in report
    assert (rows["test"][4]["num_views"][PLACES >= 0] == 3).all() and not rows["test"][4]["views_kp2d_valid"][2].any()


def test_a_video_that_ends_early_is_counted(wheel, monkeypatch):
    monkeypatch.setattr(pose2sim, "FRAMES", FRAMES + 1)
    _, report = training_checks.build("pose2sim_demo", wheel)
    assert "4 skipped: a frame that the video lacks (cam01 frame 3, cam02 frame 3, cam03 frame 3, ...)" in report


def test_a_frame_that_cannot_be_decoded_shifts_no_other(wheel, monkeypatch):
    frames = video.frames

    def damaged(path, wanted):
        return (pair for pair in frames(path, wanted) if (path.name, pair[0]) != ("cam02.mp4", 1))

    monkeypatch.setattr(video, "frames", damaged)
    monkeypatch.setattr(detection, "load", lambda: _detector(skipped=(1, 1)))
    rows, report = training_checks.build("pose2sim_demo", wheel)
    assert len(rows["test"]) == 11 and "1 skipped: a frame that the video lacks (cam02 frame 1)" in report


def test_another_wheel_a_missing_camera_and_a_missing_detector_are_named(wheel, monkeypatch):
    def build():
        tfds_builders.build("pose2sim_demo", wheel.parent / "data", manual_dir=wheel)

    def missing():
        raise detection.DetectorMissing("Type `multibodies fetch detector`.")

    with monkeypatch.context() as patch, pytest.raises(building.BuildError, match="fetch detector"):
        patch.setattr(detection, "load", missing)
        build()
    with monkeypatch.context() as patch, pytest.raises(building.BuildError, match=r"SHA-256 .* and 0000 was expected"):
        patch.setattr(pose2sim, "SHA256", "0000")
        build()
    for gone, message in (("cam03.mp4", "there is no .*videos/cam03.mp4 in it"), ("Calib.qca.txt", "lacks cam04")):
        with monkeypatch.context() as patch, pytest.raises(building.BuildError, match=message):
            patch.setattr(pose2sim, "SHA256", _without(wheel / pose2sim.WHEEL, gone))
            build()
    (wheel / pose2sim.WHEEL).rename(wheel / "pose2sim-0.10.50-py3-none-any.whl")
    with pytest.raises(
        building.BuildError, match=r"(?s)there is no pose2sim-0.10.49-.*Found there:\n  pose2sim-0.10.50-"
    ):
        build()


def _without(path, gone):
    """Takes a video out of the wheel, or a camera out of its calibration; the new SHA-256."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            if not name.endswith(gone):
                archive.writestr(name, value)
            elif gone.endswith(".txt"):
                archive.writestr(name, pose2sim_fixture.calibration((1, 2, 3)))
            else:
                archive.writestr(f"{name}.old", value)
    return io.sha256_of_file(path)


def test_points_that_all_views_see_are_found_and_a_wrong_view_is_left_out():
    keypoints = np.stack([_seen(camera, POINTS[0]) for camera in range(4)])
    confidence = np.ones((4, 17))
    keypoints[0, 3] += (70, -50)  # Far off: on another part of the body.
    keypoints[0, 5], confidence[0, 5] = (5.0, 5.0), 0.1
    confidence[1:, 4] = 0.1
    found = pose2sim.triangulate(CAMERAS, keypoints, confidence)
    good = [k for k in range(17) if k != 4]
    np.testing.assert_allclose(found.points[good], POINTS[0][good], atol=1e-5)
    assert found.used[:, 3].tolist() == found.used[:, 5].tolist() == [False, True, True, True]
    assert np.isnan(found.points[4]).all() and not found.used[:, 4].any() and found.residual_px.max() < 1e-3


def test_two_views_that_do_not_agree_give_no_point():
    keypoints = np.stack([_seen(camera, POINTS[0]) for camera in (0, 1)])
    keypoints[0, 2] += (0, 90)
    found = pose2sim.triangulate(CAMERAS[:2], keypoints, np.ones((2, 17)))
    assert np.isnan(found.points[2]).all() and np.isfinite(found.points[3]).all()


def test_the_calibration_gives_pixels_and_a_camera_that_looks_forward():
    camera = CAMERAS[0]
    np.testing.assert_allclose(camera.K, [[200, 0, 120], [0, 200, 160], [0, 0, 1]])
    np.testing.assert_allclose(camera.R @ np.array([0, 3.0, 0]) + camera.t, 0, atol=1e-9)
    np.testing.assert_allclose(camera.R @ np.zeros(3) + camera.t, [0, 0, 3], atol=1e-9)
    assert np.linalg.det(camera.R) == pytest.approx(1) and camera.distortion.tolist() == [-0.05, 0.1, 0.001, 0]
    above = camera.pixels(np.array([[0, 0, 0.5], [0.0, 0, 0]]))
    assert above[0, 1] < above[1, 1]  # Up in the world is up in the image.
    for text in (b"no xml", b"<a><camera/></a>"):
        with pytest.raises(ValueError, match="the calibration is none of Qualisys"):
            pose2sim.read_cameras(text)
    with pytest.raises(ValueError, match=r"has numbers of cam03 that are not finite"):
        pose2sim.read_cameras(
            pose2sim_fixture.calibration().replace(
                b'serial="cam03"><transform r11="', b'serial="cam03"><transform r11="nan" r1="'
            )
        )


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="seed must be within"):
        pose2sim_demo_dataset_builder.Options(seed=-1)
    with pytest.raises(ValueError, match="store=path needs image files"):
        pose2sim_demo_dataset_builder.Options(store="path")
