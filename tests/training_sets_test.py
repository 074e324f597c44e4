"""The training sets from tiny archives in the official formats: values against loops over what was written, bad input."""

import contextlib
import json

import h5py
import numpy as np
import pytest
import scipy.io

import tfds_builders
from configs import default
from multibodies_jax import experiment, joints
from tests import training_archives as archives_lib
from tfds_builders import archives, building, workers
from tfds_builders.sources import joint_sets, mat, mpi_inf_3dhp, spin, video
from tfds_builders.sources import rows as rows_lib

WRITERS = {
    "lsp": archives_lib.write_lsp,
    "lspet": archives_lib.write_lspet,
    "mpii": archives_lib.write_mpii,
    "coco2014": archives_lib.write_coco,
}


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    """Instead of worker processes, which take seconds to start."""

    @contextlib.contextmanager
    def in_process(num_processes=None):
        yield map

    monkeypatch.setattr(workers, "pool", in_process)


@pytest.fixture(params=["lsp"])
def archive(request, tmp_path):
    """An archive of a set, and the numbers in it."""
    root = tmp_path / "archive"
    root.mkdir()
    return root, WRITERS[request.param](root)


def build(name, root, **options):
    """Builds a set; its examples by split, and its report."""
    builder = tfds_builders.build(name, root.parent / "data", manual_dir=root, **options)
    source = builder.as_data_source()
    rows = {split: [source[split][i] for i in range(len(source[split]))] for split in source}
    return rows, "\n".join(archives.report(builder))


def padded_box(points):
    """Centre and scale of the box around points, 1.2 times their longer side: SPIN's."""
    left, top, right, bottom = *points.min(axis=0), *points.max(axis=0)
    return [(left + right) / 2, (top + bottom) / 2], 1.2 * max(right - left, bottom - top) / 200


def assert_person(row, points, box, tolerance=1e-4):
    """The keypoints `points`, J24 index -> x, y, and no others; and the box."""
    assert set(np.flatnonzero(row["kp2d_valid"])) == set(points)
    for k, point in points.items():
        np.testing.assert_allclose(row["kp2d"][k], point, atol=tolerance)
    assert np.all(row["kp2d"][row["kp2d_valid"] == 0] == 0)
    np.testing.assert_array_equal(row["kp2d_input"], row["kp2d_valid"])
    np.testing.assert_allclose(row["box_center"], box[0], atol=tolerance)
    np.testing.assert_allclose(row["box_scale"], box[1], rtol=1e-5)


def assert_window(row, image):
    """The window is a part of the image without loss, which holds the whole box enlarged by 1.25 where the image has it."""
    x, y, width, height = row["window"]
    np.testing.assert_array_equal(row["image"], image[y : y + height, x : x + width])
    np.testing.assert_array_equal(row["image_size"], image.shape[1::-1])
    reach = 1.25 * 100 * row["box_scale"] * np.sqrt(2)
    low, high = np.maximum(row["box_center"] - reach, 0), np.minimum(row["box_center"] + reach, row["image_size"])
    assert np.all(low >= [x, y]) and np.all(high <= [x + width, y + height])


def only_2d(row):
    return row["smpl_valid"] == 0 and not row["joints3d_valid"].any() and row["intrinsics_valid"] == 0


# Joint sets: J24 indices from the tables that SPIN's preprocessing uses.


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (joint_sets.LSP14, [*range(14), *[-1] * 10]),
        (joint_sets.MPII16, [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9, 6, 7, *[-1] * 8]),
        (joint_sets.MPI28, [25, 24, 23, 18, 19, 20, 16, 15, 14, 9, 10, 11, 5, -1, 4, -1, 3, 6, 7, *[-1] * 5]),
        (joint_sets.MPI17, [10, 9, 8, 11, 12, 13, 4, 3, 2, 5, 6, 7, 1, -1, 14, -1, 15, 16, 0, *[-1] * 5]),
        (joints.COCO17, [16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9, *[-1] * 7, 0, 1, 2, 3, 4]),
    ],
)
def test_joints_come_to_their_places(names, expected):
    values = np.arange(1.0, len(names) + 1)[:, None] * [1, 10]
    j24, has = joint_sets.to_j24(values, names)
    for k, index in enumerate(expected):
        assert has[k] == (index >= 0)
        np.testing.assert_array_equal(j24[k], values[index] if index >= 0 else 0)


# LSP, LSPET


def test_lsp_is_two_archives_with_other_pixels(archive):
    root, written = archive
    rows, report = build("lsp", root, split_at=2)
    assert [r["example_id"] for r in rows["train"]] == [b"lsp/train/im0001", b"lsp/train/im0002"]
    assert [r["example_id"] for r in rows["test"]] == [b"lsp/test/im0003", b"lsp/test/im0004"]
    for split, folder, first in (("train", "lsp_dataset_original", 0), ("test", "lsp_dataset", 2)):
        for i, row in enumerate(rows[split], start=first):
            points = written[folder][i]
            assert_person(row, dict(enumerate(points)), padded_box(points))
            assert_window(row, archives_lib.cv2.imread(str(root / folder / f"images/im{i + 1:04d}.jpg"))[..., ::-1])
            assert only_2d(row) and row["gender"] == -1
    assert "train: 2 examples" in report


def test_lsp_without_the_test_archive_and_with_an_extra_folder(archive):
    root, _ = archive
    (root / "lsp_dataset").rename(root.parent / "elsewhere")
    (root / "downloads").mkdir()
    (root / "lsp_dataset_original").rename(root / "downloads/lsp_dataset_original")
    rows, report = build("lsp", root, split_at=2)
    assert list(rows) == ["train"] and "test: 0 examples" in report


@pytest.mark.parametrize("archive", ["lspet"], indirect=True)
def test_lspet_has_only_labelled_joints_unless_told_otherwise(archive):
    root, points = archive
    rows, _ = build("lspet", root)
    for i, row in enumerate(rows["train"]):
        labelled = [k for k in range(14) if (i, k) != (1, 4)]
        assert_person(row, {k: points[i, k] for k in labelled}, padded_box(points[i, labelled]))
        assert row["example_id"] == f"lspet/train/im{i + 1:05d}".encode()
    rows, _ = build("lspet", root, unlabelled="keep")
    assert_person(rows["train"][1], dict(enumerate(points[1])), padded_box(points[1]))


@pytest.mark.parametrize("archive", ["lspet"], indirect=True)
def test_lspet_joins_by_the_number_in_the_name(archive):
    root, points = archive
    (root / "hr-lspet/im00001.png").unlink()
    rows, report = build("lspet", root)
    assert [r["example_id"][-7:] for r in rows["train"]] == [b"im00002", b"im00003"]
    np.testing.assert_allclose(rows["train"][1]["kp2d"][:14], points[2], atol=1e-4)
    assert "1 skipped: no image (im00001)" in report


# MPII


@pytest.mark.parametrize("archive", ["mpii"], indirect=True)
def test_mpii_is_the_same_from_all_three_formats(archive):
    root, (points, center, scale) = archive
    places = dict(zip([0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11], range(16), strict=True))
    for config in ("official", "json", "h5"):
        rows, report = build(f"mpii/{config}", root)
        ids = [b"mpii/train/015601864/0", b"mpii/train/015601865/0"]
        assert [r["example_id"] for r in rows["train"]] == ids, config
        for i, row in zip((0, 2), rows["train"], strict=True):
            box = (center[i] + [0, 15 * scale[i]], 1.25 * scale[i])
            assert_person(row, {k: points[i, m] for k, m in places.items()}, box)
            assert only_2d(row)
        assert "1 skipped: a joint is not annotated (mpii/train/015601864/1)" in report
    report = build("mpii", root)[1]
    assert "1 skipped: no annotated joint (mpii/train/015601864/2)" in report
    assert "1 skipped: no position or scale (mpii/train/015601864/3)" in report


# COCO


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
def test_coco_keeps_people_with_all_limbs(archive):
    root, (points, flags) = archive
    rows, report = build("coco2014", root)
    expected = {0: b"000000000057/900", 1: b"000000000009/901", 4: b"000000000057/904"}
    assert [r["example_id"].removeprefix(b"coco2014/train/") for r in rows["train"]] == list(expected.values())
    places = [19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0]  # In J24, of COCO's joints.
    for i, row in zip(expected, rows["train"], strict=True):
        x, y, width, height = 50.5 + i, 40.0, 100.0, 120.0 + i
        labelled = {place: points[i, k] for k, place in enumerate(places) if flags[i, k] > 0}
        box = ([x + width / 2, y + height / 2], 1.2 * max(width, height) / 200)
        assert_person(row, labelled, box)
    assert "1 skipped: a crowd" in report and "1 skipped: a limb joint is not labelled" in report


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
def test_paths_instead_of_pixels_read_the_same_examples(archive):
    root, _ = archive
    images, _ = build("coco2014", root)
    builder = tfds_builders.build("coco2014", root.parent / "data", manual_dir=root, store="path")
    for row, linked in zip(images["train"], builder.as_data_source("train"), strict=True):
        assert set(row) == set(linked)
        for key, value in row.items():
            np.testing.assert_array_equal(value, linked[key], err_msg=key)


# MPI-INF-3DHP


@pytest.fixture
def mpi(tmp_path):
    root = tmp_path / "archive"
    return root, archives_lib.write_mpi_inf_3dhp(root, extracted=[("S2", "Seq2")])


MPI_PLACES = dict(
    zip(
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 18],
        [25, 24, 23, 18, 19, 20, 16, 15, 14, 9, 10, 11, 5, 4, 3, 6, 7],
        strict=True,
    )
)


def test_mpi_inf_3dhp_takes_every_tenth_visible_frame_of_everything(mpi):
    root, written = mpi
    rows, report = build("mpi_inf_3dhp", root)
    visible = [
        (subject, sequence, camera, frame)
        for subject, sequence in (("S1", "Seq1"), ("S2", "Seq2"))
        for camera in archives_lib.CAMERAS
        for frame in range(archives_lib.FRAMES)
        if (subject, sequence, camera, frame) != archives_lib.OUTSIDE
    ]
    chosen = visible[::10]
    assert [r["example_id"].decode() for r in rows["train"]] == [
        f"mpi_inf_3dhp/train/{s}/{q}/{c}/{f:06d}" for s, q, c, f in chosen
    ]
    for (subject, sequence, camera, frame), row in zip(chosen, rows["train"], strict=True):
        points, pixels, K = (
            written[subject, sequence, camera][0][frame],
            written[subject, sequence, camera][1][frame],
            written[subject, sequence, camera][2],
        )
        seen = pixels[list(MPI_PLACES.values())]
        assert_person(row, {k: pixels[m] for k, m in MPI_PLACES.items()}, padded_box(seen), tolerance=1e-3)
        for k, m in MPI_PLACES.items():
            np.testing.assert_allclose(row["joints3d"][k], points[m] / 1000, atol=1e-6)
        np.testing.assert_array_equal(row["joints3d_valid"], row["kp2d_valid"])
        projected = row["joints3d"] @ row["intrinsics"].T
        error = (projected[:, :2] / projected[:, 2:].clip(0.1) - row["kp2d"])[row["kp2d_valid"] > 0]
        assert np.abs(error).max() < 0.01 and row["intrinsics_valid"] == 1
        np.testing.assert_allclose(row["intrinsics"], K, rtol=1e-5)
        assert abs(row["image"].mean() - (10 + 15 * frame)) < 4  # The frame of this number, from video or file.
        assert row["smpl_valid"] == 0 and row["protocol_hint"] == b"mpi_inf_3dhp"
    assert "1 skipped: a joint outside the image" in report and "12 skipped: a camera without images" in report


def test_mpi_inf_3dhp_step_cameras_and_test_split(mpi):
    root, _ = mpi
    written = archives_lib.write_mpi_inf_3dhp_test(root)
    rows, _ = build("mpi_inf_3dhp", root, mpi_step=1)
    assert len(rows["train"]) == 47
    ids = ["TS1/activity_1/000000", "TS1/activity_3/000002", "TS5/activity_1/000000"]
    assert [r["example_id"].decode() for r in rows["test"]] == [f"mpi_inf_3dhp/test/{name}" for name in ids]
    real, _ = build("mpi_inf_3dhp", root, mpi_skeleton="real", mpi_cameras="all")
    places = dict(
        zip(
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 18],
            [10, 9, 8, 11, 12, 13, 4, 3, 2, 5, 6, 7, 1, 14, 15, 16, 0],
            strict=True,
        )
    )
    for row, other, (sequence, frame) in zip(
        rows["test"], real["test"], (("TS1", 0), ("TS1", 2), ("TS5", 0)), strict=True
    ):
        pixels, universal, annot3 = (array[frame] for array in written[sequence])
        assert_person(row, {k: pixels[m] for k, m in places.items()}, padded_box(pixels))
        for k, m in places.items():
            np.testing.assert_allclose(row["joints3d"][k], universal[m] / 1000, rtol=1e-5)
            np.testing.assert_allclose(other["joints3d"][k], annot3[m] / 1000, rtol=1e-5)


def test_mpi_inf_3dhp_is_scored_by_its_protocol(tmp_path):
    root = tmp_path / "archive"
    archives_lib.write_mpi_inf_3dhp_test(root)
    config = default.get_config()
    config.eval.protocol, config.model.crop_size = "mpi_inf_3dhp", 16
    for record in build("mpi_inf_3dhp", root)[0]["test"]:
        row = experiment.evaluation_row(config, record)
        assert np.count_nonzero(row["joints3d_valid"]) == 17 and row["image"].shape == (16, 16, 3)
    config.eval.protocol = "strict"
    with pytest.raises(ValueError, match="SMPL"):
        experiment.evaluation_row(config, record)


def test_mpi_inf_3dhp_short_videos_are_counted_and_missing_annotations_are_errors(mpi, monkeypatch):
    root, _ = mpi
    whole = video.frames
    monkeypatch.setattr(video, "frames", lambda path, wanted: whole(path, [i for i in wanted if i < 9]))
    rows, report = build("mpi_inf_3dhp", root)
    assert len(rows["train"]) == 3 and "2 skipped: a frame that the video does not have" in report
    for frame in (13, 14, 15):
        archives_lib.write_image(root / f"S2/Seq2/imageFrames/video_4/frame_{frame:06d}.jpg")
    with pytest.raises(ValueError, match=r"camera 4 has a frame 14, but annot.mat only 14 rows"):
        build("mpi_inf_3dhp", root, mpi_step=2)
    monkeypatch.setitem(mpi_inf_3dhp.USABLE, (2, 2), 5)  # Beyond what the authors call usable nothing is read.
    assert len(build("mpi_inf_3dhp", root, mpi_step=1)[0]["train"]) == 9 + 9 - 1 + 5 + 5


# SPIN's lists


def write_list(root, name, images, **columns):
    """A list in SPIN's format with one row per image; returns its columns."""
    rng = np.random.default_rng(7)
    n = len(images)
    part = np.concatenate([rng.uniform(60, 180, (n, 24, 2)), rng.integers(0, 2, (n, 24, 1))], axis=-1)
    part[:, :3, 2] = 1
    content = {"imgname": np.array(images), "center": rng.uniform(100, 140, (n, 2)), "scale": rng.uniform(0.5, 0.8, n)}
    content |= {"part": part, "openpose": np.zeros((n, 25, 3))} | columns
    np.savez(root / f"{name}.npz", **content)
    return content


@pytest.mark.parametrize(
    ("archive", "name", "images"),
    [
        ("lsp", "lsp_dataset_original_train", ["images/im0002.jpg", "images/im0001.jpg"]),
        ("lspet", "hr-lspet_train", ["im00001.png", "im00003.png"]),
        ("mpii", "mpii_train", ["images/015601865.jpg"] * 2),
        ("coco2014", "coco_2014_train", ["train2014/COCO_train2014_000000000009.jpg"] * 2),
    ],
    indirect=["archive"],
)
def test_lists_of_2d_people_with_and_without_fits(archive, name, images, monkeypatch):
    monkeypatch.setattr(rows_lib, "BLOCK", 1)  # A task for every row.
    root, _ = archive
    dataset = {"lsp": "lsp", "hr": "lspet", "mpii": "mpii", "coco": "coco2014"}[name.split("_")[0].split("-")[0]]
    written = write_list(root, name, images)
    rows, _ = build(f"{dataset}/spin", root)
    for i, row in enumerate(rows["train"]):
        points = {k: written["part"][i, k, :2] for k in np.flatnonzero(written["part"][i, :, 2])}
        assert_person(row, points, (written["center"][i], written["scale"][i]))
        assert row["example_id"].decode() == f"{dataset}/train/{i:06d}/{images[i].rsplit('.', 1)[0]}"
        assert only_2d(row)
    fits = np.random.default_rng(8).normal(size=(2, 82))
    fits[1, 5] = np.nan  # No fit.
    (root / "static_fits").mkdir()
    names = {"lsp": "lsp-orig_fits", "lspet": "lspet_fits", "mpii": "mpii_fits", "coco2014": "coco_fits"}
    np.save(root / f"static_fits/{names[dataset]}.npy", fits)
    rows, _ = build(f"{dataset}/spin", root, static_fits=str(root / "static_fits"))
    assert [r["smpl_valid"] for r in rows["train"]] == [1, 0]
    np.testing.assert_allclose(rows["train"][0]["pose"].ravel(), fits[0, :72], rtol=1e-6)
    np.testing.assert_allclose(rows["train"][0]["betas"], fits[0, 72:], rtol=1e-6)
    assert not rows["train"][1]["pose"].any()


def test_a_list_of_mpi_inf_3dhp_keeps_its_own_smpl_and_takes_fits_for_the_rest(tmp_path):
    root = tmp_path / "archive"
    archives_lib.write_mpi_inf_3dhp(root, extracted=[("S1", "Seq1"), ("S2", "Seq2")])
    images = [f"S1/Seq1/imageFrames/video_0/frame_{i:06d}.jpg" for i in (1, 11, 12)]
    rng = np.random.default_rng(9)
    S = np.concatenate([rng.normal(size=(3, 24, 3)), rng.integers(0, 2, (3, 24, 1))], axis=-1)
    columns = {
        "S": S,
        "pose": rng.normal(size=(3, 72)),
        "shape": rng.normal(size=(3, 10)),
        "has_smpl": np.array([1, 0, 0]),
    }
    write_list(root, "mpi_inf_3dhp_train", images, **columns)
    fits = {
        "pose": rng.normal(size=(3, 72)),
        "betas": rng.normal(size=(3, 10)),
        "valid_fit": np.array([True, True, False]),
    }
    np.savez(root / "final.npz", **fits)
    rows, _ = build("mpi_inf_3dhp/spin", root, static_fits=str(root / "final.npz"))
    assert list(rows) == ["train"]
    assert [r["smpl_valid"] for r in rows["train"]] == [1, 1, 0]
    np.testing.assert_allclose(rows["train"][0]["pose"].ravel(), columns["pose"][0], rtol=1e-6)
    np.testing.assert_allclose(rows["train"][1]["betas"], fits["betas"][1], rtol=1e-6)
    for i, row in enumerate(rows["train"]):
        np.testing.assert_array_equal(row["joints3d_valid"], S[i, :, 3])
        np.testing.assert_allclose(row["joints3d"], S[i, :, :3] * S[i, :, 3:], rtol=1e-6)


# Bad input


@pytest.mark.parametrize("name", ["lsp", "lspet", "mpii", "mpii/json", "coco2014", "mpi_inf_3dhp", "amass", "lsp/spin"])
def test_a_missing_archive_is_explained_with_both_trees(name, tmp_path):
    root = tmp_path / "archive"
    (root / "holiday").mkdir(parents=True)
    with pytest.raises(building.BuildError, match=r"(?s)there is no .*MANUAL_DIR must hold.*Found there:\n  holiday/"):
        build(name, root)


def test_missing_images_are_an_error_before_anything_is_built_and_damaged_ones_are_counted(archive):
    root, _ = archive
    image = root / "lsp_dataset_original/images/im0002.jpg"
    image.write_bytes(image.read_bytes()[:500])
    rows, report = build("lsp", root, split_at=2)
    assert [r["example_id"] for r in rows["train"]] == [b"lsp/train/im0001"]
    assert "1 skipped: unreadable image" in report and "im0002.jpg" in report
    image.unlink()
    with pytest.raises(building.BuildError, match=r"there is no image images/im0002.jpg \(1 of 3 are not there\)"):
        build("lsp", root, split_at=3)


def test_joints_that_are_not_finite_or_not_there_and_boxes_outside_are_counted(tmp_path):
    root = tmp_path / "archive"
    root.mkdir()
    points = archives_lib.write_lspet(root)
    labelled = np.ones((3, 14, 1))
    points[0, 3, 1] = np.nan
    labelled[1] = 0
    points[2] += 5000
    content = np.concatenate([points, labelled], axis=-1).transpose(1, 2, 0)
    scipy.io.savemat(root / "hr-lspet/joints.mat", {"joints": content})
    with pytest.raises(building.BuildError, match="no example in all of"):
        build("lspet", root)
    points[2] -= 5000
    scipy.io.savemat(
        root / "hr-lspet/joints.mat", {"joints": np.concatenate([points, labelled], axis=-1).transpose(1, 2, 0)}
    )
    rows, report = build("lspet", root)
    assert len(rows["train"]) == 1
    assert "1 skipped: a joint that is not finite (lspet/train/im00001)" in report
    assert "1 skipped: no annotated joint (lspet/train/im00002)" in report


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
def test_images_of_another_size_and_boxes_outside_are_counted(archive):
    root, _ = archive
    archives_lib.write_image(root / "train2014/COCO_train2014_000000000009.jpg", size=(160, 120))
    path = root / "annotations/person_keypoints_train2014.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [4000.0, 0.0, 10.0, 10.0]
    content["annotations"][4]["bbox"] = [10.0, 10.0, 0.0, 0.0]
    content["annotations"].append(content["annotations"][4] | {"bbox": [10.0, 10.0, 50.0, 50.0], "id": 7})
    path.write_text(json.dumps(content))
    rows, report = build("coco2014", root)
    assert [r["example_id"] for r in rows["train"]] == [b"coco2014/train/000000000057/7"]
    assert "1 skipped: a box outside the image (coco2014/train/000000000057/900)" in report
    assert "1 skipped: a box that is not finite or has no area (coco2014/train/000000000057/904)" in report
    assert (
        "1 skipped: an image of another size than annotated" in report and "(160, 120), annotated (320, 240)" in report
    )


def test_mat_files_of_the_other_version_are_explained(tmp_path):
    v5, v73 = tmp_path / "v5.mat", tmp_path / "v73.mat"
    scipy.io.savemat(v5, {"joints": np.zeros(3)})
    with h5py.File(v73, "w", userblock_size=512) as file:
        file["joints"] = np.zeros(3)
    np.testing.assert_array_equal(mat.read_v5(v5, ["joints"])["joints"], np.zeros((1, 3)))
    np.testing.assert_array_equal(mat.read_v73(v73, ["joints"])["joints"], np.zeros(3))
    with pytest.raises(mat.MatError, match=r"v73.mat is a MATLAB v7.3 \(HDF5\) file, but the official one is v5"):
        mat.read_v5(v73, ["joints"])
    with pytest.raises(mat.MatError, match=r"v5.mat is no MATLAB v7.3 \(HDF5\) file"):
        mat.read_v73(v5, ["joints"])
    for read, path in ((mat.read_v5, v5), (mat.read_v73, v73)):
        with pytest.raises(mat.MatError, match=r"has no variable poses; it has joints"):
            read(path, ["poses"])
        path.write_bytes(path.read_bytes()[: 700 if path == v73 else 150])
        with pytest.raises(mat.MatError, match="Download it again"):
            read(path, ["joints"])


def test_the_joints_of_the_other_archive_are_refused(archive):
    root, _ = archive
    scipy.io.savemat(root / "lsp_dataset_original/joints.mat", {"joints": np.zeros((14, 3, 4))})
    with pytest.raises(ValueError, match=r"are \(14, 3, 4\).*should be \(3, 14, 'N'\).*file of the other archive"):
        build("lsp", root)


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][0].pop("keypoints"), "person_keypoints"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotation .* is not as COCO's are \(KeyError\('bbox'\)\)"),
        (lambda c: c.pop("images"), "should be an object with the lists images"),
    ],
)
def test_other_json_files_are_refused(archive, change, message):
    root, _ = archive
    path = root / "annotations/person_keypoints_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        build("coco2014", root)


def test_fits_must_belong_to_the_list(archive):
    root, _ = archive
    np.save(root / "fits.npy", np.zeros((3, 82)))
    with pytest.raises(building.BuildError, match=r"--static_fits has the rows of SPIN's list: build lsp/spin"):
        build("lsp", root, static_fits=str(root / "fits.npy"))
    write_list(root, "lsp_dataset_original_train", ["images/im0001.jpg"])
    with pytest.raises(ValueError, match=r"has poses \(3, 72\).*the list has 1 rows"):
        build("lsp/spin", root, static_fits=str(root / "fits.npy"))
    with pytest.raises(ValueError, match="no file or folder of fits"):
        build("lsp/spin", root, static_fits=str(root / "nothing.npy"))
    np.savez(root / "fits.npz", pose=np.zeros((1, 72)))
    with pytest.raises(ValueError, match="cannot be read as fits of SMPL"):
        spin.read_fits(root / "fits.npz", 1)


def test_images_of_a_list_that_are_missing_are_named(archive):
    root, _ = archive
    write_list(root, "lsp_dataset_original_train", ["images/im0001.jpg", "images/im0009.jpg"])
    with pytest.raises(
        building.BuildError, match=r"lists 2 images, of which 1 are not in .* the first is .*im0009.jpg"
    ):
        build("lsp/spin", root)
    write_list(root, "lsp_dataset_original_train", ["pictures/im0001.jpg"])
    with pytest.raises(building.BuildError, match=r"the first, pictures/im0001.jpg, is neither there"):
        build("lsp/spin", root)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lspet", {"unlabelled": "guess"}, "unlabelled is `drop` or `keep`"),
        ("mpi_inf_3dhp", {"mpi_cameras": "front"}, "mpi_cameras is one of vnect, all"),
        ("mpi_inf_3dhp", {"mpi_skeleton": "human"}, "mpi_skeleton is one of universal, real"),
        ("mpi_inf_3dhp", {"mpi_step": 0}, "mpi_step must be at least 1"),
        ("amass", {"trim": 0.5}, "trim is a share"),
        ("amass", {"frames_per_second": 0.0}, "frames_per_second must be > 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tfds_builders.build(name, tmp_path, **options)
