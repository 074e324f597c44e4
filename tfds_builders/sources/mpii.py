"""MPII Human Pose (Andriluka et al., 2014): the official .mat, the JSON of pose estimators, the HDF5 of Stacked Hourglass."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from multibodies_jax import untrusted
from tfds_builders.archives import Skip
from tfds_builders.sources import joint_sets, mat, rows
from tfds_builders.sources.rows import Row

# What Stacked Hourglass did to every box before it wrote train.h5, which SPIN's boxes come from.
_LOWERED_PX, _ENLARGED = 15.0, 1.25

_ARRAYS = ("imgname", "center", "scale", "part")  # Of train.h5.


def read_mat(path: pathlib.Path) -> list[Row | Skip]:
    """The people of the training images of the official release, in its order.

    As in SPIN, a person counts where all 16 joints have positive coordinates; the box is the annotated one, lowered and
    enlarged as in `train.h5`.

    Args:
      path: `mpii_human_pose_v1_u12_1.mat`.

    Raises:
      mat.MatError: it cannot be used.
    """
    release = mat.read_v5(path, ["RELEASE"], squeeze_me=True, struct_as_record=False)["RELEASE"]
    try:
        pairs = list(zip(_list(release.annolist), np.atleast_1d(release.img_train), strict=True))
        return [row for entry, train in pairs if train for row in _people_of_image(entry)]
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise mat.MatError(f"RELEASE of {path} is not as in the official release ({error}).") from error


def read_json(path: pathlib.Path) -> list[Row | Skip]:
    """As `read_mat`, from `train.json`: a list of people with image, center, scale, joints and joints_vis."""
    people = untrusted.read_json(path, list, "Download it again.")
    result, counts = [], {}
    for index, person in enumerate(people):
        try:
            image = str(person["image"])
            joints = np.asarray(person["joints"], np.float64).reshape(16, 2)
            seen = np.asarray(person["joints_vis"], np.float64).reshape(16) > 0
            box = _adjusted(np.asarray(person["center"], np.float64).reshape(2), float(person["scale"]))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: person {index} is not as in MPII's JSON ({error!r}).") from error
        counts[image] = counts.get(image, -1) + 1
        result.append(_row(image, counts[image], np.where(seen[:, None], joints, 0.0), box))
    return result


def read_h5(path: pathlib.Path) -> list[Row | Skip]:
    """As `read_mat`, from `train.h5`: whole pixels, and boxes that are lowered and enlarged already."""
    try:
        arrays = mat.read_v73(path, _ARRAYS)  # Such a file is HDF5, too.
    except mat.MatError as error:
        raise ValueError(f"{path} is not Stacked Hourglass's train.h5 ({error}).") from error
    names, center, scale, part = (arrays[key] for key in _ARRAYS)
    shapes = {"center": (len(names), 2), "scale": (len(names),), "part": (len(names), 16, 2)} if names.ndim == 1 else {}
    right = shapes and all(
        arrays[key].shape == shape and arrays[key].dtype.kind in "iuf" for key, shape in shapes.items()
    )
    if not right or names.dtype.kind != "S":
        raise ValueError(
            f"{path}: imgname {names.dtype} {names.shape} and part {part.shape}; expected text (N,) and (N, 16, 2). A newer "
            "`annot.h5` has other boxes: use mpii/official or mpii/json."
        )
    result, counts = [], {}
    for name, *person in zip(names, part, center, scale, strict=True):
        image = name.decode("utf-8", "replace")
        counts[image] = counts.get(image, -1) + 1
        result.append(_row(image, counts[image], person[0], (person[1], float(person[2]))))
    return result


def _people_of_image(entry: Any) -> Iterator[Row | Skip]:
    image = str(entry.image.name)
    for index, person in enumerate(_list(getattr(entry, "annorect", []))):
        points = _list(getattr(getattr(person, "annopoints", None), "point", []))
        position, scale = getattr(person, "objpos", None), getattr(person, "scale", None)
        name = _name(image, index)
        if not points:
            yield Skip("no annotated joint", name)
        elif position is None or not hasattr(position, "x") or scale is None or np.size(scale) != 1:
            yield Skip("no position or scale", name)
        else:
            joints = np.zeros((16, 2))
            for point in points:
                joints[int(point.id)] = float(point.x), float(point.y)
            center = np.array([float(position.x), float(position.y)])
            yield _row(image, index, joints, _adjusted(center, float(np.asarray(scale).item())))


def _adjusted(center: np.ndarray, scale: float) -> tuple[np.ndarray, float]:
    return center + np.array([0.0, _LOWERED_PX * scale]), scale * _ENLARGED


def _row(image: str, index: int, joints: np.ndarray, box: tuple[np.ndarray, float]) -> Row | Skip:
    name = _name(image, index)
    if not np.all(np.isfinite(joints)):
        return Skip("a joint that is not finite", name)
    if not np.all(joints > 0):
        return Skip("a joint is not annotated", name)
    kp2d, valid = joint_sets.to_j24(joints, joint_sets.MPII16)
    return rows.row(name, image, kp2d, valid, box)


def _name(image: str, index: int) -> str:
    return f"mpii/train/{pathlib.PurePosixPath(image).stem}/{index}"


def _list(value: Any) -> list[Any]:
    """MATLAB's arrays of structs: none is an empty array, one is the struct itself."""
    return list(np.atleast_1d(np.asarray(value, object)).ravel())
