"""Damaged files in every reader of `tests.helpers.readers`, and the programs that none of them may start."""

import dataclasses
import os
import pathlib
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.helpers import readers
from tests.torture import counts, limited, mutations

SECONDS, GIGABYTES = 90.0, 2.0  # For one damaged file; readers in a process of their own have up to 60 seconds.
_ROUND = 25  # Damaged files of one reader before the next one's turn.
_PROGRAMS = ("gs", "gswin64c", "convert", "sh", "ffmpeg", "dot")


def run(seconds: float, seed: int) -> Iterator[counts.Counts]:
    """Damages a good file of every reader over and over, until the time is over; once in any case.

    Args:
      seconds: to run.
      seed: of the damage; with a number of rounds it decides everything.

    Yields:
      The counts of each reader.
    """
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        marks = _trap(root / "programs")
        campaigns = {reader.name: counts.Counts(f"files: {reader.name}") for reader in readers.READERS}
        goods: dict[str, tuple[pathlib.Path, bytes]] = {}
        for number, reader in enumerate(readers.READERS):
            path = root / str(number) / reader.file
            path.parent.mkdir()
            limited.alone(reader.make, path)
            goods[reader.name] = path, path.read_bytes()
        at = 0
        while not at or time.monotonic() < end:
            for number, reader in enumerate(readers.READERS):
                _one(reader, *goods[reader.name], (seed, number), at, campaigns[reader.name], marks)
                if at and time.monotonic() > end:
                    break
            at += _ROUND
        yield from campaigns.values()


def _trap(folder: pathlib.Path) -> pathlib.Path:
    """Programs that leave a mark when they are started, first in the path."""
    folder.mkdir()
    marks = folder / "started"
    for name in _PROGRAMS:
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$0 $*" >> {marks}\nexit 1\n', encoding="utf-8")
        program.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    return marks


def _one(
    reader: readers.Reader,
    path: pathlib.Path,
    good: bytes,
    seeds: tuple[int, int],
    first: int,
    found: counts.Counts,
    marks: pathlib.Path,
) -> None:
    def attempt(at: int) -> str:
        damaged, sealed = mutations.mutate(good, np.random.default_rng((*seeds, at)))
        path.write_bytes(damaged)
        try:
            result = reader.read(path)
        except reader.errors as error:
            return "good" if str(error).strip() else "bare: an error without words"
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"bare: {type(error).__name__}: {error} ({pathlib.Path(last.filename).name}:{last.lineno})"[:300]
        if not (reader.checked or reader.kind == "npz") or sealed:
            return "good"
        path.write_bytes(good)  # It has checksums: what is accepted must be what was written.
        return "good" if _same(result, reader.read(path)) else "silent: other contents than were written"

    for at, answer in limited.calls(attempt, first, first + _ROUND, SECONDS, GIGABYTES):
        fault, _, words = answer.partition(": ")
        found.add(None if fault == "good" else fault, f"try {at}, seed {seeds[0]}: {words}")
        if marks.exists():
            found.add("executed", f"try {at}, seed {seeds[0]}: {marks.read_text(encoding='utf-8')[:200]}")
            marks.unlink()


def _same(one: Any, other: Any) -> bool:
    """Whether two results of a reader are equal, array by array."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if dataclasses.is_dataclass(one) and dataclasses.is_dataclass(other):
        return _same(vars(one), vars(other))
    return bool(one == other)
