"""Runs benchmarks one after the other and prints a Markdown section of each, for docs/benchmarks.md.

    python -m benchmarks [joints quantizer pipeline video building inference training fitting heads released graphcmr launches lowered]

Each runs as it is, in a process of its own; a machine with nothing else to do gives figures worth keeping.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time

from multibodies_jax.training import checkpoints

NAMES = (
    "joints",
    "quantizer",
    "pipeline",
    "video",
    "building",
    "inference",
    "training",
    "fitting",
    "heads",
    "released",
    "graphcmr",
    "launches",
    "lowered",
)
# In a process of its own: this one must not take an accelerator's memory from the benchmarks.
_ABOUT_JAX = "import jax; d = jax.devices(); print(f'jax {jax.__version__}, {len(d)} x {d[0].device_kind}')"


def machine() -> str:
    """What the figures were measured with and on: CPUs, jax, device and commit."""
    about_jax = subprocess.run(
        [sys.executable, "-c", _ABOUT_JAX], check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ).stdout
    return f"{os.cpu_count()} CPUs, {about_jax.strip()}, commit {checkpoints.git_commit()}"


def section(name: str, about: str, printed: str, seconds: float, status: int) -> str:
    """Markdown of one benchmark: where it ran, its command, and what it printed as it stands."""
    ended = "" if status == 0 else f"; **failed with status {status}**"
    command = shlex.join(["python", "-m", f"benchmarks.{name}"])
    return f"### {name}\n\n{about}. `{command}`, {seconds:.0f} s{ended}.\n\n```\n{printed.rstrip()}\n```\n"


def run(name: str, about: str) -> int:
    """Runs one benchmark, prints its section and returns its exit status; its errors go to stderr at once."""
    start = time.perf_counter()
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    print(section(name, about, done.stdout, time.perf_counter() - start, done.returncode), flush=True)
    return done.returncode


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    names = parser.parse_args(argv).names or NAMES
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose among {', '.join(NAMES)}.")
    about = machine()
    return max([run(name, about) != 0 for name in names])


if __name__ == "__main__":
    sys.exit(main())
