"""The tiny experiment, trained once for all tests of a run and all of its workers."""

import functools
import pathlib
import tempfile

import pytest

from multibodies_jax import io
from multibodies_jax.data import sources
from multibodies_jax.training import loop
from tests.helpers import tiny


@functools.cache
def workdir() -> pathlib.Path:
    """A finished work directory of `tiny.config()` with all stages, which tests must not change; it has no results."""
    folder = pathlib.Path(tempfile.gettempdir()) / "trained" / "tiny"  # Of this run of the tests; see `scratch`.
    with io.lock(folder.with_name("lock")):
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch, io.new_folder(folder) as new:
                patch.setattr(sources, "load_people", tiny.load_people)
                patch.setattr(sources, "build_data", lambda config: None)
                loop.train(tiny.config(), new)
    return folder
