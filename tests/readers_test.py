"""Every reader of files of others, each with every damage of its kind: a result, or one of its errors with a message."""

import contextlib
from typing import Any

import numpy as np
import pytest

from multibodies_jax.prediction import prediction_file
from tests.helpers import damaged, made_predictions, readers
from tfds_builders.sources import mpii

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


@pytest.mark.parametrize("reader", readers.READERS, ids=lambda reader: reader.name)
def test_a_good_file_is_read(reader, tmp_path):
    path = tmp_path / reader.file
    reader.make(path)
    reader.read(path)


@pytest.mark.parametrize(("reader", "damage"), CASES, ids=[f"{reader.name}: {damage}" for reader, damage in CASES])
def test_a_damaged_file_is_a_message(reader, damage, good, tmp_path):
    path = tmp_path / reader.file
    if reader.name == "graph of the detector":
        reader.make(path)  # Its weights lie beside it.
    path.write_bytes(DAMAGES[reader.kind][damage](good(reader)))
    expected = pytest.raises(reader.errors) if reader.kind in MUST_FAIL else contextlib.suppress(*reader.errors)
    with expected as caught:
        reader.read(path)
    if caught is not None:
        assert len(str(caught.value)) > 30  # A sentence, not the word of a parser.


def test_a_train_h5_without_an_array_is_refused_by_its_name(tmp_path, monkeypatch):
    """A damaged directory of HDF5 may list a name whose look-up fails, which reads as an absent array."""
    monkeypatch.setattr(mpii.mat, "read_v73", lambda path, names: {"center": np.ones((2, 2))})
    with pytest.raises(ValueError, match="lacks imgname"):
        mpii.read_h5(tmp_path / "train.h5")


def test_a_prediction_with_numbers_of_another_kind_is_refused(tmp_path):
    record: dict[str, Any] = made_predictions.record() | {"focal_px": np.array(b"abc")}
    np.savez(tmp_path / "a.npz", **record)
    with pytest.raises(prediction_file.PredictionError, match=r"focal_px is .S3"):
        prediction_file.load(tmp_path / "a.npz")
