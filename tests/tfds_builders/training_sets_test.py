"""LSP, LSPET, MPII and COCO from tiny archives in the official formats and from lists: values against loops."""

from typing import Any, cast

import numpy as np
import pytest

import tfds_builders
from multibodies_jax.geometry import joints
from tests.helpers import training_archives, training_checks
from tests.helpers.training_checks import assert_person, assert_window, build, only_2d, padded_box, write_list
from tfds_builders.sources import joint_sets
from tfds_builders.sources import rows as rows_lib

no_workers = pytest.fixture(autouse=True)(training_checks.no_workers)
archive = pytest.fixture(params=["lsp"])(training_checks.archive)

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
            assert_window(row, training_archives.read_image(root / folder / f"images/im{i + 1:04d}.jpg"))
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


@pytest.mark.parametrize(("archive", "folder"), [("coco2014", "train2014"), ("mpii", "images")], indirect=["archive"])
def test_images_may_be_unpacked_into_a_folder_of_their_own(archive, folder):
    root, _ = archive
    (root / folder).rename(root / "unpacked")
    (root / folder).mkdir()
    (root / "unpacked").rename(root / folder / folder)
    assert len(build("mpii" if folder == "images" else "coco2014", root)[0]["train"]) > 1


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
    paths = cast(Any, builder).as_data_source("train")
    for row, linked in zip(images["train"], paths, strict=True):
        assert set(row) == set(linked)
        for key, value in row.items():
            np.testing.assert_array_equal(value, linked[key], err_msg=key)


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
def test_a_path_that_could_not_be_read_is_refused_while_the_set_is_built(archive, tmp_path):
    """Links are followed that stand directly in the archive; this one is a folder further down."""
    root, _ = archive
    (root / "train2014").rename(tmp_path / "disk")
    (tmp_path / "put_together" / "coco").mkdir(parents=True)
    for path in root.iterdir():
        path.rename(tmp_path / "put_together" / "coco" / path.name)
    (tmp_path / "put_together" / "coco" / "train2014").symlink_to(tmp_path / "disk")
    options = {"manual_dir": tmp_path / "put_together", "store": "path"}
    with pytest.raises(
        tfds_builders.BuildError, match=r"coco/train2014/.* leads out .*as --manual_dir, or use store=window"
    ):
        tfds_builders.build("coco2014", tmp_path / "data", **options)
    options["manual_dir"] = tmp_path / "put_together" / "coco"
    builder = tfds_builders.build("coco2014", tmp_path / "data", **options)
    assert cast(Any, builder).as_data_source("train")[0]["image"].ndim == 3


# SPIN's lists


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
