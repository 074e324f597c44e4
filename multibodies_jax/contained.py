"""Runs a reader of files in a process of its own: one that crashes, hangs or fills the memory takes nothing with it.

SciPy ends the interpreter on some damaged MATLAB files, and cdflib loops on some damaged CDF files. The process is
started by the first call and serves later ones, so that many small files cost one start; it ends with this one.
"""

import contextlib
import importlib.util
import inspect
import os
import pathlib
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<Q")
_ROOT = pathlib.Path(__file__).resolve().parents[1]


class ContainedError(ValueError):
    """The function failed, or its process ended, took too long or too much memory; the message says which."""


def call(function: Callable[..., Any], *args: Any, seconds: float, memory: int, **kwargs: Any) -> Any:
    """What a function returns, computed in another process.

    Args:
      function: of the top level of a module, which is loaded alone there, without its package; so it imports absolutely,
        and what it imports should be little.
      *args, **kwargs: its arguments; they and the result can be pickled.
      seconds: that it may take; starting the process is not counted.
      memory: bytes of address space that it may take beyond what its imports need.

    Raises:
      ContainedError: see there.
    """
    request = str(inspect.getsourcefile(function)), function.__name__, args, kwargs, memory
    with _lock:
        kind, value = _running().ask(pickle.dumps(request), seconds)
    if kind == "error":
        raise ContainedError(value)
    return value


class _Process:
    """The other process, and the two pipes to it."""

    def __init__(self):
        self.owner = os.getpid()
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}  # Each takes address space.
        paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self._child = subprocess.Popen(
            [sys.executable, "-m", "multibodies_jax.contained"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | threads | {"PYTHONPATH": paths},
        )
        self._receive(time.monotonic() + 120)  # It says that it has started.

    def alive(self) -> bool:
        return self.owner == os.getpid() and self._child.poll() is None

    def ask(self, request: bytes, seconds: float) -> tuple[str, Any]:
        """("value", what the function returned), or ("error", what went wrong); then the process may be gone."""
        try:
            assert self._child.stdin is not None
            _send(self._child.stdin, request)
            return pickle.loads(self._receive(time.monotonic() + seconds))
        except TimeoutError:
            self.end()
            return "error", f"it was not read within {seconds:g} seconds"
        except (EOFError, OSError):
            status = self.end()
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            return "error", f"the program that reads it crashed ({how})"
        except BaseException:  # Ctrl-C: an answer on its way would be taken for the next one's.
            self.end()
            raise

    def end(self) -> int:
        """Ends the process; returns its exit status, negative for a signal that it got before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(0.5)
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        return self._child.wait()

    def _receive(self, deadline: float) -> bytes:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return self._read(length, deadline)

    def _read(self, length: int, deadline: float) -> bytes:
        assert self._child.stdout is not None
        source, parts = self._child.stdout.fileno(), []
        while length:
            if not select.select([source], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(source, min(length, 2**20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


_lock = threading.Lock()
_process: _Process | None = None


def _running() -> _Process:
    global _process
    if _process is None or not _process.alive():
        _process = _Process()
    return _process


def _send(pipe: BinaryIO | Any, content: bytes) -> None:
    pipe.write(_LENGTH.pack(len(content)) + content)
    pipe.flush()


def _answer(file: str, name: str, args: tuple, kwargs: dict[str, Any], memory: int) -> tuple[str, Any]:
    try:
        function = getattr(_module(file), name)
        _limit(memory)
        value = function(*args, **kwargs)
        return "value", value
    except MemoryError:
        return "error", f"reading it takes more than {memory / 2**20:,.0f} MiB of memory"
    except Exception as error:
        return "error", str(error) or type(error).__name__
    finally:
        _limit(None)


_modules: dict[str, Any] = {}


def _module(file: str) -> Any:
    """A module by its file: importing its package would import TensorFlow, which takes seconds."""
    if file not in _modules:
        spec = importlib.util.spec_from_file_location(f"contained_{len(_modules)}", file)
        assert spec is not None and spec.loader is not None
        _modules[file] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(_modules[file])
    return _modules[file]


def _limit(memory: int | None) -> None:
    """Bounds the address space to its present size plus `memory` bytes; None lifts the bound."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Where the system has no such limits.
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if memory is None:
            soft = hard
        else:
            pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            soft = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _serve() -> None:
    """The other process: answers requests until its parent is gone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints is no answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process of a terminal.
    _send(answers, b"started")
    while head := sys.stdin.buffer.read(_LENGTH.size):
        request = pickle.loads(sys.stdin.buffer.read(*_LENGTH.unpack(head)))
        answer = _answer(*request)
        try:
            content = pickle.dumps(answer)
        except Exception as error:
            content = pickle.dumps(("error", f"what it holds cannot be handed over ({error or type(error).__name__})"))
        del answer
        _send(answers, content)
        del content


if __name__ == "__main__":
    _serve()
