"""A video of 30 made frames with a known motion: who is who, which body is which, gaps, smoothness, files, messages."""

import gc
import json
import weakref

import numpy as np
import pytest

from multibodies_jax.detection import DetectorMissing
from multibodies_jax.export import glb
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people, video, video_files
from multibodies_jax.tracking import frames
from tests.helpers import garbage, made_videos, moving_people
from tests.helpers.glb_reader import Glb


def _tables(folder):
    return [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]


def _walker(table):
    """Which of the walkers a table follows in all its frames, by where the middle of its keypoints is."""
    known = np.flatnonzero(~table["interpolated"])
    points = [table["keypoints"][at][table["keypoints"][at, :, 2] > 0, :2] for at in known]
    middle = np.array([(p.min(0) + p.max(0)) / 2 for p in points])
    far = [np.linalg.norm(middle - [moving_people.place(w, f) for f in table["frames"][known]], axis=1) for w in (0, 1)]
    nearer = np.argmin(far, axis=0)
    assert len(set(nearer.tolist())) == 1
    return int(nearer[0])


@pytest.fixture(scope="module")
def crossing(tmp_path_factory):
    """Two walkers who cross; the second is hidden for three frames where they meet."""
    folder = tmp_path_factory.mktemp("crossing")
    clip = moving_people.video(folder / "clip.mp4")
    hidden = {14: (1,), 15: (1,), 16: (1,)}
    model = moving_people.Model(noise=0.08)
    detector = moving_people.Detector(hidden)
    assert video.predict_video(model, clip, folder / "out", n=2, focal_px=400.0, detector=detector) == 0
    return folder / "out", model


@pytest.mark.slow
def test_two_people_who_cross_keep_their_identity(crossing):
    out, model = crossing
    tables = _tables(out)
    assert sorted(_walker(table) for table in tables) == [0, 1]
    assert [int(table["person"]) for table in tables] == [0, 1]
    assert all(table["frames"].tolist() == list(range(30)) for table in tables)
    np.testing.assert_allclose(tables[0]["seconds"], np.arange(30) / moving_people.FPS, atol=1e-5)
    assert {index for _, index in model.seen} == {0, 1} and len(model.seen) == 57


@pytest.mark.slow
def test_bodies_keep_their_explanation_and_the_probabilities_are_those_of_the_modes(crossing):
    for table in _tables(crossing[0]):
        swing = moving_people.swing_rad(_walker(table), table["seconds"])
        offset = moving_people.arm_rad(table["rotmats"]) - swing[:, None]
        # The most probable body has the arm in front, the other behind, in every frame.
        np.testing.assert_allclose(offset, np.tile([1.0, -1.0], (30, 1)) * moving_people.MODE_RAD, atol=0.2)
        np.testing.assert_allclose(table["probabilities"], np.tile([0.75, 0.25], (30, 1)), atol=0.02)
        assert table["rotmats"].shape == (30, 2, 24, 3, 3) and table["betas"].shape == (2, 10)
        np.testing.assert_allclose(np.linalg.det(table["rotmats"]), 1, atol=1e-5)


@pytest.mark.slow
def test_smoothing_takes_the_jitter_of_the_known_motion_away_without_lag(crossing):
    for table in _tables(crossing[0]):
        walker = _walker(table)
        angle = moving_people.arm_rad(table["rotmats"][:, 0]) - moving_people.MODE_RAD
        inner, truth = slice(4, -4), moving_people.swing_rad(walker, table["seconds"])
        error, jitter = (angle - truth)[inner], np.diff(angle - truth, n=2)[inner]
        # A hypothesis of each frame alone: noise of 0.08 rad, and 0.08 x sqrt(6) in the second difference.
        assert error.std() < 0.6 * 0.08 and np.abs(jitter).mean() < 0.2 * 0.08 * np.sqrt(6) * 0.8
        lags = np.linspace(-0.1, 0.1, 41)
        residual = [
            np.square(angle - moving_people.swing_rad(walker, table["seconds"] - lag))[inner].mean() for lag in lags
        ]
        assert abs(lags[int(np.argmin(residual))]) <= 0.02  # Seconds: half a frame.


@pytest.mark.slow
def test_a_missing_detection_is_bridged_and_marked(crossing):
    table = next(table for table in _tables(crossing[0]) if _walker(table) == 1)
    assert np.flatnonzero(table["interpolated"]).tolist() == [14, 15, 16]
    assert (table["hypothesis"][14:17] == -1).all() and (table["hypothesis"][:14] >= 0).all()
    assert np.isnan(table["error_px"][14:17]).all() and np.isfinite(table["error_px"][:14]).all()
    # The root goes on to the left, in equal steps.
    projected = table["joints24"].mean(axis=(1, 2))
    pixels = 400 * projected[:, 0] / projected[:, 2]
    np.testing.assert_allclose(np.diff(pixels), -6.5, atol=2.5)


@pytest.mark.slow
def test_the_tables_are_what_the_meanings_say(crossing):
    for table in _tables(crossing[0]):
        assert set(table) == set(video_files.MEANINGS)
        assert table["focal_px"] == 400 and table["focal_source"] == "given"
        assert (str(table["body"]), str(table["video"])) == ("a random body", "clip.mp4")
        assert table["joint_names"].tolist() == list(joints.J24)
        assert all(
            np.isfinite(value).all() for name, value in table.items() if value.dtype.kind == "f" and name != "error_px"
        )


@pytest.mark.slow
def test_the_glb_moves_as_the_table_says(crossing):
    out, _ = crossing
    table, file = _tables(out)[0], Glb((out / "clip_0.glb").read_bytes())
    names = [animation["name"] for animation in file.json["animations"]]
    assert names == ["person_0_body_0", "person_0_body_1"]
    times = file.array(file.json["animations"][0]["samplers"][0]["input"])
    np.testing.assert_allclose(times, np.arange(30) / moving_people.FPS, atol=1e-5)
    made = video_files.make_scene(table, moving_people.files()[0], np.zeros(24))
    for rank, frame in ((0, 0), (1, 21)):
        shown = file.vertices(f"person_0_body_{rank}_mesh", f"person_0_body_{rank}", frame)
        body = made.people[0].bodies[rank]
        assert body.motion is not None
        moved = video_files.scene.skin(
            body.rest_vertices + body.correctives, body.rest_joints, body.motion.rotations[frame], made.skinning
        )
        expected = (moved + body.motion.translation[frame]) * (1, -1, -1)
        np.testing.assert_allclose(shown, expected, atol=1e-4)
    assert glb.encode(made)[:4] == b"glTF"
    assert sorted(path.name for path in out.glob("*.bvh")) == [f"clip_{k}_body_{r}.bvh" for k in (0, 1) for r in (0, 1)]
    assert "Frames: 30\nFrame Time: 0.04000000" in (out / "clip_0_body_0.bvh").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_overlay_has_a_panel_for_each_rank_and_the_length_of_the_video(crossing):
    made = frames.inspect(crossing[0] / "clip_overlay.mp4")
    assert made.size == (2 * 320, 240) and made.frames_per_second == moving_people.FPS
    plain = made_videos.counted(30, moving_people.SIZE)
    drawn = 0
    for frame in frames.frames(made):
        panels = np.split(frame.image.astype(float), 2, axis=1)
        assert abs(np.median(panels[0][-8:, -8:]) - np.median(plain[frame.number][-8:, -8:])) < 7
        drawn += all(np.abs(panel - plain[frame.number]).max() > 60 for panel in panels)
    assert frame.number == 29 and drawn == 30
    assert not [path for path in crossing[0].iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_no_image_is_kept(tmp_path):
    clip, images, most = moving_people.video(tmp_path / "clip.mp4", frames=12), [], []
    detect = moving_people.Detector(walkers=1)

    def detector(image):
        images.append(weakref.ref(image))
        gc.collect()
        most.append(sum(one() is not None for one in images))
        return detect(image)

    with garbage.only_new():
        assert video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=2, detector=detector) == 0
    assert len(most) == 12 and max(most) <= 2


@pytest.mark.slow
def test_a_variable_rate_keeps_its_times_and_files_have_a_constant_one(tmp_path):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=13)
    unit = made_videos.time_scale(clip) / moving_people.FPS
    made_videos.vary_rate(clip, [round(unit * step) for step in (1, 1, 1, 3, 1, 1, 1, 3, 1, 1, 1, 1, 1)])
    model, detector = moving_people.Model(), moving_people.Detector(walkers=1)
    assert video.predict_video(model, clip, tmp_path / "out", n=1, detector=detector) == 0
    (table,) = _tables(tmp_path / "out")
    expected = np.array([0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 16]) / moving_people.FPS
    np.testing.assert_allclose(table["seconds"], expected, atol=1e-4)
    assert table["frames_per_second"] == pytest.approx(12 / expected[-1])
    assert not table["interpolated"].any()
    file = Glb((tmp_path / "out" / "clip_0.glb").read_bytes())
    times = file.array(file.json["animations"][0]["samplers"][0]["input"])
    np.testing.assert_allclose(times, np.arange(13) * expected[-1] / 12, atol=1e-5)
    assert sum(1 for _ in frames.frames(frames.inspect(tmp_path / "out" / "clip_overlay.mp4"))) == 13


@pytest.mark.slow
def test_the_overlay_shows_each_frame_as_long_as_the_video_does(tmp_path):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=8)
    unit = made_videos.time_scale(clip) / moving_people.FPS
    made_videos.vary_rate(clip, [round(unit * step) for step in (1, 1, 1, 12, 1, 1, 1, 1)])
    detector = moving_people.Detector(walkers=1)
    assert video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=1, detector=detector) == 0
    overlay = frames.inspect(tmp_path / "out" / "clip_overlay.mp4")
    shown = [float(np.median(frame.image[-8:, -8:])) for frame in frames.frames(overlay)]
    # At 7 / 18 of the rate, the fourth frame is on screen for five of eight ticks.
    expected = [20 + 7 * number for number in (1, 3, 3, 3, 3, 3, 5, 7)]
    np.testing.assert_allclose(shown, expected, atol=6)


@pytest.mark.slow
def test_people_of_a_file_and_a_broken_frame(tmp_path, capsys):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=12)
    detect, images, annotations = moving_people.Detector(walkers=1), [], []
    for frame, image in enumerate(made_videos.counted(12, moving_people.SIZE)):
        (found,) = detect(image)
        images.append({"id": frame, "file_name": f"clip_{frame:06d}.png", "width": 320, "height": 240})
        keypoints = np.column_stack([found.keypoints, np.full(17, 2)]).ravel().tolist()
        annotations.append({"image_id": frame, "category_id": 1, "keypoints": keypoints, "bbox": list(found.box)})
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}), encoding="utf-8")
    model = moving_people.Model(broken=(5, 6))
    assert video.predict_video(model, clip, tmp_path / "out", n=2, people_path=file) == 0
    (table,) = _tables(tmp_path / "out")
    assert np.flatnonzero(table["interpolated"]).tolist() == [5, 6] and _walker(table) == 0
    said = capsys.readouterr()
    assert "track 0: 2 frames are not used (frame 5: this frame is broken)" in said.err
    assert "clip_0: frames 0 to 11, 2 bridged (5-6)" in said.out and "focal length" in said.out


def _instances(frame, image):
    """What MMPose would write of the walkers in a frame."""
    found = moving_people.Detector(walkers=1)(image)
    its = [{"keypoints": one.keypoints.tolist(), "keypoint_scores": [0.9] * 17} for one in found]
    return {"frame_id": frame, "instances": its}


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_people_of_mmpose_are_in_their_frames(tmp_path, capsys, first):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=6)
    frames_ = [_instances(k + first, image) for k, image in enumerate(made_videos.counted(6, moving_people.SIZE))]
    file = tmp_path / "results_clip.json"
    file.write_text(json.dumps({"meta_info": {}, "instance_info": frames_} if first else frames_), encoding="utf-8")
    assert video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=1, people_path=file) == 0
    (table,) = _tables(tmp_path / "out")
    assert table["frames"].tolist() == list(range(6)) and not table["interpolated"].any()
    points = table["keypoints"][:, :, :2].mean(axis=1) - table["keypoints"][0, :, :2].mean(axis=0)
    np.testing.assert_allclose(np.diff(points[:, 0]), 6.5 * (table["keypoints"][0, :, 2] > 0).mean(), atol=1e-3)
    assert ("counts the frames from 1" in capsys.readouterr().err) == bool(first)


@pytest.mark.slow
def test_entries_that_cannot_be_used_and_frames_beyond_the_end_are_counted_and_named(tmp_path, capsys):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=6)
    frames_ = [_instances(k, image) for k, image in enumerate(made_videos.counted(9, moving_people.SIZE))]
    for k in range(6):
        frames_[k]["instances"].append({"keypoints": "x"})
    frames_.append({"frame_id": "x", "instances": []})
    file = tmp_path / "people.json"
    file.write_text(json.dumps(frames_), encoding="utf-8")
    arguments = moving_people.Model(), clip, tmp_path / "out", 1, None, True, None, file
    assert video.predict_video(*arguments) == 7 + 3
    told = capsys.readouterr().err
    assert told.count("skipped ") == 5 + 1 + 1 and "skipped 2 more entries of" in told
    assert "skipped 3 people whom the people file lists in 3 frames at or beyond the end of clip.mp4" in told
    assert "numbers 0 to 5, the file has 6-8" in told
    assert (
        video.predict_video(*arguments, people.read_people(file)) == 6 + 3
    )  # The caller tells the one without a frame.


@pytest.mark.slow
def test_people_of_an_earlier_prediction_of_the_video_do_not_stay(tmp_path, capsys):
    clip, out = moving_people.video(tmp_path / "clip.mp4", frames=6), tmp_path / "out"
    assert video.predict_video(moving_people.Model(), clip, out, n=2, detector=moving_people.Detector()) == 0
    (out / "clip_1.txt").touch()
    assert video.predict_video(moving_people.Model(), clip, out, n=1, detector=moving_people.Detector(walkers=1)) == 0
    left = ["clip_0.glb", "clip_0.npz", "clip_0_body_0.bvh", "clip_1.txt", "clip_overlay.mp4"]
    assert sorted(path.name for path in out.iterdir()) == left
    gone = "clip_0_body_1.bvh, clip_1.glb, clip_1.npz, clip_1_body_0.bvh, clip_1_body_1.bvh"
    assert f"as the new prediction has none of these: {gone}" in capsys.readouterr().err


@pytest.mark.slow
def test_an_overlay_that_cannot_be_written_does_not_take_the_people_with_it(tmp_path, capsys, monkeypatch):
    def fail(path, *_):
        raise frames.VideoError(f"{path}: OpenCV cannot write it.")

    monkeypatch.setattr(video_files, "write_overlay", fail)
    clip = moving_people.video(tmp_path / "clip.mp4", frames=6)
    detector = moving_people.Detector(walkers=1)
    assert video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=1, detector=detector) == 0
    said = capsys.readouterr()
    assert "The people of clip.mp4 are written; only the overlay is missing: " in said.err
    assert "1 people in 6 frames written" in said.out and "clip_overlay" not in said.out
    assert len(_tables(tmp_path / "out")) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "names, sizes, message",
    [
        (["clip.png"], [(320, 240)], "end in the number of the frame"),
        (["a_1.png", "b_01.png"], [(320, 240)] * 2, "two images are of frame 1"),
        (["a_1.png"], [(240, 320)], "another video"),
    ],
)
def test_a_people_file_of_something_else_is_refused(tmp_path, names, sizes, message):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=2)
    images = [
        {"id": k, "file_name": name, "width": w, "height": h}
        for k, (name, (w, h)) in enumerate(zip(names, sizes, strict=True))
    ]
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"images": images, "annotations": []}), encoding="utf-8")
    with pytest.raises(people.PeopleError, match=message):
        video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=2, people_path=file)


@pytest.mark.slow
def test_whoever_is_seen_too_shortly_and_an_empty_video_are_named(tmp_path, capsys):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=10)
    hidden = {frame: (1,) for frame in range(3, 10)}
    detector = moving_people.Detector(hidden)
    assert video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=2, detector=detector) == 1
    assert "seen in 3 frames; 5 or more count as a person" in capsys.readouterr().err
    (table,) = _tables(tmp_path / "out")
    assert _walker(table) == 0
    nobody = moving_people.Detector(walkers=0)
    assert video.predict_video(moving_people.Model(), clip, tmp_path / "empty", n=2, detector=nobody) == 1
    assert "nobody is followed in its 10 frames" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.slow
def test_a_video_of_one_frame_has_its_bodies(tmp_path):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=1)
    detector = moving_people.Detector(walkers=1)
    assert video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=2, detector=detector) == 0
    (table,) = _tables(tmp_path / "out")
    assert table["frames"].tolist() == [0] and table["frames_per_second"] == moving_people.FPS
    assert len(Glb((tmp_path / "out" / "clip_0.glb").read_bytes()).json["animations"]) == 2


@pytest.mark.slow
def test_a_video_that_ends_early_is_said(tmp_path, capsys):
    clip = moving_people.video(tmp_path / "clip.avi", frames=24, codec="MJPG")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    detector = moving_people.Detector(walkers=1)
    assert video.predict_video(moving_people.Model(), clip, tmp_path / "out", n=1, detector=detector) == 0
    (table,) = _tables(tmp_path / "out")
    assert f"clip.avi ends after frame {table['frames'][-1]} of 24" in capsys.readouterr().err


def test_wrong_input_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=2)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="--n=13; choose 1 to 12"):
        video.predict_video(moving_people.Model(), clip, out, n=13, detector=moving_people.Detector())
    with pytest.raises(frames.VideoError, match="is not there"):
        video.predict_video(moving_people.Model(), tmp_path / "other.mp4", out, n=2, detector=moving_people.Detector())
    with pytest.raises(ValueError, match="focal length of 1 px"):
        video.predict_video(moving_people.Model(), clip, out, n=2, focal_px=1, detector=moving_people.Detector())
    monkeypatch.setenv("MULTIBODIES_CACHE", str(tmp_path / "no-cache"))
    with pytest.raises(DetectorMissing):
        video.predict_video(moving_people.Model(), clip, out, n=2)
    assert not out.exists()


@pytest.mark.slow
def test_frames_with_implausible_bodies_are_counted_and_named(tmp_path, capsys):
    clip = moving_people.video(tmp_path / "clip.mp4", frames=6)
    model, detector = moving_people.Model(scale=9.0), moving_people.Detector(walkers=1)
    assert video.predict_video(model, clip, tmp_path / "out", n=2, focal_px=400.0, detector=detector) == 0
    said = capsys.readouterr().err
    assert "track 0: 6 frames are implausible (frame 0: Of the 2 bodies, 0, 1 are several times" in said
