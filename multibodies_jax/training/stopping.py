"""A SIGTERM, by which schedulers end a job, lets a training save before it stops."""

import signal
import threading

import jax


class StopOnTerm:
    """While active, SIGTERM asks a training to save and stop instead of killing it; a context manager.

    The loop reads `requested` after each step, saves, and raises KeyboardInterrupt, as Ctrl+C does. A signal that comes
    later, as during the last save, is not forgotten: then leaving the block raises it, so that nothing that follows
    starts. With several processes JAX takes the signal, so that all stop at one step (`multihost.asked_to_stop`).
    """

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "StopOnTerm":
        main = threading.current_thread() is threading.main_thread()
        alone = jax.process_count() == 1 and main
        self._before = signal.signal(signal.SIGTERM, self._request) if alone else None
        return self

    def _request(self, *_) -> None:
        self.requested = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if self.requested and kind is None:
            raise KeyboardInterrupt
