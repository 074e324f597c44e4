"""Damage of files: bytes, numbers and words in texts, and members of zip archives whose checksums are made anew."""

import io
import re
import struct
import warnings
import zipfile
from collections.abc import Callable

import numpy as np

Generator = np.random.Generator

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NUMBERS = (
    b"0",
    b"-1",
    b"1e400",
    b"NaN",
    b"null",
    b"99999999999999999999",
    b"2147483648",
    b"-0.5",
    b'"7"',
    b"[]",
    b"1e9",
)
_TOKENS = (b"null", b"[" * 3000, b"{", b'"', b",", b"\x00", b"\xff\xfe", b"true", b"-", b"\xef\xbb\xbf", b"[]", b"{}")
_SHAPES = (b"(1000000000000,)", b"(0,)", b"(-1,)", b"()", b"(2, 2)", b"(99999999,24,3)", b"(1,),")
_TYPES = (b"'<f8'", b"'|O'", b"'<U9'", b"'>f4'", b"'<i8'", b"'|S8'", b"'<c16'", b"'nonsense'")


def mutate(data: bytes, rng: Generator) -> tuple[bytes, bool]:
    """A damaged copy: one to three kinds of damage, drawn.

    Args:
      data: of a good file.
      rng: consumed; the result depends on nothing else.

    Returns:
      The copy, and whether the checksums of its members were made anew: then other contents are no damage that a reader
      could see.
    """
    whole, sealed = zipfile.is_zipfile(io.BytesIO(data)), False
    for _ in range(int(rng.integers(1, 4))):
        kinds = [*_ON_BYTES]
        if _is_text(data):
            kinds += [_number, _number, _number, _token, _token]
        if whole:
            kinds += [_member] * 6
        kind = kinds[int(rng.integers(len(kinds)))]
        data = kind(data, rng)
        whole, sealed = whole and zipfile.is_zipfile(io.BytesIO(data)), sealed or kind is _member
    return data, sealed


def _is_text(data: bytes) -> bool:
    return len(data) > 0 and b"\x00" not in data[:1000]


def _place(data: bytes, rng: Generator) -> int:
    """Mostly anywhere, often in the head, where formats say what follows."""
    return int(rng.integers(max(1, len(data) if rng.random() < 0.6 else min(len(data), 300))))


def _flip(data: bytes, rng: Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if changed:
            changed[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncate(data: bytes, rng: Generator) -> bytes:
    return data[: _place(data, rng)]


def _remove(data: bytes, rng: Generator) -> bytes:
    first = _place(data, rng)
    return data[:first] + data[first + int(rng.integers(1, 64)) :]


def _repeat(data: bytes, rng: Generator) -> bytes:
    first = _place(data, rng)
    part = data[first : first + int(rng.integers(1, 64))]
    return data[:first] + part * int(rng.integers(2, 5)) + data[first + len(part) :]


def _zero(data: bytes, rng: Generator) -> bytes:
    first, length = _place(data, rng), int(rng.integers(1, 64))
    return data[:first] + bytes(len(data[first : first + length])) + data[first + length :]


def _noise(data: bytes, rng: Generator) -> bytes:
    first, length = _place(data, rng), int(rng.integers(1, 64))
    return data[:first] + rng.bytes(len(data[first : first + length])) + data[first + length :]


def _integer(data: bytes, rng: Generator) -> bytes:
    """A size, an offset or a count becomes an extreme one."""
    first = _place(data, rng)
    value = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1)[int(rng.integers(6))]
    return data[:first] + struct.pack("<I", value) + data[first + 4 :]


def _append(data: bytes, rng: Generator) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 200)))


def _number(data: bytes, rng: Generator) -> bytes:
    found = list(_NUMBER.finditer(data[:100_000]))
    if not found:
        return _flip(data, rng)
    one = found[int(rng.integers(len(found)))]
    return data[: one.start()] + _NUMBERS[int(rng.integers(len(_NUMBERS)))] + data[one.end() :]


def _token(data: bytes, rng: Generator) -> bytes:
    first = _place(data, rng)
    return data[:first] + _TOKENS[int(rng.integers(len(_TOKENS)))] + data[first:]


_ON_BYTES: tuple[Callable[[bytes, Generator], bytes], ...] = (
    *(_flip, _flip, _truncate, _remove, _repeat, _zero, _noise, _integer, _append),
)


def _member(data: bytes, rng: Generator) -> bytes:
    """One member is damaged, renamed, dropped or doubled, and the archive is written with right checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist() if info.file_size < 2**27]
    except Exception:  # Damaged before: whatever zipfile says of it.
        return _flip(data, rng)
    if not members:
        return _flip(data, rng)
    at = int(rng.integers(len(members)))
    name, content = members[at]
    what = int(rng.integers(8))
    if what == 0:
        members.pop(at)
    elif what == 1:
        members[at] = (_flip(name.encode(), rng).decode("latin1").replace("\x00", "0"), content)
    elif what == 2:
        members.append(members[int(rng.integers(len(members)))])
    elif what == 3:
        members[at] = (
            name,
            re.sub(rb"\([\d, ]*\)", lambda _: _SHAPES[int(rng.integers(len(_SHAPES)))], content, count=1),
        )
    elif what == 4:
        kind = _TYPES[int(rng.integers(len(_TYPES)))]
        members[at] = (name, re.sub(rb"'[<>|][a-zA-Z]\d+'", lambda _: kind, content, count=1))
    elif what == 5:
        members[at] = (name, members[int(rng.integers(len(members)))][1])
    else:
        members[at] = (name, _ON_BYTES[int(rng.integers(len(_ON_BYTES)))](content, rng))
    written = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(written, "w") as archive:  # Names may come twice.
        for member, content in members:
            archive.writestr(zipfile.ZipInfo(member or "0"), content)
    return written.getvalue()
