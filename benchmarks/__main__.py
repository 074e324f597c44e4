"""Runs benchmarks one after the other, and keeps their figures for docs/benchmarks.md where --write asks for it.

    python -m benchmarks [joints quantizer ...] [--write]     # by default all that can run here
    multibodies report pages            # makes the page of the figures

Each runs in a process of its own; a machine with nothing else to do gives figures worth keeping.
"""

import argparse
import ast
import contextlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import time

from benchmarks import figures, needs, turns
from multibodies_jax import programs
from multibodies_jax.training import checkpoints

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = {
    "joints": "joints",
    "quantizer": "quantizer",
    "pipeline": "pipeline",
    "video": "video",
    "building": "building --lengths 100 300",
    "inference": "inference",
    "training": "training",
    "training_resnet50": "training --trunk=resnet50 --size=224 --batch=16 --steps=4",
    "fitting": "fitting --repeats=15",
    "heads": "heads",
    "released": "released --modes 25 100 --batch 1 8 64 --seconds=8 --memory=18",
    "graphcmr": "graphcmr",
    "layers": "layers",
    "launches": "launches",
    "lowered": "lowered --compile",
}
"""What is run by the name of its figures: the benchmark and its options."""
NEEDS = {
    "joints": (needs.PYTORCH, needs.SMPLX),
    "quantizer": (needs.SCIKIT_LEARN,),
    "released": (needs.PYTORCH,),
    "graphcmr": (needs.PYTORCH,),
    "layers": (needs.PYTORCH,),
    "launches": (needs.CUDA,),
    "lowered": (needs.CUDA,),
}
"""What a benchmark cannot run without."""
_ABOUT_JAX = "f'jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}'"
_COMPARED = ("torch", "onnxruntime", "scikit-learn")


def machine() -> str:
    """What the figures are measured with and on: processors, device and versions."""
    found = [f"{programs.cores()} CPUs{_model()}, Python {platform.python_version()}, {turns.ask_jax(_ABOUT_JAX)}"]
    for package in _COMPARED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(found)


def _model() -> str:
    """The processor's name in brackets; empty where the system does not tell it."""
    try:
        told = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return f" ({names[0]})" if names else ""


def run(name: str, about: str, write: bool) -> int:
    """Runs one benchmark and shows what it prints.

    Args:
      name: of its figures.
      about: of `machine`.
      write: keeps its figures, if it succeeds.

    Returns:
      Its exit status.
    """
    start = time.perf_counter()
    command = ["python", "-m", *f"benchmarks.{COMMANDS[name]}".split()]
    print(f"== {' '.join(command)}", flush=True)
    surroundings = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *command[1:]], stdout=subprocess.PIPE, text=True, encoding="utf-8", env=surroundings
    )
    assert process.stdout is not None  # It is a pipe.
    printed = []
    for line in process.stdout:
        printed.append(line)
        print(line, end="", flush=True)
    status, seconds = process.wait(), time.perf_counter() - start
    print(f"-- {seconds:.0f} s" + f", failed with status {status}" * bool(status), flush=True)
    if write and status == 0:
        its = {"what": question(command[2]), "command": " ".join(command), "commits": checkpoints.git_commit()[:7]}
        figures.write(ROOT, name, list(figures.read("".join(printed))), its | {"cost": f"{about}; {seconds:.0f} s"})
    return status


def question(module: str) -> str:
    """The first line of a benchmark's docstring, without importing it."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(COMMANDS)}; default: all that can run here"
    )
    parser.add_argument(
        "--write", action="store_true", help=f"into {figures.FOLDER}, which docs/benchmarks.md is made of"
    )
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.names) - set(COMMANDS)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose among {', '.join(COMMANDS)}.")
    about, failed = machine(), False
    for name in args.names or COMMANDS:
        told = "" if args.names else needs.missing(*NEEDS.get(name, ()))
        if told:
            print(f"== {name} is left out: it {told}", flush=True)
        else:
            failed |= run(name, about, args.write) != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
