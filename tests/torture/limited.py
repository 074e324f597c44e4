"""Calls in forked children under limits of time and memory, one report per call."""

import faulthandler
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import resource
import signal
from collections.abc import Callable, Iterator

_FORK = multiprocessing.get_context("fork")  # After the imports, which take seconds; JAX is not initialised before.


def calls(
    function: Callable[[int], str], first: int, last: int, seconds: float, gigabytes: float
) -> Iterator[tuple[int, str]]:
    """Calls function(first), ..., function(last - 1), in children that follow each other where one ends.

    Args:
      function: returns a short text; it runs in a child.
      first: argument of the first call.
      last: one more than that of the last call.
      seconds: one call may take; then its child is killed.
      gigabytes: of memory that a child may map beyond what it had at the start.

    Yields:
      Each argument with what the call returned, or "hang", or "crash: " and how the child ended.
    """
    at = first
    while at < last:
        ours, theirs = _FORK.Pipe()
        child = _FORK.Process(target=_serve, args=(function, at, last, theirs, gigabytes), daemon=True)
        child.start()
        theirs.close()
        while at < last:
            answer = _answer(ours, child, seconds)
            yield at, answer
            at += 1
            if answer == "hang" or answer.startswith("crash"):
                break
        child.kill()
        child.join()
        ours.close()


def alone(function: Callable[..., object], *args: object) -> None:
    """Calls a function in a child without limits, so that threads which it starts are not the parent's.

    Raises:
      RuntimeError: it failed; the child has printed how.
    """
    child = _FORK.Process(target=function, args=args)
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError(f"{function} ended with exit status {child.exitcode}.")


def _answer(
    ours: multiprocessing.connection.Connection, child: multiprocessing.process.BaseProcess, seconds: float
) -> str:
    if not ours.poll(seconds):
        return "hang"
    try:
        return ours.recv()
    except EOFError:
        child.join(10)
        code = child.exitcode or 0
        return f"crash: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}"


def _serve(
    function: Callable[[int], str],
    first: int,
    last: int,
    theirs: multiprocessing.connection.Connection,
    gigabytes: float,
) -> None:
    faulthandler.disable()  # The parent says what a child died of.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Libraries say there what they find in every damaged image.
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    most = mapped + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for at in range(first, last):
        theirs.send(function(at))
