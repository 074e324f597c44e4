"""Reads files of SMPL poses of several layouts as clips; nothing in the files is trusted."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax import untrusted

FRAMES_PER_SECOND = 10.0  # Motion capture is thinned to about this: neighbouring frames teach nothing.

_AGAIN = (
    "It has to be plain NumPy arrays, without pickled objects; if it was downloaded, download it again, and if you trust "
    "it, store each array again with its own type."
)
_LARGEST_RADIANS = 1.5 * 2 * math.pi
_FORMATS = (
    "AMASS .npz files (poses and mocap_framerate; with SMPL-X also root_orient and pose_body), a folder of them, or a "
    ".npy or .npz array of SMPL axis-angles of the shape (N, 72) or (N, 24, 3), or (N, 69) or (N, 23, 3) without root"
)


@dataclasses.dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
      name: for people; unique within what is read.
      subject: the person recorded, as far as the file tells.
      poses: axis-angle, radians.
      up: the axis of the file's world that points up ("y" or "z"), "any" if the file does not say, or "none" if there
        was no root.
      step: every step-th frame of the file is here.
    """

    name: str
    subject: str
    poses: Float[np.ndarray, "N 24 3"]
    up: str
    step: int = 1


def read(path: str | Path) -> list[Clip]:
    """Reads the clips of a file or a folder.

    A folder is searched for AMASS files, `<subset>/<subject>/<name>_poses.npz`; shapes and marker fits (`shape.npz`,
    `*_stagei.npz`) among them are passed over.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: what is there cannot be used; the message says what it has and what it should have.
    """
    path = Path(path)
    if path.is_dir():
        files = amass_files(path)
        if not files:
            raise FileNotFoundError(f"The folder {path} has no AMASS .npz files in it. Readable are {_FORMATS}.")
        return [read_amass(file) for file in files]
    if not path.is_file():
        raise FileNotFoundError(f"No file of poses at {path}. Readable are {_FORMATS}.")
    if path.suffix == ".npy":
        return _array_clips(path, {"poses": untrusted.read_npy(path, _AGAIN)})
    if path.suffix != ".npz":
        raise ValueError(f"{path} is no file of poses by its ending. Readable are {_FORMATS}.")
    with untrusted.open_npz(path, _AGAIN) as arrays:
        return [_amass_clip(path, arrays)] if _frame_rate_key(arrays) else _array_clips(path, arrays)


def amass_files(folder: Path) -> list[Path]:
    """The recordings in a folder and all its folders, in the order of their names."""
    return [
        path
        for path in untrusted.files_below(folder)
        if path.suffix == ".npz" and path.name != "shape.npz" and not path.stem.endswith("_stagei")
    ]


def read_amass(path: Path, frames_per_second: float = FRAMES_PER_SECOND, rate: float | None = None) -> Clip:
    """One recording of AMASS.

    Args:
      path: a file of SMPL-H or SMPL-X parameters.
      frames_per_second: it is thinned to about this rate.
      rate: of the recording, where the file is known to state a wrong one.

    Raises:
      ValueError: as `read`.
    """
    with untrusted.open_npz(path, _AGAIN) as arrays:
        return _amass_clip(path, arrays, frames_per_second, rate)


def _names(arrays: Mapping[str, Any]) -> str:
    return ", ".join(arrays) or "no arrays"


def _frame_rate_key(arrays: Mapping[str, Any]) -> str | None:
    return next((key for key in ("mocap_framerate", "mocap_frame_rate") if key in arrays), None)


def _amass_clip(
    path: Path,
    arrays: Mapping[str, Any],
    frames_per_second: float = FRAMES_PER_SECOND,
    known_rate: float | None = None,
) -> Clip:
    """A recording of AMASS (Mahmood et al., 2019): z up; of SMPL-H and SMPL-X the body's 22 joints are kept."""
    key = _frame_rate_key(arrays)
    if key is None:
        raise ValueError(f"{path} has no mocap_framerate, which every AMASS recording has; it has {_names(arrays)}.")
    rate = np.asarray(arrays[key] if known_rate is None else known_rate)
    if rate.size != 1 or rate.dtype.kind not in "iuf" or not 0 < float(rate.reshape(())) < math.inf:
        raise ValueError(f"{key} of {path} has to be one positive number, got {rate!r}.")
    step = max(1, round(float(rate.reshape(())) / frames_per_second))
    if "pose_body" in arrays and "root_orient" in arrays:
        parts = [arrays["root_orient"], arrays["pose_body"]]
        if any(part.ndim != 2 or len(part) != len(parts[0]) for part in parts):
            raise ValueError(
                f"root_orient and pose_body of {path} are {[p.shape for p in parts]}, not (T, 3), (T, 63)."
            )
        body = np.concatenate(parts, axis=1)
    elif "poses" in arrays:
        body = arrays["poses"]
    else:
        raise ValueError(f"{path} has no poses; it has {_names(arrays)}. Readable are {_FORMATS}.")
    if body.ndim != 2 or body.shape[1] < 66 or body.shape[1] % 3:
        raise ValueError(f"The poses of {path} are {body.shape}; AMASS has (T, 156), its 72 of SMPL or 165 of SMPL-X.")
    body = _checked(path, body[::step, :66]).reshape(-1, 22, 3)
    poses = np.concatenate([body, np.zeros((len(body), 2, 3), np.float32)], axis=1)  # AMASS's hands are fingers.
    folders = Path(os.path.abspath(path)).parts[-3:-1]  # Where it is, also if it is a link to a store without subjects.
    return Clip("/".join((*folders, path.stem)), "/".join(folders), poses, "z", step)


def _array_clips(path: Path, arrays: Mapping[str, Any]) -> list[Clip]:
    """Plain poses; with `clip` (one index per frame) and `clip_name` also which recording a frame is from, y up."""
    key = next((k for k in ("poses", "pose") if k in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if key is None:
        raise ValueError(f"{path} holds {_names(arrays)}, none of which is called poses. Readable are {_FORMATS}.")
    if told := untrusted.misspelt(arrays, (key, "clip", "clip_name", "mocap_framerate")):
        raise ValueError(f"{path} {told}. {_AGAIN}")
    poses, has_root = _full_poses(path, arrays[key])
    if "clip" not in arrays or "clip_name" not in arrays:
        return [Clip(path.stem, path.stem, poses, "any" if has_root else "none")]
    index, clip_names = np.asarray(arrays["clip"]), [str(name) for name in np.atleast_1d(arrays["clip_name"])]
    fits = index.shape == (len(poses),) and index.dtype.kind in "iu"
    if not fits or index.min() < 0 or index.max() >= len(clip_names):
        raise ValueError(
            f"clip of {path} has to hold, for each of {len(poses)} frames, an index into the {len(clip_names)} "
            f"clip_name; got an array {index.dtype} of the shape {index.shape}."
        )
    up = "y" if has_root else "none"
    return [
        Clip(name, _subject(name), poses[index == k], up) for k, name in enumerate(clip_names) if (index == k).any()
    ]


def _subject(clip_name: str) -> str:
    """CMU's clips are called <subject>_<trial>; another clip is a subject of its own."""
    match = re.match(r"(\d+)_\d+", clip_name)
    return match[1] if match else clip_name


def _full_poses(path: Path, array: np.ndarray) -> tuple[Float[np.ndarray, "N 24 3"], bool]:
    """The 24 rotations of a plain array, and whether the root was among them."""
    size = int(np.prod(array.shape[1:]))
    flat = array.ndim == 2 and size in (69, 72)
    if not flat and array.shape[1:] not in ((23, 3), (24, 3)):
        raise ValueError(f"The poses of {path} have the shape {array.shape}. Readable are {_FORMATS}.")
    poses = _checked(path, array).reshape(len(array), -1, 3)
    has_root = poses.shape[1] == 24
    return poses if has_root else np.pad(poses, ((0, 0), (1, 0), (0, 0))), has_root


def _checked(path: Path, array: np.ndarray) -> Float[np.ndarray, "..."]:
    """The numbers as float32, if they can be angles in radians."""
    if array.dtype.kind not in "iuf":
        raise ValueError(f"The poses of {path} are of type {array.dtype}; numbers are expected.")
    if not len(array):
        raise ValueError(f"{path} has no frames.")
    bad = ~np.isfinite(array).reshape(len(array), -1).all(1)
    if bad.any():
        raise ValueError(
            f"{path} has {np.count_nonzero(bad)} frames with NaN or infinity, the first is {int(bad.argmax())}. "
            "Remove them first."
        )
    largest = float(np.abs(array).max())
    if largest > _LARGEST_RADIANS:
        raise ValueError(
            f"The largest number in the poses of {path} is {largest:.4g}; axis-angles in radians stay below "
            f"{_LARGEST_RADIANS:.3g}. If these are degrees, convert them with numpy.radians; translations and Euler "
            "angles are no poses."
        )
    return array.astype(np.float32)
