"""Reads pickles of others (SMPL, 3DPW) without running what they contain.

A pickle is a program: what it names, it can call. Here every name resolves to an inert stand-in of ours, or is refused;
arrays, sparse matrices and chumpy constants are made of the stand-ins afterwards. What is made takes memory in proportion
to the file, except sparse matrices, which have a limit; so does an array made of a list, which may name one part again and
again. Messages never show a part of the file in full: 200 bytes of such lists would be written out for ever.
"""

import dataclasses
import io
import math
import os
import pickle
import pickletools
import re
import reprlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None), np.ndarray, np.generic)
_OBJECTS = ("O", "O4", "O8")
_DTYPE = re.compile(r"[biufcSU?]\d*")  # Numbers and text: neither objects (O) nor records (V).
_MAX_DENSE = 10**7  # Elements of a sparse matrix made dense; the regressor of SMPL-X has 6 * 10^5.
_MOST_REPEATED = 10  # Numbers of a list written out, for each byte of the file.
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


_short = reprlib.Repr()
_short.maxlevel = 2


def shown(value: Any) -> str:
    """A part of a pickle for a message, of bounded length: its own text may be exponentially long."""
    return _short.repr(value)[:80]


class RefusedError(ValueError):
    """The pickle names or holds something that is not plain data."""


def load(path: str | Path) -> Any:
    """The plain data in a pickle file: containers, numbers, text, NumPy arrays.

    Files of Python 2 are read (text as Latin-1). Sparse matrices of SciPy and constants of chumpy become arrays; what
    chumpy would have to compute stays an inert `Chumpy`.

    Raises:
      RefusedError: the file wants to construct anything else.
      ValueError: it is damaged, or no pickle.
    """
    with open(path, "rb") as file:
        try:
            check_memo(file)
            made = _Unpickler(file, encoding="latin1").load()
            return _plain(made, _Done(_MOST_REPEATED * os.fstat(file.fileno()).st_size))
        except RefusedError as error:
            raise RefusedError(f"{path} was not read: {error}") from None
        except Exception as error:  # A damaged pickle is a program gone wrong: it can fail in any way.
            raise ValueError(f"{path} is not a readable pickle, or is damaged: {error!r}") from error


@dataclasses.dataclass(frozen=True)
class Sparse:
    """A sparse matrix by its stored elements; those of one place add up.

    Attributes:
      shape: rows and columns.
      rows, columns: places of the elements, within the shape.
      values: of the elements.
    """

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def load_objects(content: bytes, where: str) -> list[Any]:
    """The elements of an .npy file that holds one array of Python objects, as `numpy.save` writes lists of matrices.

    Args:
      content: of the file.
      where: names it in messages.

    Returns:
      Plain data as `load` gives it, except that sparse matrices come as `Sparse`, and are never made dense.

    Raises:
      RefusedError: it wants to construct anything else.
      ValueError: it is damaged, or no such file.
    """
    file = io.BytesIO(content)
    try:
        if (version := np.lib.format.read_magic(file)) != (1, 0):
            raise ValueError(f"its format has the version {version}, and 1.0 was expected")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if not dtype.hasobject or len(shape) != 1:
            raise ValueError(f"it has an array {shape} of {dtype}, and a row of objects was expected")
        check_memo(file)
        found = _plain(_ObjectsUnpickler(file, encoding="latin1").load(), _Done(_MOST_REPEATED * len(content)))
        if not isinstance(found, list) or len(found) != shape[0]:
            raise ValueError(f"it has something else than the {shape[0]} objects that its header declares")
        return found
    except RefusedError as error:
        raise RefusedError(f"{where} was not read: {error}") from None
    except Exception as error:  # As in `load`.
        raise ValueError(f"{where} is no readable row of objects, or is damaged: {error!r}") from error


def check_memo(file: BinaryIO | Any) -> None:
    """Refuses a pickle that numbers its memo beyond its length: a table of that size would be made, of nine bytes 2 GiB.

    Args:
      file: at the start of a pickle; it is there again afterwards.

    Raises:
      RefusedError: it does.
      ValueError and others: it is no pickle.
    """
    start = file.tell()
    for code, argument, position in pickletools.genops(file):
        before = (position or 0) - start
        if code.name in _MEMO and not 0 <= int(argument or 0) <= before:
            raise RefusedError(f"it numbers a part {argument:,} within its first {before + 1:,} bytes")
    file.seek(start)


class Sealed(type):
    """Classes that a pickle cannot alter (its BUILD instruction sets attributes of whatever it is given)."""

    def __setattr__(cls, name: str, value: Any):
        raise RefusedError(f"it wants to change {cls.__name__}.{name}")


class _Object(metaclass=Sealed):
    """Keeps the state that the pickle gives it."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any):
        self.state = state


class _Array(_Object):
    """Will be an array; `_reconstruct(ndarray, (0,), b"b")` in pickles."""

    __slots__ = ()

    def __new__(cls, *_: Any):
        return object.__new__(cls)


class _SparseColumns(_Object):
    """Will be a matrix in SciPy's compressed sparse columns."""

    __slots__ = ()


class _SparseRows(_Object):
    """Will be a matrix in SciPy's compressed sparse rows."""

    __slots__ = ()


class _SparseTriplets(_Object):
    """Will be a matrix in SciPy's coordinates of elements."""

    __slots__ = ()


class _KeptColumns(_SparseColumns):
    """Will be a `Sparse`."""

    __slots__ = ()


class _KeptRows(_SparseRows):
    """Will be a `Sparse`."""

    __slots__ = ()


class _KeptTriplets(_SparseTriplets):
    """Will be a `Sparse`."""

    __slots__ = ()


class Chumpy(_Object):
    """A node of chumpy's graphs; constants and selections from them become arrays, others stay as they are."""

    __slots__ = ()


class _Dtype(_Object):
    """A type of numbers or of text."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise RefusedError(f"it has an array of type {shown(code)}, and only numbers and text are accepted")
        self.code = code

    def dtype(self) -> np.dtype:
        _, order, *compound = getattr(self, "state", None) or (3, "|")
        # subarray, names and fields; sizes and flags follow from the code; metadata would come ninth.
        if any(part is not None for part in compound[:3]) or any(part is not None for part in compound[6:]):
            raise RefusedError("it has an array of records, and only numbers and text are accepted")
        return np.dtype(self.code).newbyteorder(order)


class _AnyDtype(_Dtype):
    """As `_Dtype`, or that of an array of objects, whose elements are a list in the pickle."""

    __slots__ = ()

    def __init__(self, code: Any, *about: Any):
        if code in _OBJECTS:
            self.code = "O"
        else:
            super().__init__(code, *about)


class _Scalar(metaclass=Sealed):
    def __new__(cls, dtype: Any, data: Any):
        return _from_bytes(data, dtype, (), "C")[()]


class _FromBuffer(metaclass=Sealed):
    def __new__(cls, data: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None):
        if axis_order is not None:
            raise RefusedError("it has an array with permuted axes; save it again in C order")
        return _from_bytes(data, dtype, shape, order)


class _Encode(metaclass=Sealed):
    """How Python 3 writes bytes in old protocols."""

    def __new__(cls, text: Any, encoding: Any = "latin1"):
        if not isinstance(text, str) or encoding != "latin1":
            raise RefusedError(f"it encodes {type(text).__name__} as {shown(encoding)}")
        return text.encode("latin1")


class _EmptyBytes(metaclass=Sealed):
    def __new__(cls):
        return b""


class _Name(metaclass=Sealed):
    """A name that pickles pass as an argument and that is never called."""

    def __new__(cls, *_: Any):
        raise RefusedError("it calls what it should only name")


class _Reconstructor(metaclass=Sealed):
    """How Python 2 writes instances of classes."""

    def __new__(cls, made: Any, base: Any, _: Any):
        if made not in (Chumpy, *_SPARSE.values(), *_KEPT.values()) or base is not _Name:
            raise RefusedError(f"it reconstructs {shown(made)}")
        return object.__new__(made)


ACCEPTED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode,
    ("copy_reg", "_reconstructor"): _Reconstructor,
    ("copyreg", "_reconstructor"): _Reconstructor,
}
for _module in ("numpy.core", "numpy._core"):
    ACCEPTED[f"{_module}.multiarray", "_reconstruct"] = _Array
    ACCEPTED[f"{_module}.multiarray", "scalar"] = _Scalar
    ACCEPTED[f"{_module}.numeric", "_frombuffer"] = _FromBuffer
for _module in ("__builtin__", "builtins"):
    ACCEPTED |= {(_module, "object"): _Name, (_module, "set"): set, (_module, "bytes"): _EmptyBytes}
_SPARSE = {"csc": _SparseColumns, "csr": _SparseRows, "coo": _SparseTriplets}
_KEPT = {"csc": _KeptColumns, "csr": _KeptRows, "coo": _KeptTriplets}


def _sparse_names(kinds: dict[str, type]) -> dict[tuple[str, str], type]:
    """SciPy's names of sparse matrices, before and since they moved to private modules."""
    prefixes = ("scipy.sparse.", "scipy.sparse._")
    return {(p + kind, f"{kind}_{word}"): made for kind, made in kinds.items() for p in prefixes for word in _WORDS}


_WORDS = ("matrix", "array")
ACCEPTED |= _sparse_names(_SPARSE)


class _ObjectsUnpickler(pickle.Unpickler):
    """Of arrays of objects; names of chumpy are refused."""

    _accepted = ACCEPTED | _sparse_names(_KEPT) | {("numpy", "dtype"): _AnyDtype}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._accepted:
            raise RefusedError(
                f"it wants to construct {module_name}.{global_name}, which could run code; "
                "only arrays, sparse matrices and plain data are accepted"
            )
        return self._accepted[module_name, global_name]


class _Unpickler(_ObjectsUnpickler):
    """Of body models, which have chumpy's arrays."""

    _accepted = ACCEPTED

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name.split(".")[0] == "chumpy":
            return Chumpy
        return super().find_class(module_name, global_name)


class _Done:
    """What was converted already.

    Attributes:
      values: id of the original -> what it became.
      counts: id of a list or tuple that was made -> the numbers in it, written out.
      most: that a list may have.
    """

    def __init__(self, most: int):
        self.values: dict[int, Any] = {}
        self.counts: dict[int, int] = {}
        self.most = most

    def count(self, items: list | tuple | set | frozenset) -> None:
        """Remembers how many numbers a new list has, and refuses one of too many: as an array it would be that large."""
        sizes = (item.size if isinstance(item, np.ndarray) else self.counts.get(id(item), 1) for item in items)
        if (total := sum(sizes)) > self.most:
            raise RefusedError(f"it has a list that repeats its parts to {total:,} numbers")
        self.counts[id(items)] = total


def _plain(value: Any, done: _Done) -> Any:
    """`value` with all stand-ins replaced; shared parts are converted once, as a nest of them could be exponential."""
    if type(value) in _PLAIN or isinstance(value, np.generic):
        return value
    values = done.values
    if id(value) not in values:
        values[id(value)] = RefusedError("it contains itself")
        values[id(value)] = _convert(value, done)
    if isinstance(values[id(value)], RefusedError):
        raise values[id(value)]
    return values[id(value)]


def _convert(value: Any, done: _Done) -> Any:
    if type(value) is dict:
        return {_plain(key, done): _plain(item, done) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        items = type(value)(_plain(item, done) for item in value)
        done.count(items)
        return items
    if isinstance(value, _Array):
        _, shape, dtype, fortran, data = value.state
        if isinstance(dtype, _AnyDtype) and dtype.code == "O":
            return _objects(data, shape, done)
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")
    if isinstance(value, _KeptColumns | _KeptRows):
        return _kept(_plain(value.state, done), by_columns=isinstance(value, _KeptColumns))
    if isinstance(value, _KeptTriplets):
        return _kept_triplets(_plain(value.state, done))
    if isinstance(value, _SparseColumns):
        return _dense(_plain(value.state, done), by_columns=True)
    if isinstance(value, _SparseRows):
        return _dense(_plain(value.state, done), by_columns=False)
    if isinstance(value, _SparseTriplets):
        return _from_triplets(_plain(value.state, done))
    if isinstance(value, Chumpy):
        return _evaluated(value, done)
    raise RefusedError(f"it holds a {type(value).__name__} where data should be")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """A writable array of its own, or an error if the bytes do not fill the shape exactly."""
    if not isinstance(dtype, _Dtype):
        raise RefusedError("it has an array without a type")
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, (bytes, bytearray)):
        raise RefusedError(f"it has an array made of {type(data).__name__}")
    if not isinstance(shape, (tuple, list)) or not all(type(length) is int for length in shape):
        raise RefusedError(f"it has an array of the shape {shown(shape)}")
    if len(data) != math.prod(shape) * dtype.dtype().itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{len(data)} bytes do not fill an array {shape} of {dtype.dtype()}")
    flat = np.ndarray((math.prod(shape),), dtype.dtype(), bytes(data))
    return flat.reshape(shape, order="F" if order == "F" else "C").copy()


def _objects(data: Any, shape: Any, done: _Done) -> list[Any]:
    """The elements of an array of objects, which the pickle has as a list."""
    if not isinstance(data, list) or len(shape) != 1 or len(data) != shape[0]:
        raise RefusedError(f"it has an array of objects {shown(shape)} that is no row of them")
    return [_plain(item, done) for item in data]


def _dense(state: dict[str, Any], by_columns: bool) -> np.ndarray:
    """The matrix that SciPy's `data`, `indices` and `indptr` describe, every index checked."""
    rows, columns = _sparse_shape(state)
    dense = np.zeros((columns, rows) if by_columns else (rows, columns), state["data"].dtype)
    _fill(dense, (_lines(state, len(dense)), state["indices"]), state["data"])
    return dense.T.copy() if by_columns else dense


def _lines(state: dict[str, Any], count: int) -> np.ndarray:
    """The line, of `count`, of each element of a compressed sparse matrix."""
    starts, size = np.asarray(state["indptr"]), len(state["indices"])
    if starts.shape != (count + 1,) or starts[0] != 0 or starts[-1] != size or np.any(starts[1:] < starts[:-1]):
        raise ValueError(f"a sparse matrix with {count} lines and {size} elements, and other starts of its lines")
    return np.repeat(np.arange(count), np.diff(starts))


def _kept(state: dict[str, Any], by_columns: bool) -> Sparse:
    """As `_dense`, without making it dense."""
    shape = _any_shape(state)
    lines = _lines(state, shape[1] if by_columns else shape[0])
    rows, columns = (state["indices"], lines) if by_columns else (lines, state["indices"])
    return _checked(Sparse(shape, rows, columns, state["data"]))


def _kept_triplets(state: dict[str, Any]) -> Sparse:
    return _checked(Sparse(_any_shape(state), *_coordinates(state), state["data"]))


def _coordinates(state: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = state.get("coords") or (state["row"], state["col"])
    return rows, columns


def _checked(matrix: Sparse) -> Sparse:
    """The matrix, if its elements lie within its shape."""
    for places, length in zip((matrix.rows, matrix.columns), matrix.shape, strict=True):
        if places.dtype.kind not in "iu" or places.shape != matrix.values.shape or places.ndim != 1:
            raise ValueError("a sparse matrix with other numbers of indices than of elements")
        if len(places) and (places.min() < 0 or places.max() >= length):
            raise ValueError(f"a sparse matrix of shape {matrix.shape} with elements outside")
    return matrix


def _from_triplets(state: dict[str, Any]) -> np.ndarray:
    """The matrix of SciPy's `data` at `coords` (before SciPy 1.11, `row` and `col`); elements of one place add up."""
    dense = np.zeros(_sparse_shape(state), state["data"].dtype)
    _fill(dense, _coordinates(state), state["data"])
    return dense


def _sparse_shape(state: dict[str, Any]) -> tuple[int, int]:
    rows, columns = _any_shape(state)
    if rows * columns > _MAX_DENSE:
        raise ValueError(f"a sparse matrix of shape {rows} x {columns}")
    return rows, columns


def _any_shape(state: dict[str, Any]) -> tuple[int, int]:
    rows, columns = (int(length) for length in state["_shape"])
    if min(rows, columns) < 0:
        raise ValueError(f"a sparse matrix of shape {rows} x {columns}")
    return rows, columns


def _fill(dense: np.ndarray, places: tuple[np.ndarray, ...], data: np.ndarray) -> None:
    if any(len(place) != len(data) or (len(place) and place.min() < 0) for place in places):
        raise ValueError("a sparse matrix with negative indices, or with other numbers of indices than of elements")
    np.add.at(dense, places, data)


def _evaluated(node: Chumpy, done: _Done) -> Any:
    """The array of a chumpy constant (x), or of a selection (idxs) from one (a); other nodes as they are."""
    state = getattr(node, "state", None)
    if not isinstance(state, dict):
        return node
    if "x" in state:
        return np.asarray(_plain(state["x"], done))
    if {"a", "idxs"} <= state.keys():
        source = _plain(state["a"], done)
        if isinstance(source, np.ndarray):
            selected = source.ravel()[_plain(state["idxs"], done)]
            if "preferred_shape" in state:
                return selected.reshape(_plain(state["preferred_shape"], done))
            return selected
    return node
