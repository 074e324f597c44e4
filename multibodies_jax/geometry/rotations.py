"""Rotations as axis-angle, 6D and matrix: exact at no rotation and at half a turn, with finite gradients everywhere."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALL = 1e-2  # Squared angle below which series replace quotients; their error there is under 1e-9.
_NORM_FLOOR = 1e-8  # Its inverse bounds the gradients, and float32 can still square that.


@functools.partial(jax.jit, inline=True)
def axis_angle_to_matrix(axis_angle: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rotation matrices of axis-angle vectors (Rodrigues' formula).

    Args:
      axis_angle: axis times angle, radians; any length.
    """
    squared = jnp.sum(axis_angle**2, axis=-1)[..., None, None]
    small = squared < _SMALL
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))  # Without the inner where, sqrt'(0) is inf and inf * 0 is NaN.
    sin_over = jnp.where(small, 1 - squared / 6 * (1 - squared / 20), jnp.sin(angle) / angle)
    # (1 - cos) / angle^2 by the half angle, which does not cancel.
    cos_over = jnp.where(small, 0.5 - squared / 24 * (1 - squared / 30), 2 * (jnp.sin(angle / 2) / angle) ** 2)
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape((*x.shape, 3, 3))
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    return (1 - cos_over * squared) * _identity_like(outer) + sin_over * cross + cos_over * outer


@functools.partial(jax.jit, inline=True)
def matrix_to_axis_angle(R: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3"]:
    """Axis times angle of rotation matrices, the angle in [0, pi] (at pi the axis' sign is arbitrary).

    Goes through the unit quaternion, divided by its largest component, so that no angle is special.
    """
    q = _matrix_to_quaternion(R)
    w, xyz = q[..., 0], q[..., 1:]
    squared = jnp.sum(xyz**2, axis=-1)
    small = squared < _SMALL / 100
    sin_half = jnp.sqrt(jnp.where(small, 1.0, squared))
    safe_w = jnp.where(small, w, 1.0)
    series = (1 - squared / (3 * safe_w**2)) / safe_w  # atan2(s, w) / s for small s.
    return 2 * xyz * jnp.where(small, series, jnp.arctan2(sin_half, w) / sin_half)[..., None]


@functools.partial(jax.jit, inline=True)
def matrix_to_rot6d(R: Float[Array, "*b 3 3"]) -> Float[Array, "*b 6"]:
    """First two columns of each matrix, interleaved: the identity is [1, 0, 0, 1, 0, 0] (see `rot6d_to_matrix`)."""
    return R[..., :, :2].reshape((*R.shape[:-2], 6))


@functools.partial(jax.jit, inline=True)
def rot6d_to_matrix(x: Float[Array, "*b 6"]) -> Float[Array, "*b 3 3"]:
    """Rotation matrices of 6D vectors by Gram-Schmidt (Zhou et al., CVPR 2019).

    `x` read row by row as (3, 2) holds the first two columns, as in HMR's and SPIN's parameters; other code stores one
    column after the other. Lengths are floored: vectors shorter than 1e-8, or parallel ones, give finite gradients but
    no rotation.
    """
    columns = x.reshape((*x.shape[:-1], 3, 2))
    first = _normalize(columns[..., 0])
    second = columns[..., 1]
    second = _normalize(second - jnp.sum(first * second, axis=-1, keepdims=True) * first)
    return jnp.stack([first, second, jnp.cross(first, second)], axis=-1)


def _matrix_to_quaternion(R: Float[Array, "*b 3 3"]) -> Float[Array, "*b 4"]:
    """Unit quaternions (w, x, y, z) with w >= 0."""
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    wx, wy, wz = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 2] + R[..., 2, 1]
    # Row i is 4 q_i q: symmetric, and any row is the quaternion up to its length.
    rows = [[1 + xx + yy + zz, wx, wy, wz], [wx, 1 + xx - yy - zz, xy, xz]]
    rows += [[wy, xy, 1 - xx + yy - zz, yz], [wz, xz, yz, 1 - xx - yy + zz]]
    rows = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    largest = jnp.argmax(jnp.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    q = _normalize(jnp.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :])
    return jnp.where(q[..., :1] < 0, -q, q)


def _normalize(v: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    squared = jnp.sum(v**2, axis=-1, keepdims=True)
    return v / jnp.sqrt(jnp.maximum(squared, _NORM_FLOOR**2))


def _identity_like(R: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    return jnp.broadcast_to(jnp.eye(3, dtype=R.dtype), R.shape)
