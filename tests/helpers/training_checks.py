"""What the tests of the training sets share: building in this process, and values computed by loops."""

from typing import Any

import numpy as np

import tfds_builders
from tests.helpers import small_sets, training_archives
from tfds_builders import archives, workers

WRITERS = {
    "lsp": training_archives.write_lsp,
    "lspet": training_archives.write_lspet,
    "mpii": training_archives.write_mpii,
    "coco2014": training_archives.write_coco,
}


def no_workers(monkeypatch):
    """A fixture: no worker processes, which take seconds to start."""
    monkeypatch.setattr(workers, "pool", small_sets.in_process)


def archive(request, tmp_path):
    """A fixture: the archive of a set, and the numbers in it."""
    root = tmp_path / "archive"
    root.mkdir()
    return root, WRITERS[request.param](root)


def build(name, root, **options) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """Builds a set; its examples by split, and its report."""
    builder = tfds_builders.build(name, root.parent / "data", manual_dir=root, **options)
    source: Any = builder.as_data_source()  # TFDS gives the type of one split, not of all.
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
