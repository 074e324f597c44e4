"""Scalars of a run: TensorBoard events for looking, and one JSON line per step for reading back."""

import importlib
import json
import math
import os
import pathlib
import sys
import time
import types
from collections.abc import Mapping
from typing import Any

import jax
from tqdm import tqdm

from multibodies_jax import io

LOG = "log.jsonl"


class Logger:
    """Writes the scalars of a run; a context manager.

    A run that goes on from the checkpoint of step s has lines beyond s in its log, from steps that it will take again:
    they are dropped, so that every step stands in the log once. Of several processes only the first one writes.
    """

    def __init__(self, directory: str | os.PathLike, step: int = 0):
        """Opens the log of a work directory.

        Args:
          directory: made if absent.
          step: the step the run goes on from; 0 starts a new log.
        """
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / LOG
        if path.exists():
            kept = "".join(json.dumps(line) + "\n" for line in read(directory) if line["step"] <= step)
            io.write_text(path, kept)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._events = _tensorboard().SummaryWriter(str(directory), purge_step=step + 1)

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes one step at once, so that a killed run has all its lines.

        Args:
          step: of the optimiser.
          scalars: numbers, or arrays with one element. What is not finite becomes null, and is left out of the events.
        """
        if not self._writes:
            return
        values = {name: float(value) for name, value in scalars.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": int(step)} | finite) + "\n")
        self._file.flush()
        for name, value in finite.items():
            if value is not None:
                self._events.add_scalar(name, value, int(step))

    def close(self) -> None:
        """Flushes and closes both files."""
        if not self._writes:
            return
        self._file.close()
        self._events.close()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tensorboard() -> types.ModuleType:
    """The module tensorboardX, imported late, because only training writes events.

    Where PyTorch is installed, it would import that, too, for the name of one type; this takes longer than all the rest of
    a program's start, and is not needed for scalars.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]  # Python's way to say: it is not there.
    try:
        return importlib.import_module("tensorboardX")
    finally:
        if hidden:
            del sys.modules["torch"]


def tell_first_step(name: str, begun: float, result: Any) -> None:
    """Waits for the first step of a training and says how long it took, above the progress bar.

    Args:
      name: of what is trained.
      begun: `time.monotonic` before the step, with the data at hand.
      result: arrays that the step computes.
    """
    if jax.process_index() == 0:
        jax.block_until_ready(result)
        tqdm.write(f"{name}: first step after {time.monotonic() - begun:.1f} s.", file=sys.stderr)


def read(directory: str | os.PathLike) -> list[dict[str, Any]]:
    """Reads a log back: one dictionary per step, null as None; a last line that a kill cut off is left out.

    Raises:
      FileNotFoundError: there is no log.
      ValueError: a line other than the last is no step; the message has its number.
    """
    path = pathlib.Path(directory) / LOG
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    steps = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            break
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict) or not isinstance(values.get("step"), int):
            raise ValueError(
                f'Line {number} of {path} is no {{"step": ..., ...}} but {line[:60]!r}: mend or remove it.'
            )
        steps.append(values)
    return steps
