"""Files of fits of SMPL to the examples of a set, row by row: SPIN's `<set>_fits.npy`, and .npz with a flag.

An .npy is (N, 82): 72 of pose (axis-angle, SMPL's order, the root first and in the camera frame) and 10 of shape, of
examples as they are stored, neither turned nor mirrored. An .npz has `pose` (N, 72), `shape` (N, 10) and `valid_fit` (N,).
"""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Bool, Float

from multibodies_jax import io, untrusted

SIZE = 82
"""Numbers of one fit."""

ADVICE = "Fits of SMPL are an .npy (N, 82), or an .npz with pose and shape."
FLAGS = ("has_smpl", "valid_fit", "valid")
"""What files call the rows that have a fit."""

FOLDER = "fits"
"""Of a work directory: the last fits of a training."""

ENDING = "_fits"
"""Of the names of files, before .npy or .npz."""

# SPIN's names of the sets that it trains on.
_OF_SPIN = {
    "h36m": "h36m", "lsp": "lsp-orig", "lspet": "lspet", "mpii": "mpii", "coco2014": "coco", "mpi_inf_3dhp": "mpi-inf-3dhp",
}  # fmt: skip


class FitsError(ValueError):
    """Fits that cannot be used; the message names the file and says what was expected."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fits:
    """Fits of a set, in the order of its examples.

    Attributes:
      pose: axis-angle, the root in the camera frame of the stored example.
      betas: shape.
      valid: whether a fit is good enough to be a label.
    """

    pose: Float[np.ndarray, "N 24 3"]
    betas: Float[np.ndarray, "N 10"]
    valid: Bool[np.ndarray, "N"]


def stem(name: str) -> str:
    """What the file of a set is called without its ending: "mpii/spin" -> "mpii_fits", "a/b" -> "a-b_fits"."""
    first, _, rest = name.partition("/")
    return (_OF_SPIN.get(first) or "-".join(filter(None, (first, rest)))) + ENDING


def find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The file of a set in a folder of fits; None where it has none."""
    return next((path for ending in (".npz", ".npy") if (path := folder / f"{stem(name)}{ending}").is_file()), None)


def read_set(folder: pathlib.Path, name: str, count: int) -> Fits:
    """The fits of a set in a folder of fits, or in the work directory of a training that left some (`FOLDER/fits`).

    Raises:
      FitsError: as `read`, or there is no file of this set; the message says what is there.
    """
    for place in (folder, folder / FOLDER):
        if path := find(place, name):
            return read(path, count)
    there = sorted(path.name for path in folder.glob(f"*{ENDING}.np?")) if folder.is_dir() else []
    raise FitsError(
        f"{folder} has no {stem(name)}.npz or .npy, the fits of {name}, nor has {FOLDER}/ in it; there: "
        f"{', '.join(there) or 'no file of fits'}. It is a folder of SPIN's static_fits, or the work directory of a finished "
        "training with fits."
    )


def read(path: pathlib.Path, count: int | None = None) -> Fits:
    """Reads a file of fits.

    Args:
      path: .npy or .npz.
      count: examples of the set, whose order the rows have; None: not known.

    Raises:
      FitsError: the file cannot be used, has another number of rows, or numbers that are not finite; the message names the
        first such row.
      FileNotFoundError: there is no such file.
    """
    pose, betas, flag = read_arrays(path)
    if count is not None and len(flag) != count:
        raise FitsError(
            f"{path} has {len(flag)} fits and the set has {count} examples. Fits belong to the rows of one set: check that "
            "it is of the same archive, list and options as the one that they were made for."
        )
    bad = ~(np.isfinite(pose).all(axis=1) & np.isfinite(betas).all(axis=1) & np.isfinite(flag))
    if bad.any():
        raise FitsError(
            f"{path}: {bad.sum()} of {len(bad)} fits are not finite; the first is that of row {bad.argmax()} (from 0). Put zeros "
            "there, and into valid_fit of an .npz, where there is no fit."
        )
    return Fits(np.asarray(pose, np.float64).reshape(-1, 24, 3), np.asarray(betas, np.float64), flag > 0)


def read_arrays(
    path: pathlib.Path,
) -> tuple[Float[np.ndarray, "N 72"], Float[np.ndarray, "N 10"], Float[np.ndarray, "N"]]:
    """Poses, shapes and flags of a file, whatever their numbers are; without a flag all are 1.

    Raises:
      FitsError: it is no such file, or its arrays do not fit together.
      FileNotFoundError: there is no such file.
    """
    if path.suffix == ".npz":
        with untrusted.open_npz(path, ADVICE, FitsError) as content:
            if told := untrusted.misspelt(content, ("pose", "shape", "betas", *FLAGS)):
                raise FitsError(f"{path} {told}. {ADVICE}")
            shape = "betas" if "betas" in content and "shape" not in content else "shape"
            if missing := {"pose", shape} - set(content):
                raise FitsError(f"{path} lacks {', '.join(sorted(missing))}. {ADVICE}")
            flag_name = next((key for key in FLAGS if key in content), None)
            pose, betas = content["pose"], content[shape]
            flag = np.ones(np.shape(pose)[:1]) if flag_name is None else content[flag_name]
    else:
        array = np.atleast_2d(untrusted.read_npy(path, ADVICE, FitsError))
        pose, betas, flag = array[:, :72], array[:, 72:], np.ones(len(array))
    if any(array.dtype.kind not in "biuf" for array in (pose, betas, flag)):
        raise FitsError(f"{path} has other arrays than numbers. {ADVICE}")
    n = len(pose) if np.ndim(pose) else 0
    if pose.shape != (n, 72) or betas.shape != (n, 10) or flag.shape != (n,):
        raise FitsError(
            f"{path} has poses {pose.shape}, shapes {betas.shape} and flags {flag.shape}; (N, 72), (N, 10) and (N,) are "
            f"expected. {ADVICE}"
        )
    return pose.astype(np.float64), betas.astype(np.float64), flag.astype(np.float64)


def write(folder: pathlib.Path, name: str, fits: Fits, plain: bool = False) -> pathlib.Path:
    """Writes the fits of a set into a folder: an .npz, or SPIN's .npy in float64, which has no flag; returns its path."""
    pose = fits.pose.reshape(-1, 72)
    if plain:
        path = folder / f"{stem(name)}.npy"
        with io.replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate([pose, fits.betas], axis=1, dtype=np.float64))
        return path
    path = folder / f"{stem(name)}.npz"
    io.write_npz(path, {"pose": pose, "shape": fits.betas, "valid_fit": fits.valid.astype(np.uint8)})
    return path
