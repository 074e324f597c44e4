"""The restricted unpickler: what it reads equals what was written, and hostile files have no effect at all."""

import io
import os
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from multibodies_jax.body import pickles
from tests.helpers import python2
from tests.helpers.python2 import Instance, call, named


def read(tmp_path, content):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    return pickles.load(path)


def assert_same(got, expected):
    if isinstance(expected, np.ndarray):
        assert isinstance(got, np.ndarray)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
        assert got.flags.writeable
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            assert_same(got[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert type(got) is type(expected) and len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert type(got) is type(expected) and got == expected


ARRAYS = st.builds(
    lambda dtype, shape, order, seed: np.asarray(
        np.random.default_rng(seed).integers(0, 2, shape).astype(dtype), order=order
    ),
    st.sampled_from(["f8", "<f4", ">i4", "u1", "?", "c16", "S3", "U2", "f2"]),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.sampled_from(["C", "F"]),
    st.integers(0, 99),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | ARRAYS | st.just(np.float32(0.5))
DATA = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", range(6))
@given(value=DATA)
def test_plain_data_of_this_python_comes_back(tmp_path_factory, protocol, value):
    assert_same(read(tmp_path_factory.mktemp("pickles"), pickle.dumps(value, protocol=protocol)), value)


def test_plain_data_of_python_2_comes_back(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 3))
    sequence = {"poses": [array, array[:2]], "genders": ["m", "f"], "sequence": "caf\xe9", "ids": np.arange(5), "n": 3}
    content = python2.dumps(sequence)
    assert_same(read(tmp_path, content), sequence)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The old module names are deprecated.
        assert_same(pickle.loads(content, encoding="latin1"), sequence)  # So the writer of this test is right.


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
@pytest.mark.parametrize("family", ["matrix", "array"])
def test_sparse_matrices_and_arrays_of_this_scipy_become_dense(tmp_path, family, kind, protocol):
    dense = np.random.default_rng(0).normal(size=(4, 3)) * (np.arange(12).reshape(4, 3) % 2)
    sparse = getattr(scipy.sparse, f"{kind}_{family}")(dense)
    assert_same(read(tmp_path, pickle.dumps({"J_regressor": sparse}, protocol=protocol)), {"J_regressor": dense})


@pytest.mark.parametrize("content", [b"Nr\xff\xff\xff\x07.", b"Np134217727\n.", b"Nq\xff."])
def test_a_memo_larger_than_the_file_is_refused(tmp_path, content):
    with pytest.raises(
        pickles.RefusedError, match=r"file\.pkl was not read: it numbers a part [\d,]+ within its first"
    ):
        read(tmp_path, content)


def test_chumpy_constants_and_selections_become_arrays(tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 3, 4))
    idxs = np.arange(x.size).reshape(x.shape)[:, :, :2].ravel()
    selection = python2.chumpy_selection(python2.chumpy_constant(x), idxs, np.array([5, 3, 2]))
    content = python2.dumps({"constant": python2.chumpy_constant(x), "selection": selection})
    assert_same(read(tmp_path, content), {"constant": x, "selection": x[:, :, :2]})


def test_what_chumpy_would_compute_stays_inert(tmp_path):
    product = Instance("chumpy.ch", "MatVecMult", {"mtx": np.eye(2), "vec": np.ones(2)})
    loaded = read(tmp_path, python2.dumps({"J": product, "v": np.ones(2)}))
    assert isinstance(loaded["J"], pickles.Chumpy)
    np.testing.assert_array_equal(loaded["v"], np.ones(2))


@pytest.mark.parametrize("kind", ["csc", "csr"])
def test_sparse_matrices_become_dense(tmp_path, kind):
    dense = scipy.sparse.random_array((7, 9), density=0.3, rng=np.random.default_rng(0)).toarray()
    matrix = getattr(scipy.sparse, f"{kind}_matrix")(dense)
    assert_same(read(tmp_path, pickle.dumps(matrix)), dense)
    old = python2.sparse(kind, dense.shape, matrix.data, matrix.indices, matrix.indptr)
    assert_same(read(tmp_path, python2.dumps(old)), dense)


class Reduced:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


SHELL = "touch ran"  # In the test's own directory.
HOSTILE = {
    "os.system": pickle.dumps(Reduced(os.system, SHELL)),
    "eval": pickle.dumps(Reduced(eval, "open('ran', 'w')")),
    "exec": pickle.dumps(Reduced(exec, "open('ran', 'w')"), protocol=2),
    "open": pickle.dumps(Reduced(open, "ran", "w")),
    "getattr": pickle.dumps(Reduced(getattr, "text", "upper")),
    "nested": pickle.dumps({"weights": [np.ones(3), Reduced(os.system, SHELL)]}),
    "object array": pickle.dumps(np.array([Reduced(os.system, SHELL)], dtype=object)),
    "python 2": b"\x80\x02" + call("posix", "system", SHELL) + b".",
    "instance": f"(S'{SHELL}'\niposix\nsystem\n.".encode(),
    "object": b"(" + named("posix", "system") + python2.encode(SHELL) + b"o.",
    "subprocess": b"\x80\x02" + call("subprocess", "Popen", ["touch", "ran"]) + b".",
    "numpy's exec": b"\x80\x02" + call("numpy.testing._private.utils", "runstring", "open('ran', 'w')", {}) + b".",
    "numpy's load": b"\x80\x02" + call("numpy", "load", "other.npy", None, True) + b".",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "codec": b"\x80\x02" + call("_codecs", "lookup", "utf8") + b".",
    "reconstruct": b"\x80\x02"
    + named("copy_reg", "_reconstructor")
    + b"("
    + named("subprocess", "Popen")
    + named("__builtin__", "object")
    + b"NtR.",
    "chumpy's import of os": b"\x80\x02" + call("chumpy.ch.os", "system", SHELL) + b".",
    "scipy's import of os": b"\x80\x02" + call("scipy.sparse.os", "system", SHELL) + b".",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_have_no_effect(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    np.save("other.npy", np.ones(1))
    if name == "chumpy's import of os":  # Any chumpy name is an inert class of ours, which cannot be called with this.
        with pytest.raises(ValueError):
            read(tmp_path, HOSTILE[name])
    else:
        with pytest.raises(pickles.RefusedError, match=r"wants to construct|array of type 'O8'|reconstructs"):
            read(tmp_path, HOSTILE[name])
    assert sorted(os.listdir(tmp_path)) == ["file.pkl", "other.npy"]


def test_the_hostile_pickles_are_hostile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "nested", "object array", "python 2", "instance", "object"):
        pickle.loads(HOSTILE[name])
        os.remove("ran")


def dtype_state(code, state):
    return b"\x80\x02" + call("numpy", "dtype", code, 0, 1) + python2.encode(state) + b"b"


def array_of(dtype, shape=(1,), data=b"\0" * 8):
    start = named("numpy.core.multiarray", "_reconstruct") + b"(" + named("numpy", "ndarray") + b"(K\x00tU\x01btR"
    return start + b"(K\x01" + python2.encode(shape) + dtype + b"I00\n" + python2.encode(data) + b"tb."


F8 = dtype_state("f8", (3, "<", None, None, None, -1, -1, 0))
DAMAGED = {
    "text": b"this is no pickle",
    "empty": b"",
    "truncated": pickle.dumps(np.ones(100))[:-50],
    "too few bytes": array_of(F8, (2,)),
    "negative shape": array_of(F8, (-1, -1)),
    "no shape": array_of(F8, "shape"),
    "no type": array_of(b"N"),
    "records": array_of(dtype_state("f8", (3, "<", None, ("a",), {"a": (1, 0)}, 8, 1, 16))),
    "subarray": array_of(dtype_state("f8", (3, "<", ("f8", (2,)), None, None, 8, 1, 16))),
    "metadata": array_of(dtype_state("f8", (4, "<", None, None, None, -1, -1, 0, {"a": 1}))),
    "array without state": named("numpy.core.multiarray", "_reconstruct") + b")R.",
    "a dtype as data": dtype_state("f8", (3, "<", None, None, None, -1, -1, 0)) + b".",
    "a class as data": named("numpy", "ndarray") + b".",
    "a call of a class": call("numpy", "ndarray", (3,)) + b".",
    "persistent id": b"Pabc\n.",
    "contains itself": b"]q\x00h\x00a.",
    "deep": b"]" * 20000 + b"a" * 19999 + b".",
    "sparse index": python2.dumps(python2.sparse("csc", (2, 1), np.ones(1), np.array([2]), np.array([0, 1]))),
    "sparse negative": python2.dumps(python2.sparse("csc", (2, 1), np.ones(1), np.array([-1]), np.array([0, 1]))),
    "sparse columns": python2.dumps(python2.sparse("csc", (2, 1), np.ones(2), np.array([0, 0]), np.array([0, 1, 2]))),
    "sparse starts huge": python2.dumps(python2.sparse("csc", (2, 1), np.ones(1), np.array([0]), np.array([0, 2**40]))),
    "sparse dense huge": python2.dumps(python2.sparse("csr", (1, 10**8), np.ones(1), np.array([0]), np.array([0, 1]))),
    "sparse huge": python2.dumps(python2.sparse("csc", (10**9, 10**9), np.ones(1), np.zeros(1), np.ones(1))),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_errors_that_name_the_file(tmp_path, name):
    with pytest.raises(ValueError, match=r"file\.pkl"):
        read(tmp_path, DAMAGED[name])


@pytest.mark.parametrize("target", [("_codecs", "encode"), ("numpy", "ndarray"), ("chumpy.ch", "Ch")])
def test_a_pickle_cannot_alter_the_stand_ins(tmp_path, target):
    change = named(*target) + b"N}U\x05calls" + named("_codecs", "encode") + b"s\x86b."
    # Instances of the last take any state; the class itself has no use for one.
    message = "missing" if target[0] == "chumpy.ch" else "wants to change"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, change)


@pytest.mark.parametrize("protocol", [2, 5])
def test_object_arrays_are_refused_whatever_they_hold(tmp_path, protocol):
    with pytest.raises(pickles.RefusedError, match="array of type 'O8'"):
        read(tmp_path, pickle.dumps(np.array([1, "text"], dtype=object), protocol=protocol))


def test_shared_parts_are_converted_once(tmp_path):
    loaded = read(tmp_path, pickle.dumps(_nest(8, np.ones(1))))
    assert loaded[0] is loaded[1]


def _nest(levels, leaf: Any = 1.0):
    """A list of 2^levels numbers that takes some bytes for each level."""
    for _ in range(levels):
        leaf = [leaf, leaf]
    return leaf


def test_a_list_that_repeats_its_parts_is_no_large_array(tmp_path):
    with pytest.raises(pickles.RefusedError, match=r"repeats its parts to 4,096 numbers"):
        read(tmp_path, pickle.dumps({"weights": _nest(60)}))
    read(tmp_path, pickle.dumps({"weights": [True] * 5000}))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"ccopyreg\n_reconstructor\n", b"NN\x87R."),
        (b"cnumpy\ndtype\n", b"\x85R."),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00a", b"\x86R."),
    ],
)
def test_no_message_writes_a_part_of_the_file_out(tmp_path, before, after):
    nest = pickle.dumps(_nest(60), protocol=2)[2:-1]
    with pytest.raises(pickles.RefusedError, match=r"\[\.\.\.\]"):  # Written out it would have 2^60 elements.
        read(tmp_path, b"\x80\x02" + before + nest + after)


def test_the_lengths_of_an_array_are_whole_numbers(tmp_path):
    shape = pickle.dumps((10**9, b"x" * 100), protocol=2)[2:-1]  # Their product would be 100 GB of text.
    dtype = pickle.dumps(np.dtype("u1"), protocol=2)[2:-1]
    content = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(tR(K\x01" + shape + dtype + b"\x89U\x01atb."
    with pytest.raises(pickles.RefusedError, match="array of the shape"):
        read(tmp_path, content)


def _npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def _row(*elements):
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
def test_a_row_of_sparse_matrices_and_arrays_comes_back_without_being_made_dense(kind):
    dense = np.random.default_rng(0).normal(size=(4, 3)) * (np.arange(12).reshape(4, 3) % 2)
    large = scipy.sparse.coo_matrix(([1.0], ([99_999], [7])), (100_000, 100_000))
    content = _npy(_row(getattr(scipy.sparse, f"{kind}_matrix")(dense), large.asformat(kind), np.arange(3)))
    first, second, third = pickles.load_objects(content, "A")
    made = np.zeros((4, 3))
    made[first.rows, first.columns] = first.values
    np.testing.assert_array_equal(made, dense)
    assert (second.shape, second.rows.tolist(), second.columns.tolist()) == ((100_000, 100_000), [99_999], [7])
    assert_same(third, np.arange(3))


def test_a_row_of_sparse_matrices_of_python_2_comes_back():
    dense = np.array([[0.0, 2], [3, 0], [0, 0]])
    element = python2.encode(python2.sparse_columns(dense))
    kind = call("numpy", "dtype", "O8", 0, 1) + python2.encode((3, "|", None, None, None, -1, -1, 63)) + b"b"
    empty = named("numpy.core.multiarray", "_reconstruct") + b"(" + named("numpy", "ndarray") + python2.encode((0,))
    state = b"(" + python2.encode(1) + python2.encode((1,)) + kind + python2.encode(False) + b"](" + element + b"et"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    pickled = b"\x80\x02" + empty + python2.encode("b") + b"tR" + state + b"b."
    (found,) = pickles.load_objects(head.getvalue() + pickled, "A")
    assert found.shape == (3, 2) and sorted(zip(found.rows, found.columns, found.values, strict=True)) == [(0, 1, 2), (1, 0, 3)]  # fmt: skip


class _Evil:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (_row(_Evil()), "posix.abort, which could run code"),
        (_row(_row(1, 2)), None),
        (np.arange(3), "a row of objects was expected"),
        (np.array([[_row, 1]], object)[:, 1:], "a row of objects was expected"),
    ],
)
def test_other_rows_of_objects_are_refused(array, words):
    if words is None:
        assert pickles.load_objects(_npy(array), "A") == [[1, 2]]
        return
    with pytest.raises(ValueError, match=f"A .*{words}"):
        pickles.load_objects(_npy(array), "A")


@pytest.mark.parametrize("change", [{"col": np.array([7])}, {"row": np.array([0, 1])}, {"col": np.array([0.5])}])
def test_sparse_matrices_with_elements_elsewhere_are_refused(change):
    matrix = scipy.sparse.coo_matrix(([1.0], ([0], [0])), (2, 2))
    matrix.coords = tuple({"row": np.array([0]), "col": np.array([0]), **change}[name] for name in ("row", "col"))
    with pytest.raises(ValueError, match="sparse matrix"):
        pickles.load_objects(_npy(_row(matrix)), "A")


def test_an_array_of_objects_in_another_pickle_is_refused(tmp_path):
    with pytest.raises(pickles.RefusedError, match="only numbers and text are accepted"):
        read(tmp_path, pickle.dumps({"a": _row(1, 2)}))
