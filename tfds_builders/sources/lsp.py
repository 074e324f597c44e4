"""Leeds Sports Pose (Johnson and Everingham, 2010) and its extended training set (2011): `joints.mat` of each archive."""

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from tfds_builders.archives import Skip
from tfds_builders.sources import joint_sets, mat, rows
from tfds_builders.sources.rows import Row

SPLIT_AT = 1000  # The first thousand images are for training, the others for testing.


def lsp(folder: pathlib.Path, split: str, split_at: int) -> list[Row | Skip]:
    """The people of one half of LSP; all 14 joints are annotated (the third number of `joints` says: occluded).

    Args:
      folder: of the archive, with `images/im0001.jpg ...` and `joints.mat`, whose `joints` are (3, 14, N).
      split: "train", the first `split_at` images, or "test", the others.
      split_at: images for training.

    Raises:
      mat.MatError: `joints.mat` cannot be used.
    """
    joints = _joints(folder / "joints.mat", (3, 14)).transpose(2, 1, 0)
    indices = range(len(joints))[:split_at] if split == "train" else range(len(joints))[split_at:]
    valid = np.ones(14)
    return [_row(f"lsp/{split}/im{i + 1:04d}", f"images/im{i + 1:04d}.jpg", joints[i], valid) for i in indices]


def lspet(folder: pathlib.Path, unlabelled: str = "drop") -> list[Row | Skip]:
    """The people of LSPET, one for every image that is there.

    Args:
      folder: of the archive: `im00001.png ...` (high resolution) and `joints.mat`, whose `joints` are (14, 3, N), the
        third number 1 where the joint is labelled.
      unlabelled: "drop" takes only labelled joints for annotated; "keep" takes all 14, as SPIN does.

    Raises:
      mat.MatError: `joints.mat` cannot be used, or has fewer people than the highest number of an image.
    """
    joints = _joints(folder / "joints.mat", (14, 3)).transpose(2, 0, 1)
    images = numbered(folder, ".png")
    if images and images[-1][0] > len(joints):
        raise mat.MatError(
            f"{folder / 'joints.mat'} has {len(joints)} people, but there is an image {images[-1][1].name}. "
            "The high-resolution and the small archive have different files of these names: keep them apart."
        )
    result: list[Row | Skip] = []
    for number, path in images:
        person = joints[number - 1]
        valid = np.ones(14) if unlabelled == "keep" else (person[:, 2] > 0).astype(float)
        result.append(_row(f"lspet/train/{path.stem}", path.relative_to(folder).as_posix(), person, valid))
    there = {number for number, _ in images}
    return result + [Skip("no image", f"im{i:05d}") for i in range(1, len(joints) + 1) if i not in there]


def numbered(folder: pathlib.Path, suffix: str) -> Sequence[tuple[int, pathlib.Path]]:
    """The images `im<number><suffix>` of a folder in the order of their numbers."""
    names = [(re.fullmatch(rf"im(\d+){re.escape(suffix)}", path.name), path) for path in folder.glob(f"im*{suffix}")]
    return sorted((int(match[1]), path) for match, path in names if match)


def _joints(path: pathlib.Path, leading: tuple[int, int]) -> np.ndarray:
    joints = np.asarray(mat.read_v5(path, ["joints"])["joints"])
    if joints.ndim != 3 or joints.shape[:2] != leading or joints.dtype.kind not in "iuf":
        raise mat.MatError(
            f"joints of {path} are {joints.shape} {joints.dtype}; they should be {(*leading, 'N')} numbers. LSP has "
            "(3, 14, N), LSPET (14, 3, N): is it the file of the other archive?"
        )
    return joints.astype(np.float64)


def _row(name: str, image: str, person: np.ndarray, valid: np.ndarray) -> Row | Skip:
    both, _ = joint_sets.to_j24(np.concatenate([person[:, :2], valid[:, None]], axis=1), joint_sets.LSP14)
    return rows.row(name, image, both[:, :2], both[:, 2].astype(np.float32))
