"""What tracing and compiling take of the time of a run, which is said at its end.

    with compile_time.measured() as spent:
        train()
    print(spent)

JAX reports each part when it has ended: tracing, lowering, and compiling by XLA, which includes reading a compiled program
from disk. A function that is traced inside another is reported as well, and threads compile at the same time: what overlaps
counts once.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

_PARTS = "/jax/core/compile/"
_COMPILED = "/jax/core/compile/backend_compile_duration"
_FROM_DISK = "/jax/compilation_cache/cache_hits"


class Spent:
    """The time of a run, and what of it went into programs.

    Attributes:
      programs: how many XLA compiled or read from disk.
      from_disk: how many of them were read.
    """

    def __init__(self, start: float):
        self.programs = self.from_disk = 0
        self._start, self._end = start, None
        self._busy: list[tuple[float, float]] = []  # Apart from each other, in their order.
        self._lock = threading.Lock()

    def add(self, seconds: float, now: float) -> None:
        """Notes a part that took `seconds` and has ended now; parts come in the order of their ends."""
        with self._lock:
            start = now - seconds
            while self._busy and self._busy[-1][1] >= start:
                start = min(start, self._busy.pop()[0])
            self._busy.append((start, now))

    def end(self, now: float) -> None:
        """Notes the end of the run."""
        self._end = now

    @property
    def compiling(self) -> float:
        """Seconds in which a program was traced, lowered, compiled or read."""
        return sum((end - start for start, end in self._busy), 0.0)

    def __str__(self) -> str:
        whole = (time.monotonic() if self._end is None else self._end) - self._start
        read = f", {self.from_disk} of them read from disk" if self.from_disk else ""
        return f"Tracing and compiling took {self.compiling:.1f} of {whole:.1f} s (programs: {self.programs}{read})."


@contextlib.contextmanager
def measured() -> Iterator[Spent]:
    """Measures what is done inside; imports JAX."""
    from jax import monitoring

    spent = Spent(time.monotonic())

    def on_duration(event: str, duration_secs: float, **about: Any) -> None:
        if event.startswith(_PARTS):
            spent.add(duration_secs, time.monotonic())
            spent.programs += event == _COMPILED

    def on_event(event: str, **about: Any) -> None:
        spent.from_disk += event == _FROM_DISK

    monitoring.register_event_duration_secs_listener(on_duration)
    monitoring.register_event_listener(on_event)
    try:
        yield spent
    finally:
        monitoring.unregister_event_duration_listener(on_duration)
        monitoring.unregister_event_listener(on_event)
        spent.end(time.monotonic())
