"""The rotation that belongs to a 3 x 3 matrix, with a gradient that is finite where singular values coincide.

With M = U S V^T, dM turned into A = U^T dM V, and the skew-symmetric W_ij = (A_ij - A_ji) / (s_i + s_j),

  nearest:    R = U diag(1, 1, det U V^T) V^T      dR = U W V^T, with the last column of V and s_3 signed by the determinant
  published:  R = det(U V^T) U V^T                 dR = det(U V^T) U W V^T

The gradient of the singular value decomposition divides by s_i^2 - s_j^2; that of the projection only by s_i + s_j. Where
det M < 0 the published rule negates the whole matrix, a rotation by exactly half a turn from the nearest one.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax import exact

RULES = ("nearest", "published")
_LEAST = 1e-6  # Sums of singular values below it have no gradient: the rotation jumps there.


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def to_rotation(matrices: Float[Array, "*b 3 3"], rule: str = "nearest") -> Float[Array, "*b 3 3"]:
    """The rotations that belong to matrices.

    Args:
      matrices: any; of the zero matrix some rotation, with gradient 0.
      rule: "nearest" gives the rotation that is nearest to each matrix; "published" is the rule of a published network,
        the same where the determinant is positive.

    Raises:
      ValueError: another rule.
    """
    if rule not in RULES:
        raise ValueError(f"Unknown rule {rule!r} for the rotation of a matrix; choose one of {', '.join(RULES)}.")
    u, _, vt, factor = _decompose(matrices, rule)
    return factor * exact.einsum("...ij,...jk->...ik", u, vt)


def _decompose(matrices: Array, rule: str) -> tuple[Array, Array, Array, Array]:
    """U, s, V^T and a factor of 1 or -1, with R = factor U V^T and signed as the module says."""
    u, s, vt = jnp.linalg.svd(matrices)
    sign = jnp.sign(_determinant(u) * _determinant(vt))
    if rule == "published":
        return u, s, vt, sign[..., None, None]
    last = jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign], axis=-1)
    return u, s * last, vt * last[..., None], jnp.ones_like(sign)[..., None, None]


def _determinant(m: Array) -> Array:
    return jnp.sum(m[..., 0, :] * jnp.cross(m[..., 1, :], m[..., 2, :]), axis=-1)


@to_rotation.defjvp
def _to_rotation_jvp(rule: str, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    (matrices,), (change,) = primals, tangents
    u, s, vt, factor = _decompose(matrices, rule)
    turned = exact.einsum("...ji,...jk,...lk->...il", u, change, vt)
    total = s[..., :, None] + s[..., None, :]
    skew = jnp.where(total > _LEAST, (turned - jnp.swapaxes(turned, -1, -2)) / jnp.maximum(total, _LEAST), 0.0)
    rotation = factor * exact.einsum("...ij,...jk->...ik", u, vt)
    return rotation, factor * exact.einsum("...ij,...jk,...kl->...il", u, skew, vt)
