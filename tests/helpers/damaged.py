"""Damaged files by what is wrong with them: each function makes one of a good file's bytes."""

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np


def _members(good: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(good)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of members by name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def _first_replaced(good: bytes, content: bytes) -> bytes:
    members = _members(good)
    return zipped({**dict.fromkeys(members, content)})


def npy(header: str, data: bytes = b"") -> bytes:
    """An .npy file of a header and data, whatever they are."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin1") + data


def _in_directory(good: bytes, offset: int, change: Callable[[int], int]) -> bytes:
    """Changes a byte of the first entry of the zip's directory."""
    at = good.index(b"PK\x01\x02") + offset
    return good[:at] + bytes([change(good[at])]) + good[at + 1 :]


def _deflate_damaged(good: bytes) -> bytes:
    """Wrong bytes in the middle of the first member's data."""
    with zipfile.ZipFile(io.BytesIO(good)) as file:
        info = file.infolist()[0]
    start = (
        info.header_offset
        + 30
        + len(info.filename.encode())
        + struct.unpack_from("<H", good, info.header_offset + 28)[0]
    )
    return good[: start + 2] + bytes([255] * 20) + good[start + 22 :]


def _objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], object), allow_pickle=True)
    return stream.getvalue()


HUGE = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}\n", bytes(64))
NPY = {
    "empty": lambda good: b"",
    "cut": lambda good: good[: len(good) // 2],
    "no header": lambda good: good[:7],
    "longer": lambda good: good + b"\x00",
    "declares 10^12 numbers": lambda good: HUGE,
    "a header that is no Python": lambda good: npy("{'descr': '<f8', 'shape': (1,\n"),
    "a header of another kind": lambda good: npy("[1, 2]\n"),
    "records": lambda good: npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
    "dates": lambda good: npy("{'descr': '<M8[D]', 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
    "text without letters": lambda good: npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}\n"),
    "objects": lambda good: _objects(),
    "another version": lambda good: good[:6] + b"\x09" + good[7:],
    "text": lambda good: b"404: Not Found\n",
    "no characters": lambda good: npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}\n", b"\xff\xff\xff\x7f"),
}
NPZ = {
    "empty": NPY["empty"],
    "cut": NPY["cut"],
    "text": NPY["text"],
    "a single array": lambda good: next(iter(_members(good).values())),
    "an array that is cut": lambda good: _first_replaced(good, next(iter(_members(good).values()))[:-1]),
    "an array of objects": lambda good: _first_replaced(good, _objects()),
    "an array that declares 10^12 numbers": lambda good: _first_replaced(good, HUGE),
    "members that are no arrays": lambda good: zipped({**_members(good), "file": b"text"}),
    "members twice": lambda good: zipped({**_members(good), next(iter(_members(good))).removesuffix(".npy"): b""}),
    "names that differ": lambda good: _in_directory(good, 46, lambda byte: byte ^ 1),
    "encrypted": lambda good: _in_directory(good, 8, lambda byte: byte | 1),
    "an unknown compression": lambda good: _in_directory(good, 10, lambda byte: 99),
    "lzma that is none": lambda good: _in_directory(good, 10, lambda byte: 14),
    "deflated wrongly": _deflate_damaged,
    "a size of 4 GiB": lambda good: _in_directory(good, 27, lambda byte: 255),
}
JSON = {
    "empty": lambda good: b"",
    "cut": lambda good: good[: len(good) // 2],
    "null": lambda good: b"null",
    "a number": lambda good: b"3",
    "a text": lambda good: b'"text"',
    "100,000 brackets": lambda good: b"[" * 100_000,
    "900 brackets": lambda good: b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a number of 5,000 digits": lambda good: b'{"a": ' + b"9" * 5000 + b"}",
    "no UTF-8": lambda good: b'{"a": "\xff"}',
    "a zip file": lambda good: zipped({"a": b"1"}),
}
