"""Programs take turns, so that a slow moment of the machine meets all of them: functions of this process, or other processes.

Such a process prepares, says what is known of it, and then answers every line on its stdin (`serve`); what it says is lines
of JSON. One that fails is left out: the benchmark's table says `FAILED` of it, and its error stands on stderr.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

FAILED = "did not run: too little memory, a missing package, or an error, which stands on stderr"
_FEWEST_ROUNDS = 3
Clock = Callable[[], float]
Call = Callable[[], Any]


def timed(call: Call, clock: Clock = time.perf_counter) -> float:
    """Seconds of one call, until its result is on the device."""
    start = clock()
    jax.block_until_ready(call())
    return clock() - start


def seconds(calls: Sequence[Call], repeats: int, clock: Clock = time.perf_counter) -> Float[np.ndarray, "R P"]:
    """Seconds of each of P functions in each of R rounds."""
    return np.array([[timed(call, clock) for call in calls] for _ in range(repeats)])


def medians(calls: Sequence[Call], repeats: int, clock: Clock = time.perf_counter) -> list[float]:
    """Median seconds of each function; arguments as those of `seconds`."""
    return np.median(seconds(calls, repeats, clock), axis=0).tolist()


class Process:
    """A program in a process of its own.

    Attributes:
      failed: it has ended, or said something else than JSON.
    """

    def __init__(
        self, name: str, module: str, options: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts the process, which prepares while others do; `wait` until it has.

        Args:
          name: of the program.
          module: that is run, as after `python -m`.
          options: of its command line.
          environment: variables that differ from those here.
        """
        self.failed = False
        self._name, self._ready = name, None
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **(environment or {})},
        )

    def wait(self) -> Any:
        """What it says of itself when it has prepared; None if it failed."""
        if self._ready is None:
            self._ready = self._answer()
        return self._ready

    def ask(self) -> Any:
        """Lets it run once. Its answer; None if it fails, or has failed."""
        if self.failed:
            return None
        assert self._process.stdin is not None  # It is a pipe.
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended, so that there is no answer.
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> Any:
        if self.failed:
            return None
        assert self._process.stdout is not None  # It is a pipe.
        line = self._process.stdout.readline()
        answer = _parsed(line)
        if answer is None:
            self.failed = True
            if line:
                self._process.kill()
            _say_failed(self._name, line, self._process.wait())
        return answer


def answers(processes: Mapping[str, Process], seconds: float) -> dict[str, list[Any]]:
    """Asks all processes in turns, and ends them.

    Args:
      processes: by the names of their programs.
      seconds: for the rounds; there are at least three.

    Returns:
      The answers of those that did not fail, one for each round.
    """
    left = {name: process for name, process in processes.items() if process.wait() is not None}
    found: dict[str, list[Any]] = {name: [] for name in left}
    end, rounds = time.perf_counter() + seconds, 0
    while left and (time.perf_counter() < end or rounds < _FEWEST_ROUNDS):
        for name, process in list(left.items()):
            found[name].append(process.ask())
            if process.failed:
                left.pop(name)
        rounds += 1
    for process in processes.values():
        process.close()
    return {name: found[name] for name in left}


def serve(ready: Any, answer: Callable[[], Any]) -> None:
    """What a process does that has prepared.

    Args:
      ready: what is known of it.
      answer: called for every line on stdin; what it returns is the answer.
    """
    print(json.dumps(ready), flush=True)
    for _ in sys.stdin:
        print(json.dumps(answer()), flush=True)


def once(name: str, module: str, options: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """Runs a program to its end; arguments as those of `Process`.

    Returns:
      Its last line, of JSON; None if it failed, which is said on stderr.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **(environment or {})},
    )
    line = done.stdout.splitlines()[-1] if done.stdout else ""
    answer = _parsed(line) if done.returncode == 0 else None
    if answer is None:
        _say_failed(name, line, done.returncode)
    return answer


def ask_jax(expression: str) -> str:
    """The value of a Python expression of `jax`, in a process of its own: this one takes no memory of an accelerator.

    Raises:
      SystemExit: JAX finds no device.
    """
    code = f"import jax; print({expression})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit("error: JAX finds no device; its own message is above.")
    return done.stdout.strip()


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _say_failed(name: str, line: str, status: int) -> None:
    said = f" It said {line.strip()!r}." if line.strip() else ""
    print(f"error: {name} ended with status {status}; its own message is above.{said}", file=sys.stderr, flush=True)
