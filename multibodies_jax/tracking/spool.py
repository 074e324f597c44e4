"""Rows of fixed size that are appended to a temporary file and read from there, so that memory does not grow."""

import pathlib
import tempfile
from typing import Any

import numpy as np


class Spool:
    """An array on disk that grows by rows; the file has no name and vanishes with the object.

    Args:
      dtype: of a row, a structured type.
      folder: of the file.
    """

    def __init__(self, dtype: np.dtype[Any], folder: pathlib.Path):
        self._dtype = dtype
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it is closed with the object)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: np.ndarray) -> None:
        """Adds one row.

        Args:
          row: of the type of the spool, without axes.

        Raises:
          ValueError: it is of another type.
          OSError: the disk is full.
        """
        if row.dtype != self._dtype or row.shape:
            raise ValueError(f"A row of this spool is one {self._dtype}; got {row.dtype} of the shape {row.shape}.")
        self._file.write(row.tobytes())
        self._count += 1

    def rows(self) -> np.ndarray:
        """All rows so far, read from disk where they are used; read-only."""
        if not self._count:
            return np.empty(0, self._dtype)
        self._file.flush()
        return np.memmap(self._file, self._dtype, mode="r", shape=(self._count,))
