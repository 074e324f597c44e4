"""Several hosts: who writes, who waits, who gets which share. With one process every function here is a no-op.

Each process runs the same program on its own devices. The first one alone builds data, writes logs and results, and says
things; checkpoints are written by all together. Folders must be on a disk that all see.
"""

import io
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")

MOST_SECONDS = 300.0  # That processes wait for each other at the start.
ANSWER_SECONDS = 5.0  # That the first one waits for what another one says, or does, at once.


def initialize() -> None:
    """Joins the processes of a run; call before JAX is used.

    Slurm, Open MPI and TPU pods are found by themselves; elsewhere the variables JAX_COORDINATOR_ADDRESS (host:port of
    the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID say who takes part.

    Raises:
      ValueError: neither is there, the others were not found, or they have other numbers of devices (`check_equal_devices`).
    """
    numbers = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        num_processes, process_id = (int(number) if number else None for number in numbers)
        address = os.environ.get("JAX_COORDINATOR_ADDRESS")
        if address and num_processes is not None and process_id is not None:
            meet(address, num_processes, process_id, MOST_SECONDS)
        jax.distributed.initialize(num_processes=num_processes, process_id=process_id)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed found no other processes ({error}). Start one process per host under Slurm, Open MPI or on a "
            "TPU pod, or set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID for each."
        ) from error
    check_equal_devices()


def meet(address: str, num_processes: int, process_id: int, seconds: float) -> None:
    """Returns when all processes are there; JAX would end a process that waits for a missing one with a crash.

    The first process listens at the address until each of the others has said its number, answers them all, and leaves the
    port to JAX. One that ends while it waits has to come again.

    Args:
      address: host:port of the first process.
      num_processes: how many take part.
      process_id: of this one, from 0.
      seconds: the longest wait.

    Raises:
      ValueError: the address or the number cannot be, this process cannot listen at the port, or another one did not come
        in time, or ended when all were there; the message says which.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"JAX_COORDINATOR_ADDRESS={address!r} is not HOST:PORT")
    if not 0 <= process_id < num_processes:
        raise ValueError(f"JAX_PROCESS_ID={process_id} is not from 0 to {num_processes - 1} (JAX_NUM_PROCESSES - 1)")
    end = time.monotonic() + seconds
    if process_id == 0:
        _wait_for_others(int(port), num_processes, end)
    else:
        _report_to_first(host, int(port), process_id, end)


def _wait_for_others(port: int, num_processes: int, end: float) -> None:
    came: dict[int, socket.socket | None] = {}  # By number; None of those that have ended since.
    try:
        try:
            with socket.create_server(("", port), backlog=num_processes) as server:
                while missing := _missing(came, num_processes):
                    if time.monotonic() >= end:
                        raise ValueError(_who(came, num_processes))
                    waiting = [server, *filter(None, came.values())]
                    if server in select.select(waiting, [], [], _left(end))[0]:
                        _take_one(server, missing, came, end)
        except OSError as error:  # Of the port alone: errors of the others are handled where they are read.
            raise ValueError(f"this process cannot listen at port {port}: {error}") from error
        for number, connection in came.items():
            if connection is not None:  # As it is of all here.
                _release(number, connection)
    finally:
        for connection in filter(None, came.values()):
            connection.close()


def _missing(came: dict[int, socket.socket | None], num_processes: int) -> list[int]:
    """The processes that are not there; those that have ended since they came are marked in `came`."""
    for number, connection in came.items():
        # They say nothing before they are answered: what can be read is the end of the connection.
        if connection is not None and select.select([connection], [], [], 0)[0]:
            connection.close()
            came[number] = None
    return [number for number in range(1, num_processes) if came.get(number) is None]


def _who(came: Mapping[int, socket.socket | None], num_processes: int) -> str:
    """Which processes are not there, in words."""
    absent = [str(number) for number in range(1, num_processes) if number not in came]
    ended = [str(number) for number, connection in came.items() if connection is None]
    told = [f"process {', '.join(absent)} of {num_processes} did not come"] if absent else []
    told += [f"process {', '.join(ended)} of {num_processes} came, and did not wait for all others"] if ended else []
    return "; ".join(told)


def _take_one(server: socket.socket, missing: Sequence[int], came: dict[int, socket.socket | None], end: float) -> None:
    """Takes a connection, and keeps it in `came` if it says the number of a process that is missing."""
    server.settimeout(1.0)
    try:
        connection, _ = server.accept()
    except (TimeoutError, ConnectionError):  # It is gone; others may still come.
        return
    connection.settimeout(min(_left(end), ANSWER_SECONDS))
    try:
        number = connection.recv(16).decode("ascii", "replace").strip()
    except OSError:  # It said nothing.
        number = ""
    if number.isdigit() and int(number) in missing:
        came[int(number)] = connection
    else:
        connection.close()


def _release(number: int, connection: socket.socket) -> None:
    """Answers a process that came, and waits until it has closed: then the port is free at once.

    Raises:
      ValueError: it has ended, or does not go on.
    """
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.sendall(b"go")
        connection.recv(1)
    except OSError as error:
        raise ValueError(f"process {number} came, and then ended or did not go on ({error})") from error


def _report_to_first(host: str, port: int, process_id: int, end: float) -> None:
    while True:
        try:
            with socket.create_connection((host, port), timeout=_left(end)) as connection:
                connection.sendall(f"{process_id}\n".encode())
                connection.settimeout(_left(end))
                if connection.recv(2) == b"go":
                    return
        except socket.gaierror as error:
            raise ValueError(f"there is no host {host!r} ({error})") from error
        except OSError:
            pass  # Not there yet.
        if time.monotonic() >= end:
            raise ValueError(f"the first process at {host}:{port} did not answer, or others did not come")
        time.sleep(0.2)


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.01)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def on_first(action: Callable[[], object], name: str) -> None:
    """Runs `action` on the first process while the others wait; `name` tells one wait from another."""
    failed: Exception | None = None
    if is_first():
        try:
            action()
        except Exception as error:  # The others must not wait for what does not come.
            failed = error
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
        told = gathered([np.array("" if failed is None else f"{type(failed).__name__}: {failed}")])[0][0].item()
        if failed is None and told:
            raise ValueError(f"The first process ended with an error ({told}).")
    if failed is not None:
        raise failed


def end_soon(status: int, seconds: float = 20.0) -> None:
    """Ends this process after a while, although others wait for it; call where an error ends it. Without others a no-op.

    At the end of a process JAX waits for the others. Where all had the error, they come, and nothing is left to do. Where
    one had it alone, they wait for what it was to compute with them: this one then leaves without them, and JAX ends them
    with a message that it is gone.

    Args:
      status: the exit status.
      seconds: until then.
    """
    if jax.distributed.is_initialized():  # How many there are, JAX can say only where it found its devices.
        timer = threading.Timer(seconds, os._exit, (status,))
        timer.daemon = True
        timer.start()


def check_equal_devices() -> None:
    """Refuses processes with different numbers of devices: their shares of the examples would not fit together.

    Raises:
      ValueError: they differ; the message has the numbers.
    """
    owners = [device.process_index for device in jax.devices()]
    counts = [owners.count(number) for number in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise ValueError(
            f"The {len(counts)} processes have {', '.join(map(str, counts))} devices, and equally many are expected: start "
            "them on machines of one kind, or choose the devices of each (CUDA_VISIBLE_DEVICES)."
        )


def gathered(arrays: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The arrays that each process gave, by process; all have to call this.

    Args:
      arrays: of numbers or texts; those of the processes may differ in number, shape and type.
    """
    if jax.process_count() == 1:
        return [list(arrays)]
    file = io.BytesIO()
    np.savez(file, *arrays)
    content = np.frombuffer(file.getvalue(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.uint32(len(content))))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = content
    found = []
    for row, size in zip(np.asarray(multihost_utils.process_allgather(padded)), sizes, strict=True):
        with np.load(io.BytesIO(row[:size].tobytes()), allow_pickle=False) as stored:
            found.append([stored[f"arr_{number}"] for number in range(len(stored.files))])
    return found


def in_turns(parts: Sequence[T]) -> list[T]:
    """What all processes have, as one process would have had it: the first part of each, then the second of each, ...

    Args:
      parts: trees of arrays, as many in each process, and all of one structure.
    """
    if jax.process_count() == 1 or not parts:
        return list(parts)
    structure = jax.tree.structure(parts[0])
    every = gathered([np.asarray(leaf) for part in parts for leaf in jax.tree.leaves(part)])
    size = structure.num_leaves
    return [
        jax.tree.unflatten(structure, leaves[turn * size : (turn + 1) * size])
        for turn in range(len(parts))
        for leaves in every
    ]


def asked_to_stop(step: int) -> bool:
    """Whether a SIGTERM, whichever process got it, stops all of them after this step."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)
