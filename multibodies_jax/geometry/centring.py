"""Centring on the mid-hip: the middle of the two hips of J24, the origin of all joints that are compared or scored."""

from typing import Any

from jaxtyping import Float

from multibodies_jax.geometry import joints

Array = Any  # Of NumPy or of JAX.


def midhip(points: Float[Array, "*batch 24 3"]) -> Float[Array, "*batch 3"]:
    """The middle of the left and right hip of J24, in the unit and frame of `points` (NumPy or JAX)."""
    return points[..., list(joints.MIDHIP_J24), :].mean(axis=-2)


def centre(points: Float[Array, "*batch 24 3"]) -> Float[Array, "*batch 24 3"]:
    """J24 relative to its mid-hip, in the unit of `points` (NumPy or JAX)."""
    return points - midhip(points)[..., None, :]
