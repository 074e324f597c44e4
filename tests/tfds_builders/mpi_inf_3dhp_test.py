"""MPI-INF-3DHP from tiny archives in the official formats and from a list: values against loops over what was written."""

from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from configs import default
from multibodies_jax.evaluation import batches
from tests.helpers import training_archives, training_checks
from tests.helpers.training_checks import assert_person, build, padded_box, write_list
from tfds_builders import building
from tfds_builders.sources import mpi_inf_3dhp, video

no_workers = pytest.fixture(autouse=True)(training_checks.no_workers)


@pytest.fixture
def mpi(tmp_path):
    root = tmp_path / "archive"
    return root, training_archives.write_mpi_inf_3dhp(root, extracted=[("S2", "Seq2")])


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
        for camera in training_archives.CAMERAS
        for frame in range(training_archives.FRAMES)
        if (subject, sequence, camera, frame) != training_archives.OUTSIDE
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
    written = training_archives.write_mpi_inf_3dhp_test(root)
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
    training_archives.write_mpi_inf_3dhp_test(root)
    config: Any = default.get_config()
    config.eval.protocol, config.model.crop_size = "mpi_inf_3dhp", 16
    records = build("mpi_inf_3dhp", root)[0]["test"]
    for record in records:
        row = batches.evaluation_row(config, record)
        assert np.count_nonzero(row["joints3d_valid"]) == 17 and row["image"].shape == (16, 16, 3)
    config.eval.protocol = "strict"
    with pytest.raises(ValueError, match="SMPL"):
        batches.evaluation_row(config, records[-1])


def test_mpi_inf_3dhp_short_videos_are_counted_and_missing_annotations_are_errors(mpi, monkeypatch):
    root, _ = mpi
    whole = video.frames
    monkeypatch.setattr(video, "frames", lambda path, wanted: whole(path, [i for i in wanted if i < 9]))
    rows, report = build("mpi_inf_3dhp", root)
    assert len(rows["train"]) == 3 and "2 skipped: a frame that the video does not have" in report
    for frame in (13, 14, 15):
        training_archives.write_image(root / f"S2/Seq2/imageFrames/video_4/frame_{frame:06d}.jpg")
    with pytest.raises(ValueError, match=r"camera 4 has a frame 14, but annot.mat only 14 rows"):
        build("mpi_inf_3dhp", root, mpi_step=2)
    monkeypatch.setitem(mpi_inf_3dhp.USABLE, (2, 2), 5)  # Beyond what the authors call usable nothing is read.
    assert len(build("mpi_inf_3dhp", root, mpi_step=1)[0]["train"]) == 9 + 9 - 1 + 5 + 5


def test_a_list_of_mpi_inf_3dhp_keeps_its_own_smpl_and_takes_fits_for_the_rest(tmp_path):
    root = tmp_path / "archive"
    training_archives.write_mpi_inf_3dhp(root, extracted=[("S1", "Seq1"), ("S2", "Seq2")])
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
    write_list(root, "mpi_inf_3dhp_test", images[:1])  # As the script calls what SPIN reads as `valid`.
    fits = {
        "pose": rng.normal(size=(3, 72)),
        "betas": rng.normal(size=(3, 10)),
        "valid_fit": np.array([True, True, False]),
    }
    np.savez(root / "final.npz", **fits)
    rows, _ = build("mpi_inf_3dhp/spin", root, static_fits=str(root / "final.npz"))
    assert [len(rows[split]) for split in rows] == [3, 1] and rows["test"][0]["smpl_valid"] == 0
    assert [r["smpl_valid"] for r in rows["train"]] == [1, 1, 0]
    np.testing.assert_allclose(rows["train"][0]["pose"].ravel(), columns["pose"][0], rtol=1e-6)
    np.testing.assert_allclose(rows["train"][1]["betas"], fits["betas"][1], rtol=1e-6)
    for i, row in enumerate(rows["train"]):
        np.testing.assert_array_equal(row["joints3d_valid"], S[i, :, 3])
        np.testing.assert_allclose(row["joints3d"], S[i, :, :3] * S[i, :, 3:], rtol=1e-6)


def test_files_of_another_form_are_refused_by_name(mpi):
    root, _ = mpi
    calibration = root / "S1/Seq1/camera.calibration"
    lines = calibration.read_text(encoding="utf-8")
    calibration.write_text(lines.replace("  intrinsic   300", "  intrinsic   300 1"), encoding="utf-8")
    with pytest.raises(building.BuildError, match=r"S1/Seq1 camera 0: .*camera.calibration: cannot read the line"):
        build("mpi_inf_3dhp", root)
    calibration.write_text(lines, encoding="utf-8")
    path = root / "S1/Seq1/annot.mat"
    cells = np.empty((14, 1), object)
    cells[:, 0] = [np.zeros((14, 57)) for _ in range(14)]
    for annot2, message in (
        (cells, r"has \(14, 57\) for camera 0; it should be \(F, 56\)"),
        (np.zeros((14, 1)), "14 cells"),
    ):
        scipy.io.savemat(path, {"annot2": annot2, "annot3": cells})
        with pytest.raises(ValueError, match=message):
            build("mpi_inf_3dhp", root)


def test_test_annotations_of_another_form_are_refused_and_their_images_must_be_there(tmp_path):
    root = tmp_path / "archive"
    training_archives.write_mpi_inf_3dhp_test(root)
    folder = root / "mpi_inf_3dhp_test_set/TS1"
    (folder / "imageSequence/img_000003.jpg").unlink()
    with pytest.raises(ValueError, match=r"img_000003.jpg, a valid frame of the test set, cannot be read"):
        build("mpi_inf_3dhp", root)
    with h5py.File(folder / "annot_data.mat", "a") as file:
        del file["valid_frame"]
        file["valid_frame"] = np.ones((4, 1))
    with pytest.raises(ValueError, match=r"valid_frame of .*TS1/annot_data.mat is \(4, 1\); it should be \(3, 1\)"):
        build("mpi_inf_3dhp", root)
