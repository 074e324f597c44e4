"""Reads the boxes of Human3.6M, which are masks in MATLAB v7.3 files (HDF5).

They are read in a process of its own (`contained`), which sends the boxes and no masks.
"""

import pathlib
from collections.abc import Sequence

import h5py
import numpy as np
from jaxtyping import Float

from multibodies_jax import contained, untrusted

_SECONDS, _SECONDS_PER_FRAME, _MEMORY = 60.0, 0.2, 2**30  # A mask of a million pixels takes some milliseconds.


class MaskError(ValueError):
    """A file of masks that cannot be used; the message names it."""


def read(path: pathlib.Path, frames: Sequence[int]) -> Float[np.ndarray, "N 4"]:
    """The boxes x0, y0, x1, y1 of some frames, in pixels; NaN where the mask is empty, or there are fewer masks.

    The file has a mask (W, H) for every frame, 1 in the box; the box reaches to the outer edges of its pixels.

    Args:
      path: the file.
      frames: by index from 0.

    Raises:
      MaskError: the file is missing, damaged, or holds something else.
    """
    if path.exists() and not h5py.is_hdf5(path):
        raise MaskError(f"{path} is no MATLAB v7.3 (HDF5) file, but the official one is.")
    try:
        seconds = _SECONDS + _SECONDS_PER_FRAME * len(frames)
        return contained.call(load, str(path), list(frames), seconds=seconds, memory=_MEMORY)
    except contained.ContainedError as error:
        raise MaskError(f"{path} is missing or damaged ({error}).") from error


def load(path: str, frames: list[int]) -> np.ndarray:
    """As `read`. Only for `contained.call`: HDF5's library may crash on a damaged file."""
    result = np.full((len(frames), 4), np.nan)
    with h5py.File(path, "r") as file:
        masks = untrusted.hdf5_dataset(file, "Masks") if "Masks" in file else None
        if not isinstance(masks, h5py.Dataset) or h5py.check_ref_dtype(masks.dtype) is None:
            raise ValueError(f"it has no `Masks` of references to masks; it has {', '.join(file) or 'nothing'}")
        references = np.asarray(masks).ravel()
        for place, frame in enumerate(frames):
            if frame >= len(references) or not references[frame]:
                continue
            try:
                inside = np.asarray(untrusted.own_hdf5(file[references[frame]], f"mask {frame}")).T == 1
            except (OSError, ValueError, KeyError) as error:
                raise ValueError(f"mask {frame}: {error}") from error
            if inside.ndim == 2 and inside.any():  # MATLAB stores an empty array as its size, a vector.
                rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
                result[place] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return result
