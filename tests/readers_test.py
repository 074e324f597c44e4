"""Every reader of files of others, each with every damage of its kind: a result, or one of its errors with a message."""

import contextlib
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from multibodies_jax.prediction import prediction_file
from tests.helpers import damaged, made_predictions, readers
from tfds_builders.sources import mat

DAMAGES = {
    "npz": damaged.NPZ,
    "npy": damaged.NPY,
    "json": damaged.JSON,
    "other": {name: damaged.NPY[name] for name in ("empty", "cut", "text")},
}
MUST_FAIL = {"npz", "npy", "json"}
CASES = [(reader, damage) for reader in readers.READERS for damage in DAMAGES[reader.kind]]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A function that gives the bytes of a reader's good file, made once."""
    made = {}

    def of(reader):
        if reader.name not in made:
            path = tmp_path_factory.mktemp("good") / reader.file
            reader.make(path)
            made[reader.name] = path.read_bytes()
        return made[reader.name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("reader", readers.READERS, ids=lambda reader: reader.name)
def test_a_good_file_is_read(reader, tmp_path):
    path = tmp_path / reader.file
    reader.make(path)
    reader.read(path)


@pytest.mark.parametrize(("reader", "damage"), CASES, ids=[f"{reader.name}: {damage}" for reader, damage in CASES])
def test_a_damaged_file_is_a_message(reader, damage, good, tmp_path):
    path = tmp_path / reader.file
    if not reader.alone:
        reader.make(path)
    path.write_bytes(DAMAGES[reader.kind][damage](good(reader)))
    expected = pytest.raises(reader.errors) if reader.kind in MUST_FAIL else contextlib.suppress(*reader.errors)
    with expected as caught:
        reader.read(path)
    if caught is not None:
        assert len(str(caught.value)) > 30  # A sentence, not the word of a parser.


@pytest.mark.parametrize("read", ["read_v5", "read_v73"])
def test_a_variable_that_a_damaged_file_lists_and_has_not_is_refused_by_its_name(tmp_path, monkeypatch, read):
    made = {"read_v5": lambda path: scipy.io.savemat(path, {"a": np.ones(3)}), "read_v73": _write_hdf5}
    made[read](tmp_path / "a.mat")
    monkeypatch.setattr(mat.contained, "call", lambda load, *args, **limits: (["a"], {}))
    with pytest.raises(mat.MatError, match="is damaged: its variable a cannot be found"):
        getattr(mat, read)(tmp_path / "a.mat", ["a"])


def test_an_optional_variable_that_is_misspelt_is_not_absent(tmp_path):
    _write_hdf5(tmp_path / "a.mat")
    with h5py.File(tmp_path / "a.mat", "a") as file:
        file["activty"] = np.ones(3)
    with pytest.raises(mat.MatError, match=r"a\.mat has 'activty', and 'activity', which it resembles, is absent"):
        mat.read_v73(tmp_path / "a.mat", ["a"], optional=["activity"])
    assert set(mat.read_v73(tmp_path / "a.mat", ["a"], optional=["valid"])) == {"a"}


def _write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(3)


def test_a_prediction_with_numbers_of_another_kind_is_refused(tmp_path):
    record: dict[str, Any] = made_predictions.record() | {"focal_px": np.array(b"abc")}
    np.savez(tmp_path / "a.npz", **record)
    with pytest.raises(prediction_file.PredictionError, match=r"focal_px is .S3"):
        prediction_file.load(tmp_path / "a.npz")
