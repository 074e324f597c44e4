"""Writes pickles as Python 2 did, opcode by opcode, so that no old Python, chumpy or SciPy is needed to test them."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Instance:
    """An instance of the class `module.name` with this `__dict__`."""

    module: str
    name: str
    state: dict


def dumps(value: Any) -> bytes:
    return b"\x80\x02" + encode(value) + b"."


def encode(value: Any) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"I01\n" if value else b"I00\n"
        case int():
            return b"I%d\n" % value
        case float():
            return b"G" + struct.pack(">d", value)
        case str() | bytes():  # Python 2 has one kind of string, of bytes.
            data = value.encode("latin1") if isinstance(value, str) else value
            return b"T" + struct.pack("<i", len(data)) + data
        case list():
            return b"](" + b"".join(map(encode, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case dict():
            return b"}(" + b"".join(encode(key) + encode(item) for key, item in value.items()) + b"u"
        case set():
            return call("__builtin__", "set", sorted(value))
        case np.ndarray():
            return _array(value)
        case Instance():
            return named(value.module, value.name) + b")\x81" + encode(value.state) + b"b"
    raise TypeError(f"no Python 2 pickle of {value!r}")


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: Any) -> bytes:
    return named(module, name) + encode(arguments) + b"R"


def chumpy_constant(x: np.ndarray) -> Instance:
    return Instance("chumpy.ch", "Ch", {"x": x, "_dirty_vars": set(), "_itr": None, "_depends_on_deps": {}})


def chumpy_selection(a: Any, idxs: np.ndarray, shape: np.ndarray) -> Instance:
    state = {"a": a, "_dirty_vars": {"a", "idxs"}, "_itr": None, "preferred_shape": shape, "idxs": idxs}
    return Instance("chumpy.reordering", "Select", state)


def sparse_columns(dense: np.ndarray) -> Instance:
    columns, rows = np.nonzero(dense.T)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=dense.shape[1]))])
    return sparse("csc", dense.shape, dense[rows, columns], rows.astype(np.int32), indptr.astype(np.int32))


def sparse(kind: str, shape: tuple, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> Instance:
    state = {"_shape": shape, "maxprint": 50, "indices": indices, "indptr": indptr, "format": kind, "data": data}
    return Instance(f"scipy.sparse.{kind}", f"{kind}_matrix", state)


def _array(array: np.ndarray) -> bytes:
    empty = named("numpy.core.multiarray", "_reconstruct") + b"(" + named("numpy", "ndarray") + encode((0,))
    kind = call("numpy", "dtype", array.dtype.str[1:], 0, 1) + encode((3, "<", None, None, None, -1, -1, 0)) + b"b"
    state = b"(" + encode(1) + encode(array.shape) + kind + encode(False) + encode(array.tobytes()) + b"t"
    return empty + encode("b") + b"tR" + state + b"b"
