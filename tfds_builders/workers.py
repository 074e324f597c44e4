"""A process pool for making examples. Workers have one thread and no accelerator: any number gives the same results."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from multibodies_jax import programs

_WORKER_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # Workers must not take an accelerator from the process that trains.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}

_MOST_PROCESSES = 4096

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextlib.contextmanager
def pool(num_processes: int | None = None) -> Iterator[Map]:
    """Yields a `map(function, tasks)` over fresh processes, in the order of the tasks; they start at the first task.

    Args:
      num_processes: number of workers; None is one for each CPU.

    Raises:
      ValueError: fewer than one process, or more than any machine has use for.
      ChildProcessError: a worker died (out of memory, or killed).
    """
    num_processes = programs.cores() if num_processes is None else num_processes
    if num_processes < 1:
        raise ValueError(f"num_processes must be at least 1, got {num_processes}.")
    if num_processes > _MOST_PROCESSES:
        raise ValueError(f"num_processes must be at most {_MOST_PROCESSES}, got {num_processes}.")
    with _environment(_WORKER_ENVIRONMENT):
        executor = concurrent.futures.ProcessPoolExecutor(
            num_processes, mp_context=multiprocessing.get_context("spawn"), initializer=_die_with_parent
        )
        try:
            yield executor.map
        except concurrent.futures.process.BrokenProcessPool as e:
            raise ChildProcessError(
                "A worker process died: usually out of memory (use fewer processes), or a script that builds a set at "
                'import time, without `if __name__ == "__main__":`.'
            ) from e
        finally:
            executor.shutdown(cancel_futures=True)


def _die_with_parent() -> None:
    """Otherwise workers would wait for ever for tasks from a parent that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # This is a worker.

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for the processes started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
