"""Programs of tests are lowered faster: they share MLIR contexts, which JAX makes anew for every program.

A context knows JAX's dialects, and loading them takes about as long as lowering a small program: of the tests of
`hypotheses`, `losses` and `models.hmr`, which make 1,200 programs, sharing saves a fifth of the CPU time. A context keeps
all constants that it saw, so each serves a limited number of programs.
"""

import threading
from types import ModuleType
from typing import Any

PROGRAMS = 64
"""How many share a context."""

_own = threading.local()


def share_contexts() -> None:
    """Makes JAX share the contexts of each thread; does nothing where this version of JAX makes them elsewhere."""
    mlir = module()
    if (make := getattr(mlir, "make_ir_context", None)) is None:
        return

    def shared() -> Any:
        left = getattr(_own, "left", 0)
        if left == 0:
            _own.context, left = make(), PROGRAMS
        _own.left = left - 1
        return _own.context

    mlir.make_ir_context = shared


def module() -> Any:
    """JAX's module that makes contexts; an empty one where there is none."""
    try:
        from jax._src.interpreters import mlir
    except ImportError:
        return ModuleType("none")
    return mlir
