"""Terms that SPIN (Kolotouros et al., 2019) and the authors' public code share: squares in place of the paper's norms.

Masks and arguments are those of `losses.terms`; only readings other than the paper's use these.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.losses import terms

_JOINTS = 49  # Both average over 49 joints, of which only the 24 of J24 have a weight; OpenPose's 25 have the weight 0.


def joint_error(
    pred: Float[Array, "B M J 3"], target: Float[Array, "B J 3"], valid: Float[Array, "B J"]
) -> Float[Array, "B M"]:
    """In place of the distance of eq (1): sum_j v_j |x_j - x_mj|^2 / 3J of mid-hip centred joints, square metres.

    Source: `keypoint_3d_loss` of both.
    """
    difference = terms.masked_difference(pred, target, valid)
    return jnp.mean(valid[:, None, :, None] * jnp.square(difference), axis=(2, 3))


def reprojection_error(
    pred: Float[Array, "B M K 2"], target: Float[Array, "B K 2"], valid: Float[Array, "B K"]
) -> Float[Array, "B M"]:
    """In place of the distance of eqs (5) and (7): sum_k v_k |y_k - pi(x_mk)|^2 / (2 x 49), in [-1, 1] of the crop.

    The confidence is not squared. Source: `keypoint_loss` of both.
    """
    difference = terms.masked_difference(pred, target, valid)
    return jnp.sum(valid[:, None, :, None] * jnp.square(difference), axis=(2, 3)) / (2 * _JOINTS)


def vertex_error(
    pred: Float[Array, "B M V 3"], target: Float[Array, "B V 3"], valid: Float[Array, "B"]
) -> Float[Array, "B M"]:
    """In place of L_V of eq (6): mean_v |s_v - s_mv|_1 / 3, metres (`shape_loss` of both)."""
    return jnp.mean(jnp.abs(terms.masked_difference(pred, target, valid)), axis=(2, 3))


def betas_error(
    pred: Float[Array, "B M S"], target: Float[Array, "B S"], valid: Float[Array, "B"]
) -> Float[Array, "B M"]:
    """In place of L_beta of eq (7): |beta - beta_m|^2 / S (`smpl_losses` of both)."""
    return jnp.mean(jnp.square(terms.masked_difference(pred, target, valid)), axis=2)
