"""The crops that the authors of 3D Multi-bodies tested on, joined with the examples of a set.

The crops have no names: row i belongs to row i of a list of theirs (`spin_npz`). A row is found again by its image and,
as two people may share one, by the body.
"""

import collections
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.data import spin_lists

_SAME_POSE = 1e-3  # Radians: both copies come from the same numbers.
_SAME_JOINTS = 0.01  # Metres.
_PELVIS = 14  # Of J24.


@dataclasses.dataclass(frozen=True)
class Files:
    """The list, and the crops of its rows.

    Attributes:
      rows: path of the list.
      crops: path of the crops.
      changed: when they were; files that were written anew are read anew.
    """

    rows: pathlib.Path
    crops: pathlib.Path
    changed: tuple[int, int]

    @classmethod
    def at(cls, rows: pathlib.Path, crops: pathlib.Path) -> "Files":
        """The files as they are now."""
        return cls(rows, crops, (rows.stat().st_mtime_ns, crops.stat().st_mtime_ns))


def box_of(files: Files, builder: Any, record: dict[str, Any]) -> tuple[Float[np.ndarray, "2"], float] | None:
    """The centre and scale of the crop of an example; None where the list has no such image.

    Args:
      files: of the authors.
      builder: `image_of(imgname)` says how example ids of an image begin.
      record: the example, as stored.

    Raises:
      ValueError: a file cannot be used, or the list has the image but no person with this pose in it.
    """
    rows, center, scale, by_image = _read(files, builder)
    name = record["example_id"].decode()
    candidates = by_image.get(name) or by_image.get(name.rpartition("/")[0])
    if not candidates:
        return None
    distances = [_difference(rows, row, record) for row in candidates]
    best = int(np.argmin(distances))
    if distances[best] > 1:
        raise ValueError(
            f"{files.rows.name} lists the image of {name} in row {candidates[best]}, but with another person or pose "
            f"({distances[best]:.1f} times the tolerance). The list and the set are not of the same data."
        )
    return center[candidates[best]], float(scale[candidates[best]])


def _difference(rows: spin_lists.Rows, row: int, record: dict[str, Any]) -> float:
    """How far a row is from an example, 1 at the tolerance: by the body, else by 3D joints, else not at all."""
    if rows.smpl_valid[row] > 0 and record["smpl_valid"] > 0:
        return float(np.abs(rows.pose[row, 1:] - record["pose"][1:]).max()) / _SAME_POSE
    both = (rows.joints3d[row, :, 3] > 0) & (record["joints3d_valid"] > 0)
    if not both[_PELVIS]:
        return 0.0
    ours, theirs = (points - points[_PELVIS] for points in (record["joints3d"], rows.joints3d[row, :, :3]))
    return float(np.abs(ours - theirs)[both].max()) / _SAME_JOINTS


@functools.lru_cache(maxsize=1)  # Once per process.
def _read(files: Files, builder: Any) -> tuple[spin_lists.Rows, np.ndarray, np.ndarray, dict[str, list[int]]]:
    rows = spin_lists.read(files.rows)
    center, scale = spin_lists.read_crops(files.crops, rows)
    by_image = collections.defaultdict(list)
    for row, imgname in enumerate(rows.imgname):
        by_image[builder.image_of(imgname)].append(row)
    return rows, center, scale, dict(by_image)
