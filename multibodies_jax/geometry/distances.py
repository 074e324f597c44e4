"""Lengths of vectors, with a gradient everywhere."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def norm(x: Float[Array, "*b D"]) -> Float[Array, "*b"]:
    """The Euclidean norm of the last axis, with gradient 0, not NaN, at 0; NaN where a number is NaN."""
    square = jnp.sum(jnp.square(x), axis=-1)
    # Asks what is exactly 0: `square > 0` would be false for NaN too, and give it the length 0.
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))
