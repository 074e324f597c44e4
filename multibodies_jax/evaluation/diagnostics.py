"""What a full set of M hypotheses is like: spread of visible and hidden joints, 2D error, use, effective number."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.batch import Batch
from multibodies_jax.evaluation import metrics, set_errors
from multibodies_jax.geometry import cameras
from multibodies_jax.hypotheses import hypotheses, weights

Focal = Float[Array | np.ndarray, "B"] | Float[Array, ""] | float
"""Of the cameras of B examples, or of all, in half-sides of the crop; a number is traced."""


@jax.jit
def diagnose(
    hyps: hypotheses.Hypotheses, batch: Batch, truth: set_errors.Truth, temperature: Array
) -> dict[str, Array]:
    """Per example: spread and 2D error of visible and hidden joints, use of hypotheses, effective number, true shape.

    NaN is what an example lacks: no hidden or no visible joint, or no true shape. The bodies and the truth have to be
    finite (`outputs.Outputs` refuses others): of others the numbers are NaN too, and the best hypothesis is -1.
    """
    target, seen = batch.target, batch.inputs.kp2d_input > 0
    m = hyps.log_prior.shape[1]
    spread = joint_spread_mm(hyps.joints24, jnp.full(hyps.log_prior.shape, 1.0 / m))
    return {
        "spread_visible_mm": _mean_where(spread, seen),
        "spread_hidden_mm": _mean_where(spread, ~seen),
        "spread_mm": spread,
        "seen": seen,
        "reprojection_px": reprojection(hyps, batch),
        "reprojection_hidden_px": _reprojection(hyps, batch, jnp.where(seen, 0.0, target.kp2d_valid)),
        "best_hypothesis": metrics.nearest(_joint_distance(hyps, truth)),
        "effective_printed": weights.effective_number(hyps.log_prior, 1.0),
        "effective_tuned": weights.effective_number(hyps.log_prior, temperature),
        "log_prior_spread": jnp.std(hyps.log_prior, axis=1),
        "beta_norm": jnp.where(target.smpl_valid > 0, jnp.sqrt(jnp.sum(jnp.square(target.betas), axis=1)), jnp.nan),
    }


def joint_spread_mm(joints24: Float[Array, "B M J 3"], weights: Float[Array, "B M"]) -> Float[Array, "B J"]:
    """Mean distance of each joint from its mean over the hypotheses, with weights that sum to 1."""
    mean = exact.einsum("bm,bmja->bja", weights, joints24)
    distance = metrics.known_distance(joints24, mean[:, None])
    return 1000.0 * exact.einsum("bm,bmj->bj", weights, distance)


def reprojection_px(
    projected: Float[Array, "B M K 2"],
    kp2d: Float[Array, "B K 2"],
    valid: Float[Array, "B K"],
    crop_px: float = 224.0,
) -> Float[Array, "B M"]:
    """Mean distance of projected joints to valid keypoints, both in [-1, 1], in pixels of a crop `crop_px` wide.

    NaN where no keypoint is valid: there is no such error, and 0 would be the best of all.
    """
    keep = valid[:, None] > 0
    distance = jnp.where(keep, metrics.known_distance(projected, kp2d[:, None]), 0.0)
    return crop_px / 2 * jnp.sum(distance, axis=2) / jnp.sum(keep, axis=2)


def _joint_distance(hyps: hypotheses.Hypotheses, truth: set_errors.Truth) -> Float[Array, "B M"]:
    """Sum of the distances of the true J24 joints."""
    squared, valid = jnp.sum(jnp.square(hyps.joints24 - truth.joints24[:, None]), axis=3), truth.valid24[:, None]
    return jnp.sum(jnp.where(valid == 0, 0.0, valid * jnp.sqrt(squared)), axis=2)


@jax.jit
def reprojection(hyps: hypotheses.Hypotheses, batch: Batch, focal: Focal = cameras.FOCAL) -> Float[Array, "B"]:
    """Mean 2D error of all hypotheses on visible keypoints, in pixels of a 224-pixel crop.

    Args:
      hyps: (B, M).
      batch: with the keypoints.
      focal: of the bodies' cameras, in half-sides of the crop.
    """
    return _reprojection(hyps, batch, batch.inputs.kp2d_input, focal)


def _reprojection(
    hyps: hypotheses.Hypotheses,
    batch: Batch,
    where: Float[Array, "B 24"],
    focal: Focal = cameras.FOCAL,
) -> Float[Array, "B"]:
    of_each = jnp.asarray(focal) if jnp.ndim(focal) == 0 else jnp.asarray(focal)[:, None]
    projected = hypotheses.projected_joints(hyps, of_each)
    return jnp.mean(reprojection_px(projected, batch.target.kp2d, where), axis=1)


def _mean_where(values: Float[Array, "B 24"], where: Array) -> Float[Array, "B"]:
    """Mean over the joints that count; NaN where none does (left out of every average)."""
    total = jnp.sum(jnp.where(where, values, 0.0), axis=1)
    count = jnp.sum(where, axis=1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
