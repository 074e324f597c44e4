"""What training sees of the labels of a set: 3D labels withheld, fits in place of missing ones, and the place of an example.

Each class is a source of records (docs/interfaces.md, section 1) around another one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from multibodies_jax.data import augment, fit_files


class _Changed(Sequence):
    """Another source whose records are changed as they are read."""

    def __init__(self, source: Sequence[augment.Record]):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} examples, no example {index}.")
        return self._changed(int(index), self._source[index])

    def _changed(self, index: int, record: augment.Record) -> dict[str, Any]:
        raise NotImplementedError


class Withheld(_Changed):
    """A source of which a share of the examples has lost its 3D labels (joints and SMPL); the hash of an example decides."""

    def __init__(self, source: Sequence[augment.Record], share: float):
        super().__init__(source)
        self._share = share

    def _changed(self, index: int, record: augment.Record) -> dict[str, Any]:
        if int(augment.example_hash(augment.example_id(record))) >= self._share * 2**32:
            return dict(record)
        lost = ("joints3d", "joints3d_valid", "pose", "betas", "smpl_valid")
        return {**record, **{name: np.zeros_like(record[name]) for name in lost}}


class WithFits(_Changed):
    """A source whose examples without SMPL parameters have those of valid fits, row by row."""

    def __init__(self, source: Sequence[augment.Record], fits: fit_files.Fits):
        """Joins fits to a source.

        Raises:
          ValueError: they are fewer or more.
        """
        if len(fits.valid) != len(source):
            raise ValueError(f"There are {len(fits.valid)} fits and {len(source)} examples; one for each is needed.")
        super().__init__(source)
        self._fits = fits

    def _changed(self, index: int, record: augment.Record) -> dict[str, Any]:
        if record["smpl_valid"] > 0 or not self._fits.valid[index]:
            return dict(record)
        pose, betas = self._fits.pose[index].astype(np.float32), self._fits.betas[index].astype(np.float32)
        return {**record, "pose": pose, "betas": betas, "smpl_valid": np.float32(1)}


class Numbered(_Changed):
    """A source whose records have their `place` among those of all sets; `first` is that of the first one."""

    def __init__(self, source: Sequence[augment.Record], first: int):
        super().__init__(source)
        self._first = first

    def _changed(self, index: int, record: augment.Record) -> dict[str, Any]:
        return {**record, "place": np.int32(self._first + index)}
