"""Human3.6M from files in the official formats, against values computed from the same raw numbers."""

import dataclasses
import pathlib
import pickle
import shutil
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import tfds_builders
from configs import eval_h36m, h36m_hmr
from multibodies_jax.data import sources
from multibodies_jax.evaluation import batches
from multibodies_jax.training import config_checks, setup, training_data
from tests.helpers import h36m_fixture, macos, small_sets
from tfds_builders import archives, verification, workers
from tfds_builders.h36m import archive, h36m_dataset_builder, metadata, recorded

# docs of the dataset: J24 and the index of each in the skeleton of 32.
J24_FROM_32 = {
    0: 3,
    1: 2,
    2: 1,
    3: 6,
    4: 7,
    5: 8,
    6: 27,
    7: 26,
    8: 25,
    9: 17,
    10: 18,
    11: 19,
    12: 24,
    14: 11,
    16: 12,
    17: 14,
    18: 15,
}


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setattr(workers, "pool", small_sets.in_process)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The archive, and what is in it."""
    root = tmp_path_factory.mktemp("h36m")
    return root, h36m_fixture.write(root)


@pytest.fixture
def copied(official, tmp_path):
    """A copy of the archive that a test may damage."""
    shutil.copytree(official[0], tmp_path / "archive")
    return tmp_path / "archive", official[1]


def build(root, data_dir, config="p2", **options):
    return tfds_builders.build(f"h36m/{config}", data_dir, manual_dir=root, **options)


def records(builder, split="test"):
    source = builder.as_data_source(split)
    return [source[i] for i in range(len(source))]


def ids(rows):
    return [row["example_id"].decode() for row in rows]


def frame_of(image):
    """The number of the frame that an image shows; video stores brightness from 16 to 235."""
    levels = np.array([h36m_fixture.brightness(i) for i in range(h36m_fixture.VIDEO_FRAMES)])
    return int(np.argmin(np.abs((levels - 16) * 255 / 219 - image.mean())))


def skipped(builder, split="test"):
    return {reason: count for reason, (count, _) in builder.info.metadata["skipped"][split].items()}


def metadata_of(builder) -> dict[str, Any]:
    """What the builder stored beside its examples."""
    return builder.info.metadata


# Protocols


def test_protocol_1_has_the_rows_of_spins_list_in_its_order(official, tmp_path):
    builder = build(official[0], tmp_path, "p1")
    rows = records(builder)
    recordings = [
        *("S9/Directions_1/54138969", "S9/Directions_1/60457274"),
        *("S11/Directions_1/54138969", "S11/Directions_1/60457274", "S11/Directions/60457274"),
    ]
    assert ids(rows) == [f"h36m/{name}/{frame:06d}" for name in recordings for frame in (0, 5)]
    assert {row["protocol_hint"] for row in rows} == {b"h36m_p1"}
    assert skipped(builder) == {"video known to be corrupt": 2}
    assert list(builder.info.splits) == ["test"]  # S8 is not there.
    assert skipped(builder, "validation") == {}


def test_protocol_2_is_the_front_camera(official, tmp_path):
    rows = records(build(official[0], tmp_path))
    assert len(rows) == 6 and all("/60457274/" in name for name in ids(rows))
    assert {row["protocol_hint"] for row in rows} == {b"h36m_p2"}


def test_training_sets_have_all_cameras_and_hold_a_subject_out_on_request(tmp_path):
    root = tmp_path / "archive"
    h36m_fixture.write(root, subjects=("S8", "S9"), cameras=h36m_fixture.CAMERAS)
    whole = build(root, tmp_path, "official")
    assert {name: split.num_examples for name, split in whole.info.splits.items()} == {
        "train": 8,
        "validation": 2,
        "test": 2,
    }
    assert set(ids(records(whole, "validation"))) < set(ids(records(whole, "train")))
    report = verification.verify(whole)
    assert report.passed and "        2 examples are in train and in validation" in report.lines, report.lines
    heldout = build(root, tmp_path, "heldout")
    assert set(heldout.info.splits) == {"validation", "test"}
    assert skipped(whole, "train") == {"a subject that the archive lacks, all its recordings": 4}
    assert skipped(whole, "test") == {"a subject that the archive lacks, all its recordings": 1}


def test_counts_of_the_complete_archive_are_expected_of_the_published_rule_only(tmp_path):
    def expected(name, **options):
        return tfds_builders.make_builder(f"h36m/{name}", tmp_path, **options).expected()

    assert expected("official") == {"train": 312_188, "validation": None, "test": 27_558}
    assert expected("heldout") == {"train": None, "validation": None, "test": 27_558}
    assert expected("p1") == {"validation": None, "test": 109_867}
    assert expected("p2") == {"validation": None, "test": 27_558}
    assert expected("spin") == {"train": 312_188, "validation": None, "test": 27_558}
    assert expected("spin_p1") == {"test": 109_867}
    assert expected("p2", frame_step=1)["test"] is expected("p2", h36m_cameras="54138969")["test"] is None


def test_frame_step_and_cameras_are_options_with_names(official, tmp_path):
    builder = build(official[0], tmp_path, frame_step=3, h36m_cameras="54138969")
    assert builder.info.config_name == "p2-step3-cameras54138969"
    rows = records(builder)
    assert [name.split("/")[3:] for name in ids(rows)] == [
        ["54138969", f"{i:06d}"] for _ in range(2) for i in (0, 3, 6)
    ]


# Values


def test_joints_are_those_of_the_pose_file_in_metres_and_project_to_the_keypoints(official, tmp_path):
    root, written = official
    for row in records(build(root, tmp_path, "p1")):
        _, subject, stem, camera, frame = row["example_id"].decode().split("/")
        raw, frame = written[subject, stem.replace("_", " "), camera], int(frame)
        lens = h36m_fixture.LENS[h36m_fixture.CAMERAS.index(camera)]
        for j in range(24):
            known = j in J24_FROM_32
            assert row["joints3d_valid"][j] == row["kp2d_valid"][j] == row["kp2d_input"][j] == known
            point = raw.mono[frame, J24_FROM_32[j]] if known else np.zeros(3)
            np.testing.assert_allclose(row["joints3d"][j], point / 1000, atol=1e-5)
            pixel = h36m_fixture.project(point, lens) if known else (0, 0)
            np.testing.assert_allclose(row["kp2d"][j], pixel, atol=1e-3)
        np.testing.assert_allclose(
            row["intrinsics"], [[lens[0], 0, lens[2]], [0, lens[1], lens[3]], [0, 0, 1]], rtol=1e-6
        )
        assert row["intrinsics_valid"] == 1 and row["smpl_valid"] == 0 and row["gender"] == -1


def test_the_crop_is_nine_tenths_of_the_box_and_the_window_is_its_part_of_the_frame(official, tmp_path):
    root, written = official
    for row in records(build(root, tmp_path)):
        _, subject, stem, camera, frame = row["example_id"].decode().split("/")
        x0, y0, x1, y1 = written[subject, stem.replace("_", " "), camera].boxes[int(frame)]
        np.testing.assert_allclose(row["box_center"], [(x0 + x1 + 1) / 2, (y0 + y1 + 1) / 2])
        np.testing.assert_allclose(row["box_scale"], 0.9 * max(x1 + 1 - x0, y1 + 1 - y0) / 200, rtol=1e-6)
        assert row["image_size"].tolist() == [h36m_fixture.WIDTH, h36m_fixture.HEIGHT]
        assert row["image"].shape == (row["window"][3], row["window"][2], 3)


@pytest.mark.parametrize("offset", [0, 1])
def test_frame_offset_shifts_the_images_of_evaluation_sets_only(offset, tmp_path):
    root = tmp_path / "archive"
    h36m_fixture.write(root, subjects=("S8", "S9"), cameras=("60457274",))
    builder = build(root, tmp_path, "official", frame_offset=offset)
    assert [frame_of(row["image"]) for row in records(builder)] == [offset, 5 + offset]
    assert [frame_of(row["image"]) for row in records(builder, "validation")] == [offset, 5 + offset]
    assert [frame_of(row["image"]) for row in records(builder, "train")] == [0, 5]
    assert metadata_of(builder)["frame_offset"] == offset


def test_sequences_with_shifted_ground_truth_are_flagged(official, tmp_path):
    assert recorded.is_drifted("h36m/S9/SittingDown_1/60457274/000005")
    assert recorded.is_drifted("h36m/S9/Greeting/54138969/000005")
    assert not recorded.is_drifted("h36m/S9/Greeting_1/60457274/000005")
    assert not recorded.is_drifted("h36m/S11/Greeting/60457274/000005")
    assert metadata_of(build(official[0], tmp_path))["drifted"] == ["S9/Greeting", "S9/SittingDown 1", "S9/Waiting 1"]


def test_a_built_set_verifies(official, tmp_path):
    report = verification.verify(build(official[0], tmp_path))
    assert report.passed, report.lines


@pytest.mark.parametrize("kind", ["fetched", "one folder more", "each in its own"])
def test_other_ways_of_unpacking_give_the_same_set(kind, official, tmp_path):
    if kind == "fetched":
        h36m_fixture.write(tmp_path / "archive", h36m_fixture.FETCHED)
    elif kind == "one folder more":
        shutil.copytree(official[0], tmp_path / "archive" / "h36m")
    else:
        shutil.copytree(official[0] / "S11", tmp_path / "archive" / "S11" / "S11")
        shutil.copytree(official[0] / "S9" / "Videos", tmp_path / "archive" / "S9" / "videos_tgz" / "S9" / "Videos")
        for part in ("MyPoseFeatures", "MySegmentsMat"):
            shutil.copytree(official[0] / "S9" / part, tmp_path / "archive" / "S9" / "S9" / part)
        shutil.copy(official[0] / "metadata.xml", tmp_path / "archive")
    macos.add(tmp_path / "archive")
    macos.add(tmp_path / "archive" / "S9")
    ours, theirs = records(build(tmp_path / "archive", tmp_path / "a")), records(build(official[0], tmp_path / "b"))
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


# SMPL parameters


@pytest.mark.parametrize("step", [1, 5])
def test_moshs_fits_are_turned_into_the_camera_frame(step, official, tmp_path):
    root, written = official
    h36m_fixture.write_mosh(tmp_path / "mosh", written, step)
    for row in records(build(root, tmp_path, h36m_fits=str(tmp_path / "mosh"))):
        _, subject, stem, camera, frame = row["example_id"].decode().split("/")
        R = written[subject, stem.replace("_", " "), camera].root[int(frame)]
        np.testing.assert_allclose(Rotation.from_rotvec(row["pose"][0]).as_matrix(), R, atol=1e-6)
        np.testing.assert_allclose(row["pose"][1:], 0.1, rtol=1e-6)
        np.testing.assert_allclose(row["betas"], np.arange(10))
        assert row["smpl_valid"] == 1


def test_neural_annots_fits_are_turned_from_the_world_into_every_camera(official, tmp_path):
    root, written = official
    h36m_fixture.write_neural_annot(tmp_path / "fits", written)
    for row in records(build(root, tmp_path, "p1", h36m_fits=str(tmp_path / "fits"))):
        _, subject, stem, camera, frame = row["example_id"].decode().split("/")
        R = written[subject, stem.replace("_", " "), camera].root[int(frame)]
        np.testing.assert_allclose(Rotation.from_rotvec(row["pose"][0]).as_matrix(), R, atol=1e-6)
        np.testing.assert_allclose(row["betas"], 0.5)
        assert row["smpl_valid"] == 1


@pytest.mark.parametrize("wrong", ["length", "camera", "absent"])
def test_fits_that_do_not_belong_to_the_poses_are_left_out_and_counted(wrong, official, tmp_path):
    root, written = official
    other = {"54138969": "60457274", "60457274": "54138969"}
    if wrong == "camera":  # Turned by 90 degrees.
        written = {(s, stem, camera): written[s, stem, other[camera]] for s, stem, camera in written}
    if wrong == "length":
        written = {key: dataclasses.replace(raw, root=np.tile(raw.root, (2, 1, 1))) for key, raw in written.items()}
    h36m_fixture.write_mosh(tmp_path / "mosh", {} if wrong == "absent" else written, step=1)
    (tmp_path / "mosh").mkdir(exist_ok=True)
    builder = build(root, tmp_path, h36m_fits=str(tmp_path / "mosh"))
    assert [float(row["smpl_valid"]) for row in records(builder)] == [0] * 6
    reason = {"length": "another length", "camera": "points elsewhere", "absent": "no SMPL fit"}[wrong]
    assert [count for text, count in skipped(builder).items() if reason in text] == [3]


# SPIN's lists


def write_lists(root, rows, train=False):
    """The list of protocol 2, images as SPIN extracts them, from the examples of the official archive."""
    (root / "images").mkdir(parents=True)
    names = []
    for row in rows:
        _, subject, stem, camera, frame = row["example_id"].decode().split("/")
        names.append(f"images/{subject}_{stem}.{camera}_{int(frame) + 1:06d}.jpg")
        image = np.full((h36m_fixture.HEIGHT, h36m_fixture.WIDTH, 3), h36m_fixture.brightness(int(frame)), np.uint8)
        cv2.imwrite(str(root / names[-1]), image)
    joints = np.stack([np.append(row["joints3d"], row["joints3d_valid"][:, None], axis=1) for row in rows])
    joints[..., :3] -= joints[:, 14:15, :3]
    joints[..., :3] *= joints[..., 3:]
    boxes = {"center": np.stack([r["box_center"] for r in rows]), "scale": np.array([r["box_scale"] for r in rows])}
    parts = {"part": np.stack([np.append(r["kp2d"], r["kp2d_valid"][:, None], axis=1) for r in rows])} if train else {}
    name = "h36m_train.npz" if train else "h36m_valid_protocol2.npz"
    np.savez(root / name, imgname=np.array(names), S=joints.astype(float), allow_pickle=False, **boxes, **parts)


def test_spins_lists_give_the_ids_boxes_and_joints_of_the_archive(official, tmp_path):
    ours = records(build(official[0], tmp_path))
    write_lists(tmp_path / "lists", ours)
    builder = build(tmp_path / "lists", tmp_path, "spin")
    theirs = records(builder)
    assert set(builder.info.splits) == {"test"} and ids(theirs) == ids(ours)
    for a, b in zip(ours, theirs, strict=True):
        valid = a["joints3d_valid"][:, None]
        centred = valid * (a["joints3d"] - a["joints3d"][14])
        np.testing.assert_allclose(b["joints3d"], centred, atol=1e-6)
        for key in ("box_center", "box_scale", "window", "image_size", "joints3d_valid", "protocol_hint"):
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
        assert b["intrinsics_valid"] == b["smpl_valid"] == b["kp2d_valid"].sum() == 0
        assert round((float(b["image"].mean()) - 16) / 24) == int(b["example_id"].decode()[-6:])


def test_spins_training_list_has_keypoints_fits_and_a_validation_of_s8(tmp_path):
    root = tmp_path / "archive"
    h36m_fixture.write(root, subjects=("S8", "S9"), cameras=h36m_fixture.CAMERAS)
    whole = build(root, tmp_path, "official")
    rows = [*records(whole, "train"), *records(whole, "test")]
    write_lists(tmp_path / "lists", rows[:8], train=True)
    write_lists(tmp_path / "more", rows[8:])
    shutil.copytree(tmp_path / "more", tmp_path / "lists", dirs_exist_ok=True)
    fits = np.random.default_rng(0).normal(size=(8, 82))
    np.save(tmp_path / "fits.npy", fits)
    builder = build(tmp_path / "lists", tmp_path, "spin", h36m_fits=str(tmp_path / "fits.npy"))
    train = records(builder, "train")
    assert ids(train) == ids(rows[:8])
    for i in range(8):
        np.testing.assert_allclose(train[i]["kp2d"], rows[i]["kp2d"], rtol=1e-6)
        np.testing.assert_allclose(train[i]["pose"].ravel(), fits[i, :72], rtol=1e-6)
    assert ids(records(builder, "validation")) == ids(records(whole, "validation"))
    assert [float(row["smpl_valid"]) for row in records(builder)] == [0, 0]


def test_lists_have_neither_steps_nor_offsets(official, tmp_path):
    with pytest.raises(tfds_builders.BuildError, match="are of the official archive"):
        build(official[0], tmp_path, "spin", frame_step=1)
    with pytest.raises(tfds_builders.BuildError, match=r"no h36m_valid_protocol1\.npz"):
        build(official[0], tmp_path, "spin_p1")


# Damage


def test_rows_without_a_box_or_a_frame_or_finite_joints_are_skipped_and_counted(copied, tmp_path):
    root, written = copied
    front = "Directions 1.60457274"
    raw = written["S9", "Directions 1", "60457274"]
    h36m_fixture.write_masks(root / "S9" / h36m_fixture.OFFICIAL["box"] / f"{front}.mat", [None, *raw.boxes[1:]])
    h36m_fixture.write_masks(
        root / "S11" / h36m_fixture.OFFICIAL["box"] / "Directions.60457274.mat", [(), *raw.boxes[1:]]
    )
    h36m_fixture.write_video(root / "S11" / "Videos" / f"{front}.mp4", 4)
    (root / "S11" / "Videos" / "Directions.60457274.mp4").write_bytes(b"damaged")
    mono = raw.mono.copy()
    mono[5, 31] = np.nan  # A joint that is not used.
    h36m_fixture.write_cdf(root / "S9" / h36m_fixture.OFFICIAL["mono"] / f"{front}.cdf", mono.reshape(-1, 96))
    builder = build(root, tmp_path)
    assert ids(records(builder)) == ["h36m/S9/Directions_1/60457274/000005", "h36m/S11/Directions_1/60457274/000000"]
    assert skipped(builder) == {"no box": 2, "the video ends before the poses": 1, "unreadable video": 1}
    report = "\n".join(archives.report(builder))
    assert "test: 2 examples, but the complete archive gives 27558" in report
    assert "S11/Directions 1.60457274 frame 5" in report


def test_joints_that_are_not_finite_are_skipped(copied, tmp_path):
    root, written = copied
    mono = written["S9", "Directions 1", "60457274"].mono.copy()
    mono[5, 3] = np.nan
    h36m_fixture.write_cdf(
        root / "S9" / h36m_fixture.OFFICIAL["mono"] / "Directions 1.60457274.cdf", mono.reshape(-1, 96), compress=5
    )
    builder = build(root, tmp_path)
    assert skipped(builder) == {"a joint that is not finite": 1}
    assert len(records(builder)) == 5


def test_a_longer_video_and_fewer_masks_cost_what_they_cost(copied, tmp_path):
    root, written = copied
    boxes = written["S9", "Directions 1", "60457274"].boxes
    h36m_fixture.write_masks(root / "S9" / h36m_fixture.OFFICIAL["box"] / "Directions 1.60457274.mat", boxes[:5])
    h36m_fixture.write_video(root / "S9" / "Videos" / "Directions 1.60457274.mp4", h36m_fixture.FRAMES + 18)
    h36m_fixture.write_video(root / "S11" / "Videos" / "Directions 1.60457274.mp4", h36m_fixture.FRAMES + 17)
    builder = build(root, tmp_path)
    longer = "a video far longer than its poses: kept, as far as there are poses"
    assert skipped(builder) == {"no box": 1, longer: 1} and len(records(builder)) == 5
    assert "(S9/Directions 1.60457274, 25 and 7)" in "\n".join(archives.report(builder))


def test_without_2d_files_and_metadata_there_are_no_keypoints_and_no_intrinsics(copied, tmp_path):
    root, _ = copied
    shutil.rmtree(root / "S9" / h36m_fixture.OFFICIAL["d2"])
    (root / "metadata.xml").unlink()
    builder = build(root, tmp_path)
    rows = records(builder)
    assert [row["kp2d_valid"].sum() for row in rows] == [0, 0, 17, 17, 17, 17]
    assert all(row["intrinsics_valid"] == 0 and row["joints3d_valid"].sum() == 17 for row in rows)
    assert skipped(builder) == {"2D joints of a recording: no file": 1}


def test_without_2d_files_the_joints_are_projected_or_there_is_nothing_to_train_on(tmp_path):
    root = tmp_path / "archive"
    h36m_fixture.write(root, subjects=("S8", "S9"))
    expected = records(build(root, tmp_path / "a", "official"), "train")
    shutil.rmtree(root / "S8" / h36m_fixture.OFFICIAL["d2"])
    builder = build(root, tmp_path / "b", "official")
    for row, its in zip(records(builder, "train"), expected, strict=True):
        assert row["kp2d_valid"].sum() == 17
        np.testing.assert_allclose(row["kp2d"], its["kp2d"], atol=1e-2)
    assert any("no file, the 3D joints are projected" in reason for reason in skipped(builder, "train"))
    (root / "metadata.xml").unlink()
    builder = build(root, tmp_path / "c", "official")
    assert "train" not in builder.info.splits and "test" in builder.info.splits
    assert any("training needs them" in reason for reason in skipped(builder, "train"))


def test_2d_of_another_camera_is_reported(copied, tmp_path):
    root, _ = copied
    folder = root / "S9" / h36m_fixture.OFFICIAL["d2"]
    shutil.copy(folder / "Directions 1.54138969.cdf", folder / "Directions 1.60457274.cdf")
    builder = build(root, tmp_path)
    assert skipped(builder) == {"2D joints of a recording: kept, but the 3D joints do not project to them": 1}


POSES, BOXES = h36m_fixture.OFFICIAL["mono"], h36m_fixture.OFFICIAL["box"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "S9") or shutil.rmtree(root / "S11"), r"there is no S\*/MyPoseFeatures"),
        (lambda root: shutil.rmtree(root / "S9" / BOXES), "no folder MySegmentsMat/ground_truth_bb.*BBoxes MAT"),
        (lambda root: (root / "S11/Videos/Directions.60457274.mp4").unlink(), r"not these files:\n.*Directions.60457274.mp4"),
        (lambda root: cut(root / "S9" / POSES / "Directions 1.60457274.cdf"), "damaged CDF.*D3_Positions_mono"),
        (lambda root: write(root / "S9" / POSES / "Directions 1.60457274.cdf", b"PK"), "no CDF file.*b'PK'"),
        (lambda root: write(root / "S9" / BOXES / "Directions 1.60457274.mat", b"MATLAB 5.0"), "no MATLAB v7.3"),
        (lambda root: cut(root / "S9" / BOXES / "Directions 1.60457274.mat"), "damaged.*BBoxes MAT"),
        (lambda root: wrong_shape(root / "S9" / POSES / "Directions 1.60457274.cdf"), r"\(1, 7, 64\), expected \(1, frames, 96\)"),
        (lambda root: short(root / "S9" / h36m_fixture.OFFICIAL["d2"] / "Directions 1.60457274.cdf"), "has 6 frames, but the poses have 7"),
        (lambda root: write(root / "metadata.xml", b"<metadata/>"), "not Human3.6M's metadata.xml"),
        (lambda root: edit(root / "metadata.xml", b"<w0>[", b"<w0>[nan "), "are not finite: it is damaged"),
        (lambda root: edit(root / "metadata.xml", b"60457274", b"60457275"), "has the cameras .* and not 60457274"),
        (lambda root: write(root / "S9" / POSES / "Directions 1.7.cdf", b""), "is not named <action>"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_stops_the_build_and_says_what_is_needed(damage, message, copied, tmp_path):
    root, _ = copied
    damage(root)
    with pytest.raises(tfds_builders.BuildError, match=f"(?s){message}"):
        build(root, tmp_path)
    assert not list(tmp_path.rglob("1.0.0"))


def write(path, content):
    path.write_bytes(content)


def edit(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def wrong_shape(path):
    h36m_fixture.write_cdf(path, np.zeros((7, 64)))


def short(path):
    h36m_fixture.write_cdf(path, np.zeros((6, 64)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_step": 0}, "frame_step must be at least 1"),
        ({"frame_offset": 2}, "1 for SPIN's images, got 2"),
        ({"h36m_cameras": "54138969+4"}, r"joined by \+; got 4"),
        ({"h36m_fits": "/nowhere"}, "no folder or file of SMPL fits"),
    ],
)
def test_bad_options_are_refused(options, message, official, tmp_path):
    with pytest.raises(ValueError, match=message):
        build(official[0], tmp_path, **options)


def test_videos_cannot_be_stored_as_paths(official, tmp_path):
    with pytest.raises(tfds_builders.BuildError, match="store=path"):
        build(official[0], tmp_path, store="path")


# Experiments


@pytest.mark.slow
def test_the_configs_train_and_evaluate_on_it(tmp_path):
    h36m_fixture.write(tmp_path / "archive", subjects=("S8", "S9", "S11"), cameras=h36m_fixture.CAMERAS)
    for name in ("official", "p1"):
        build(tmp_path / "archive", tmp_path, name)
    train, evaluate_p1 = h36m_hmr.get_config().unlock(), eval_h36m.get_config("p1").unlock()
    train.data.dir = evaluate_p1.data.dir = str(tmp_path)
    train.model.crop_size = evaluate_p1.model.crop_size = 32
    config_checks.validate(train)
    config_checks.validate(evaluate_p1)
    batch = next(iter(training_data.open_data(train, setup.load_bodies(train), 4, 0).batches))
    assert batch["image"].shape == (4, 32, 32, 3)
    assert batch["kp2d_valid"].sum() == batch["joints3d_valid"].sum() == 4 * 17 and batch["smpl_valid"].sum() == 0
    (name,) = evaluate_p1.eval.sets
    rows = [
        name
        for batch in batches.examples(evaluate_p1, name, "test")
        for name in batch.example_id[batch.batch.valid > 0]
    ]
    assert len(rows) == 8 + 8 + 6
    wrong = eval_h36m.get_config("p2").unlock()
    wrong.data.dir, wrong.eval.sets = str(tmp_path), ("h36m/p1",)
    with pytest.raises(ValueError, match="h36m_p1"):
        list(batches.examples(wrong, "h36m/p1", "test"))


def test_experiments_name_the_options_of_a_set_as_text(official, tmp_path):
    built = build(official[0], tmp_path, frame_step=3, h36m_cameras="54138969+60457274")
    config = eval_h36m.get_config("p2").unlock()
    config.data.dir, config.data.options = str(tmp_path), "frame_step=3,h36m_cameras=54138969+60457274"
    assert len(sources.open_source(config, "h36m/p2", "test")) == built.info.splits["test"].num_examples == 15
    for text, message in (("frame_steps=3", "name=value of .*frame_step"), ("frame_step=x", "type int, got 'x'")):
        config.data.options = text
        with pytest.raises(ValueError, match=message):
            sources.dataset_options(config)


# Parts


def test_cameras_of_metadata_turn_and_project_as_their_formulas_say(official):
    described = metadata.read(official[0] / metadata.NAME)
    rng = np.random.default_rng(0)
    for subject in ("S1", "S9", "S11"):
        for i, camera in enumerate(h36m_fixture.CAMERAS):
            angles = h36m_fixture.extrinsics(subject, camera)[:3]
            np.testing.assert_allclose(described.rotation(subject, camera), h36m_fixture.rotation(angles), atol=1e-12)
            points = rng.normal(size=(5, 3)) + np.array([0, 0, 5])
            projected = [h36m_fixture.project(point, h36m_fixture.LENS[i]) for point in points]
            np.testing.assert_allclose(described.project(points, camera), projected, atol=1e-9)
    assert described.cameras == h36m_fixture.CAMERAS == archive.CAMERAS
    assert described.sequences["S9", "Directions 1"] == ("2", "1")


def test_camera_parameters_are_found_wherever_metadata_has_them(tmp_path):
    text = h36m_fixture.metadata_xml()
    w0 = text[text.index("<w0>") : text.index("</w0>") + len("</w0>")]
    (tmp_path / metadata.NAME).write_text(
        text.replace(w0, "").replace("</dbcameras>", f"{w0}</dbcameras>"), encoding="utf-8"
    )
    np.testing.assert_array_equal(metadata.read(tmp_path / metadata.NAME).w0[-36:], h36m_fixture.LENS.ravel())


def test_tasks_can_be_sent_to_worker_processes(official, tmp_path):
    builder = tfds_builders.make_builder("h36m/p1", tmp_path)
    builder.manual_dir = official[0]
    tasks = [*builder.tasks("test"), *builder.tasks("validation")]
    assert pickle.loads(pickle.dumps(tasks)) == tasks
    assert str(tasks[0]) == "h36m test, S9/Directions 1.54138969"


def test_the_builder_is_registered():
    assert tfds_builders.BUILDERS["h36m"] is h36m_dataset_builder.Builder
    assert pathlib.Path(h36m_dataset_builder.__file__).with_name("README.md").exists()
