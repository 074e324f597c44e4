"""How much of a device's arithmetic a program uses: its products and convolutions, against a large product in the same run."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from benchmarks import turns
from multibodies_jax.training import plan

SIDES = {"cpu": 2048}
"""Side of the large product by the kind of device; 8192 elsewhere."""
_REPEATS = 5


def operations(function: Callable[..., Any], *arguments: Any) -> int:
    """Multiplications and additions in the products of matrices and the convolutions that a function is traced to.

    Those of a loop count as often as it runs; where that depends on the arrays, once. Nothing is computed.
    """
    return _operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def _operations(program: core.Jaxpr) -> int:
    count = 0
    for line in program.eqns:
        read: list[Any] = [variable.aval for variable in line.invars]
        made: list[Any] = [variable.aval for variable in line.outvars]
        inside = [_operations(its) for its in plan.programs_inside(line.params)]
        if line.primitive.name == "dot_general":
            (contracted, _), _ = line.params["dimension_numbers"]
            count += 2 * made[0].size * _product(read[0].shape[axis] for axis in contracted)
        elif line.primitive.name == "conv_general_dilated":
            kernel, numbers = read[1], line.params["dimension_numbers"]
            count += 2 * made[0].size * (kernel.size // kernel.shape[numbers.rhs_spec[0]])
        elif line.primitive.name == "cond":
            count += max(inside)
        else:
            count += line.params.get("length", 1) * sum(inside)
    return count


def _product(numbers: Any) -> int:
    return functools.reduce(lambda a, b: a * int(b), numbers, 1)


def peak(dtype: str) -> float:
    """Multiplications and additions per second in a product of two large square matrices, the best of a few.

    Args:
      dtype: float32 (TF32 on a GPU, as in the trunks) or bfloat16.
    """
    side = SIDES.get(jax.default_backend(), 8192)
    matrix = jnp.asarray(np.random.default_rng(0).standard_normal((side, side), np.float32), dtype)
    multiply = jax.jit(lambda a, b: a @ b)
    _, *seconds = turns.seconds([lambda: multiply(matrix, matrix)], 1 + _REPEATS)[:, 0]  # The first compiles.
    return 2 * side**3 / min(seconds)
