"""Reads NASA Common Data Format files, in which Human3.6M keeps its poses.

They are read in a process of its own (`contained`): cdflib loops on some damaged files.
"""

import pathlib

import cdflib
import numpy as np

from multibodies_jax import contained

_MAGIC = (b"\xcd\xf3\x00\x01", b"\xcd\xf2\x60\x02", b"\x00\x00\xff\xff")  # Versions 3, 2.6, before.
SECONDS = 60.0
_MEMORY, _MEMORY_PER_BYTE = 2**30, 50


class CdfError(ValueError):
    """A file that is not CDF, is damaged, or lacks the variable; the message names it."""


def read(path: pathlib.Path, name: str) -> np.ndarray:
    """One variable of a CDF file: (records, dimensions...), in the type it is stored in.

    Raises:
      CdfError: it is no CDF file, it is cut short, or it has no such variable.
      FileNotFoundError: there is no such file.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    if start not in _MAGIC:
        raise CdfError(f"{path} is no CDF file: it starts with {start!r}.")
    try:
        memory = _MEMORY + _MEMORY_PER_BYTE * path.stat().st_size
        known, values = contained.call(load, str(path), name, seconds=SECONDS, memory=memory)
    except (contained.ContainedError, OSError) as error:
        raise CdfError(f"{path} is a damaged CDF file ({error}). Unpack or download it again.") from error
    if values is None:
        raise CdfError(f"{path} has no variable {name!r}; it has {', '.join(known) or 'none'}.")
    return values


def load(path: str, name: str) -> tuple[list[str], np.ndarray | None]:
    """The names of all variables, and the one asked for. Only for `contained.call`: it may never end."""
    file = cdflib.CDF(pathlib.Path(path))
    info = file.cdf_info()
    known = [*info.zVariables, *info.rVariables]
    return known, np.asarray(file.varget(name)) if name in known else None
