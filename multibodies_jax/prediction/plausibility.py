"""Finds what is implausible in a prediction, which is written all the same, with a warning (docs/usage.md)."""

from collections.abc import Mapping

import numpy as np

from multibodies_jax.geometry import boxes

MUCH_LARGER = 3.0
"""A body that spans more sides of its crop than this does not belong to the person in it."""

_NEAREST = 1e-3  # Metres.
_ONE_PLACE_PX = 1.0


def warnings(record: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence on each thing that is implausible of one person and the chosen bodies; none where nothing is.

    Args:
      record: of `prediction_file.choose`: `keypoints`, `image_size`, `box_center`, `box_scale`, `intrinsics`, and of the
        chosen bodies `cam` and `joints24_camera`.
    """
    found = [_whole_outside(record), _in_one_place(record)]
    behind = record["cam"][:, 0] <= 0
    found.append(_bodies(behind, "have a camera whose scale is not positive, as if they stood behind it"))
    found.append(
        _bodies(~behind & (_sides(record) > MUCH_LARGER), "are several times larger than the box of the person")
    )
    return [sentence for sentence in found if sentence]


def _whole_outside(record: Mapping[str, np.ndarray]) -> str:
    size, known = record["image_size"], record["keypoints"][:, 2] > 0
    if known.any():
        points = record["keypoints"][known, :2]
        outside = not np.any(np.all((points >= 0) & (points <= size), axis=1))
    else:
        half = boxes.half_side(record["box_scale"])
        outside = bool(np.any((record["box_center"] + half <= 0) | (record["box_center"] - half >= size)))
    return f"The person is wholly outside the image of {size[0]} x {size[1]} pixels." if outside else ""


def _in_one_place(record: Mapping[str, np.ndarray]) -> str:
    points = record["keypoints"][record["keypoints"][:, 2] > 0, :2]
    if len(points) < 2 or np.any(np.ptp(points, axis=0) > _ONE_PLACE_PX):
        return ""
    x, y = points[0]
    return f"All {len(points)} known joints lie in one place, ({x:.0f}, {y:.0f}), as where none was found."


def _sides(record: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of each chosen body: how many sides of the crop its joints span; those that are known, where there are several."""
    points, focal_px = record["joints24_camera"], float(record["intrinsics"][0, 0])
    known = record["keypoints"][:, 2] > 0
    points = points[:, known] if known.sum() > 1 else points
    xy = focal_px * points[..., :2] / np.maximum(points[..., 2:], _NEAREST)
    return (xy.max(axis=1) - xy.min(axis=1)).max(axis=1) / (boxes.SIDE * float(record["box_scale"]))


def _bodies(implausible: np.ndarray, what: str) -> str:
    ranks = ", ".join(str(rank) for rank in np.flatnonzero(implausible))
    return f"Of the {len(implausible)} bodies, {ranks} {what}." if ranks else ""
