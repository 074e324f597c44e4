"""Reads NASA Common Data Format files, in which Human3.6M keeps its poses."""

import pathlib

import cdflib
import numpy as np

_MAGIC = (b"\xcd\xf3\x00\x01", b"\xcd\xf2\x60\x02", b"\x00\x00\xff\xff")  # Versions 3, 2.6, before.


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
        file = cdflib.CDF(pathlib.Path(path))
        info = file.cdf_info()
        known = [*info.zVariables, *info.rVariables]
        values = np.asarray(file.varget(name)) if name in known else None
    except Exception as error:  # A file cut short can fail in any way.
        raise CdfError(f"{path} is a damaged CDF file ({error}). Unpack or download it again.") from error
    if values is None:
        raise CdfError(f"{path} has no variable {name!r}; it has {', '.join(known) or 'none'}.")
    return values
