"""Writes what `torch.load(FILE, weights_only=True)` reads: nested dictionaries of arrays in torch's zip format, without torch."""

import os
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

_STORAGES = {"float32": "FloatStorage", "int64": "LongStorage"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # Equal contents make equal files.


def save(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Writes a dictionary with text keys and values that are dictionaries, arrays of float32 or int64, or integers.

    Raises:
      TypeError: for a value or type that the format has no name for here.
      OSError: the file cannot be written.
    """
    arrays: list[np.ndarray] = []
    program = b"\x80\x02" + _encode(content, arrays) + b"."  # Protocol 2, as torch writes it.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:

        def add(name: str, data: bytes) -> None:
            file.writestr(zipfile.ZipInfo(f"archive/{name}", _EPOCH), data)

        add("data.pkl", program)
        add("byteorder", b"little")
        for key, array in enumerate(arrays):
            add(f"data/{key}", array.astype(array.dtype.newbyteorder("<")).tobytes())
        add("version", b"3\n")


def _encode(value: Any, arrays: list[np.ndarray]) -> bytes:
    match value:
        case Mapping():
            items = b"".join(_encode(key, arrays) + _encode(item, arrays) for key, item in value.items())
            return _named("collections", "OrderedDict") + b")R(" + items + b"u"
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case int():
            return b"\x8a\x08" + struct.pack("<q", value)
        case tuple():
            return b"(" + b"".join(_encode(item, arrays) for item in value) + b"t"
        case np.ndarray():
            return _tensor(value, arrays)
    raise TypeError(f"Cannot write a {type(value).__name__} for torch: arrays, dictionaries and integers only.")


def _tensor(array: np.ndarray, arrays: list[np.ndarray]) -> bytes:
    """A call of _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks) on a storage of its own."""
    if array.dtype.name not in _STORAGES:
        raise TypeError(f"Cannot write an array of {array.dtype} for torch: {' or '.join(_STORAGES)} only.")
    arrays.append(array)
    key, place = str(len(arrays) - 1), _encode("cpu", arrays)
    kind = _encode("storage", arrays) + _named("torch", _STORAGES[array.dtype.name]) + _encode(key, arrays)
    storage = b"(" + kind + place + _encode(array.size, arrays) + b"tQ"
    strides = tuple(int(np.prod(array.shape[axis + 1 :], dtype=np.int64)) for axis in range(array.ndim))
    layout = _encode(0, arrays) + _encode(array.shape, arrays) + _encode(strides, arrays)
    hooks = _named("collections", "OrderedDict") + b")R"
    return _named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + layout + b"\x89" + hooks + b"tR"


def _named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()
