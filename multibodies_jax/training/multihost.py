"""Training on several hosts: who writes, who waits. With one process every function here is free of effect.

Each process runs the same program on its own devices. The first one alone builds data, writes logs and says things;
checkpoints are written by all together. Folders must be on a disk that all see.
"""

import os
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils


def initialize() -> None:
    """Joins the processes of a run; call before JAX is used.

    Slurm, Open MPI and TPU pods are found by themselves; elsewhere the variables JAX_COORDINATOR_ADDRESS (host:port of
    the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID say who takes part.

    Raises:
      ValueError: neither is there, or the others were not found.
    """
    numbers = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        num_processes, process_id = (int(number) if number else None for number in numbers)
        jax.distributed.initialize(num_processes=num_processes, process_id=process_id)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed found no other processes ({error}). Start one process per host under Slurm, Open MPI or on a "
            "TPU pod, or set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID for each."
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def on_first(action: Callable[[], object], name: str) -> None:
    """Runs `action` on the first process while the others wait; `name` tells one wait from another."""
    if is_first():
        action()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def asked_to_stop(step: int) -> bool:
    """Whether a SIGTERM, whichever process got it, stops all of them after this step."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)
