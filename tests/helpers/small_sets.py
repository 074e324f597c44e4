"""Tiny synthetic sets, built once for all tests of a run and all of its workers, and building without worker processes."""

import contextlib
import functools
import pathlib
import tempfile
from typing import Any

import pytest

import tfds_builders
from multibodies_jax import io
from tfds_builders import workers

OPTIONS: dict[str, Any] = {"num_train": 12, "num_validation": 4, "num_test": 7, "num_people": 40, "image_size": 64}


@contextlib.contextmanager
def in_process(num_processes=None):
    """Stands in for `workers.pool`: maps in this process, because workers take seconds to start."""
    yield map


@functools.cache
def data_dir() -> pathlib.Path:
    """A folder with `synthetic_poses` and `synthetic_bodies`, clean and ambiguous, of `OPTIONS`, which tests must not change."""
    folder = pathlib.Path(tempfile.gettempdir()) / "small_sets" / "data"  # Of this run of the tests; see `scratch`.
    with io.lock(folder.with_name("lock")):
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch, io.new_folder(folder) as new:
                patch.setattr(workers, "pool", in_process)
                for name in ("synthetic_poses", "synthetic_bodies/ambiguous"):  # The latter is made from the clean one.
                    tfds_builders.build(name, new, **OPTIONS)
    return folder
