"""What benchmarks need beyond the package: programs to compare with, and JAX's compiler for GPUs."""

import importlib.util
import sys

PYTORCH, SMPLX, SCIKIT_LEARN = "PyTorch", "smplx", "scikit-learn"
CUDA = "JAX's CUDA plugin (and no GPU)"
MODULES = {
    PYTORCH: ("torch",),
    SMPLX: ("smplx",),
    SCIKIT_LEARN: ("sklearn",),
    CUDA: ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13"),
}
"""Modules of each, of which one is enough."""
COMMANDS = {
    PYTORCH: "pip install -e .[torch]",
    SMPLX: "pip install -e .[torch]",
    SCIKIT_LEARN: "pip install -e .[dev]",
    CUDA: "pip install -e .[cuda12] or, with a driver from 580 on, .[cuda13]",
}


def missing(*needed: str) -> str:
    """What of the needed is missing, and the command that installs it; empty where all is there.

    Args:
      *needed: of `MODULES`.
    """
    absent = [name for name in needed if not any(map(_is_there, MODULES[name]))]
    commands = ", ".join(dict.fromkeys(COMMANDS[name] for name in absent))
    return f"needs {' and '.join(absent)}: {commands}" if absent else ""


def are_missing(*needed: str) -> bool:
    """The same, said on stderr."""
    told = missing(*needed)
    if told:
        print(f"error: this {told}", file=sys.stderr)
    return bool(told)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # Its package is not there.
        return False
