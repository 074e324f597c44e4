"""Every reader of files of others, each with every damage of its kind: a result, or one of its errors with a message."""

import contextlib

import pytest

from tests.helpers import damaged, readers

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
