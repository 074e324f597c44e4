"""Products and convolutions as a GPU computes them, on a processor: a plug-in of pytest.

    JAX_PLATFORMS=cpu python -m pytest -m gpu -p tests.helpers.tf32

What asks JAX for no precision gets operands of ten bits behind the point, as TF32 has them; what asks for the highest stays
as it is. A test that fails with it would fail on a GPU, or a product of the package does not ask.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.lax import convolution, lax  # `jax.numpy` calls these modules, not `jax.lax`.

_EXPONENT, _MANTISSA = 8, 10


def asks(precision: Any) -> bool:
    """Whether a product asks for full float32, by itself or by JAX's default."""
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    each = precision if isinstance(precision, (tuple, list)) else (precision,)
    return all(one in (jax.lax.Precision.HIGHEST, "highest", "float32") for one in each)


def rounded(x: Any) -> Any:
    """An operand in float32 as TF32; others as they are."""
    return jax.lax.reduce_precision(x, _EXPONENT, _MANTISSA) if x.dtype == jnp.float32 else x


def as_on_a_gpu(product: Callable[..., Any]) -> Callable[..., Any]:
    """A product of two operands that rounds them unless it asks for more."""

    def call(lhs: Any, rhs: Any, *args: Any, precision: Any = None, **kwargs: Any) -> Any:
        if not asks(precision):
            lhs, rhs = rounded(jnp.asarray(lhs)), rounded(jnp.asarray(rhs))
        return product(lhs, rhs, *args, precision=precision, **kwargs)

    return call


def pytest_configure() -> None:
    """Replaces them for the whole run, before a test is collected."""
    for module, name in ((lax, "dot_general"), (convolution, "conv_general_dilated")):
        replaced = as_on_a_gpu(getattr(module, name))
        setattr(module, name, replaced)
        setattr(jax.lax, name, replaced)
