"""The terms of the training loss, eqs (1) and (5) to (7), of every example and hypothesis.

All are norms as the paper prints them, per joint or vertex and then averaged. Whatever has `valid` 0 may hold any value,
NaN included: it adds nothing to a term or to its gradient. A `valid` between 0 and 1 is a confidence. Whatever is valid
and not finite makes its term not finite, which stops the training with the term's name.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.geometry import distances
from multibodies_jax.hypotheses.hypotheses import Hypotheses


def joint_error(
    pred: Float[Array, "B M J 3"], target: Float[Array, "B J 3"], valid: Float[Array, "B J"]
) -> Float[Array, "B M"]:
    """Eq (1): |X - X_m| = sum_j v_j |x_j - x_mj| / sum_j v_j, the mean distance of the valid 3D joints, metres."""
    return _valid_mean(distances.norm(masked_difference(pred, target, valid)), valid)


def hypothesis_reprojection_loss(
    pred: Float[Array, "B M K 2"],
    target: Float[Array, "B K 2"],
    visible: Float[Array, "B K"],
) -> Float[Array, "B"]:
    """Eq (5): L_ri = sum_m |Y - pi(X_m)| / M, of the keypoints that the network sees.

    The paper prints the sum; the mean makes one weight fit every M.
    """
    return jnp.mean(reprojection_error(pred, target, visible), axis=1)


def pose_error(
    pred: Float[Array, "B M J 3 3"], target: Float[Array, "B J 3 3"], valid: Float[Array, "B"]
) -> Float[Array, "B M"]:
    """Eq (6): L_theta = |theta - theta_m| = mean_j |R_j - R_mj|_F, over the rotations of all joints, the root included.

    The norm is that of matrices, because the axis-angles of the paper jump at half a turn. The norm of the difference of
    two rotations that are an angle a apart is 2 sqrt(2) sin(a / 2).
    """
    difference = masked_difference(pred, target, valid)
    return jnp.mean(distances.norm(difference.reshape(*difference.shape[:3], 9)), axis=2)


def vertex_error(
    pred: Float[Array, "B M V 3"], target: Float[Array, "B V 3"], valid: Float[Array, "B"]
) -> Float[Array, "B M"]:
    """Eq (6): L_V = |S - S_m| = mean_v |s_v - s_mv|, the mean distance of the vertices, metres."""
    return jnp.mean(distances.norm(masked_difference(pred, target, valid)), axis=2)


def betas_error(
    pred: Float[Array, "B M S"], target: Float[Array, "B S"], valid: Float[Array, "B"]
) -> Float[Array, "B M"]:
    """Eq (7): L_beta = |beta - beta_m|, the Euclidean norm of the difference of the shape coefficients."""
    return distances.norm(masked_difference(pred, target, valid))


def reprojection_error(
    pred: Float[Array, "B M K 2"], target: Float[Array, "B K 2"], valid: Float[Array, "B K"]
) -> Float[Array, "B M"]:
    """Eq (7): L_rb = |Y - pi(X_m)| = sum_k v_k |y_k - pi(x_mk)| / sum_k v_k, both in [-1, 1] of the crop."""
    return _valid_mean(distances.norm(masked_difference(pred, target, valid)), valid)


def camera_loss(cam: Float[Array, "B M 3"]) -> Float[Array, "B"]:
    """L_cam = mean_m exp(-10 s_m)^2, which keeps the scale s of every camera positive.

    Source: SPIN and the authors' implementation; the paper omits it. Below s = -1 the loss continues along its tangent,
    because the exponential would soon overflow. NaN where a number of a camera is not finite.
    """
    exponent = -20.0 * cam[..., 0]
    tangent = jnp.exp(20.0) * (exponent - 19.0)
    loss = jnp.mean(jnp.where(exponent > 20.0, tangent, jnp.exp(jnp.minimum(exponent, 20.0))), axis=1)
    return jnp.where(jnp.all(jnp.isfinite(cam), axis=(1, 2)), loss, jnp.nan)  # An infinite scale would cost nothing.


def meshes(
    hyps: Hypotheses,
    rotmats: Float[Array, "B 24 3 3"],
    betas: Float[Array, "B S"],
    vertices: Callable[[Array, Array], Array],
) -> tuple[Float[Array, "B M V 3"], Float[Array, "B V 3"]]:
    """S_m and S of eq (6): the vertices of the hypotheses and of the target, from one call of `vertices`."""
    every = vertices(
        jnp.concatenate([hyps.rotmats.reshape(-1, 24, 3, 3), rotmats]),
        jnp.concatenate([hyps.betas.reshape(-1, betas.shape[1]), betas]),
    )
    size = hyps.betas.shape[0] * hyps.betas.shape[1]
    return every[:size].reshape(*hyps.betas.shape[:2], *every.shape[1:]), every[size:]


def masked_difference(
    pred: Float[Array, "B M *x"], target: Float[Array, "B *x"], valid: Float[Array, "B ..."]
) -> Float[Array, "B M *x"]:
    """pred - target; 0, with zero gradient, where `valid`, which has the leading axes of `target`, is 0."""
    valid = valid.reshape(*valid.shape, *(1,) * (target.ndim - valid.ndim))
    # Before anything nonlinear: a NaN that is selected away later would still be in the gradient.
    return jnp.where(valid[:, None] > 0, pred - target[:, None], 0.0)


def _valid_mean(error: Float[Array, "B M J"], valid: Float[Array, "B J"]) -> Float[Array, "B M"]:
    """Mean over the joints with weights `valid`; 0 where none is valid."""
    weight = jnp.sum(valid, axis=1)[:, None]
    return jnp.sum(error * valid[:, None], axis=2) / jnp.where(weight > 0, weight, 1.0)
