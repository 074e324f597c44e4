"""Reads MATLAB files. There are two formats under one ending: v5, and v7.3, which is HDF5.

Both are read in a process of their own (`contained`): SciPy ends the interpreter on some damaged files.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np
import scipy.io

from multibodies_jax import contained, untrusted

_SECONDS, _SECONDS_PER_MB = 60.0, 10.0
_MEMORY, _MEMORY_PER_BYTE = 2**31, 100  # Structs of MPII take 70 times their file.


class MatError(ValueError):
    """A .mat file that cannot be used; the message names it and says what it should be."""


def read_v5(path: pathlib.Path, names: Sequence[str], **settings: Any) -> dict[str, Any]:
    """Some variables of a file of MATLAB v5 to v7.

    Args:
      path: the file.
      names: of the variables; only these are read.
      **settings: of `scipy.io.loadmat`, for instance `squeeze_me` and `struct_as_record`.

    Raises:
      MatError: it is a file of v7.3, damaged, or lacks a variable.
    """
    if h5py.is_hdf5(path):
        raise MatError(
            f"{path} is a MATLAB v7.3 (HDF5) file, but the official one is v5. Download it again, or save it with "
            "save(..., '-v7') in MATLAB."
        )
    try:
        there, content = _contained(path, load_v5, names, settings)
    except (contained.ContainedError, OSError) as error:
        raise MatError(f"{path} cannot be read as a MATLAB v5 file ({error}). Download it again.") from error
    _check_names(path, there, content, names)
    return content


def load_v5(path: str, names: Sequence[str], settings: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The names of all variables, and those asked for that are there. Only for `contained.call`: it may crash."""
    there = [name for name, *_ in scipy.io.whosmat(path)]
    content = scipy.io.loadmat(path, variable_names=list(names), **settings)
    return there, {name: content[name] for name in names if name in content}


def read_v73(path: pathlib.Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Some arrays of a file of MATLAB v7.3, in the order of axes that HDF5 has: the reverse of MATLAB's.

    Args:
      path: the file.
      names: of the variables; only these are read.
      optional: variables that may be absent; then the result lacks them.

    Raises:
      MatError: it is a file of v5, damaged, or lacks a variable.
    """
    if not h5py.is_hdf5(path):
        raise MatError(
            f"{path} is no MATLAB v7.3 (HDF5) file, but the official one is. Download it again, or save it with "
            "save(..., '-v7.3') in MATLAB."
        )
    try:
        there, content = _contained(path, load_v73, (*names, *optional))
    except (contained.ContainedError, OSError) as error:
        raise MatError(f"{path} is a damaged HDF5 file ({error}). Download it again.") from error
    if told := untrusted.misspelt(there, (*names, *optional)):
        raise MatError(f"{path} {told}. Download it again.")
    _check_names(path, there, content, names)
    return content


def load_v73(path: str, names: Sequence[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """As `load_v5`."""
    with h5py.File(path, "r") as file:
        # h5py gives a damaged name that is no UTF-8 as bytes.
        there = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in file]
        return there, {name: np.asarray(untrusted.hdf5_dataset(file, name)) for name in names if name in there}


def _contained(path: pathlib.Path, load: Callable[..., Any], *args: Any) -> Any:
    """The result of a loader, with limits that grow with the file."""
    size = path.stat().st_size
    limits = {"seconds": _SECONDS + _SECONDS_PER_MB * size / 1e6, "memory": _MEMORY + _MEMORY_PER_BYTE * size}
    return contained.call(load, str(path), *args, **limits)


def _check_names(path: pathlib.Path, there: Sequence[str], content: dict[str, Any], wanted: Sequence[str]) -> None:
    """Refuses a file without a variable that is wanted; a damaged one may list a name whose variable cannot be found."""
    if not (lacking := [name for name in wanted if name not in content]):
        return
    if damaged := [name for name in lacking if name in there]:
        raise MatError(f"{path} is damaged: its variable {', '.join(damaged)} cannot be found. Download it again.")
    found = ", ".join(name for name in there if not name.startswith("#")) or "nothing"
    raise MatError(f"{path} has no variable {', '.join(lacking)}; it has {found}. Is it another file of the same name?")
