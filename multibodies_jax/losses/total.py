"""The whole training loss of an example, eq (8), in the paper's reading."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.batch import Batch
from multibodies_jax.hypotheses.hypotheses import Hypotheses, projected_joints
from multibodies_jax.losses import best_of_m, terms

BEST_TERMS = ("best", "pose", "betas", "vertices", "reprojection_best")
"""Terms of the best hypothesis; trained on hypothesis 0 as well, they are reported as `mode0_...`."""
TERMS = (*BEST_TERMS, "reprojection_all", "camera")


def total_loss(
    hyps: Hypotheses,
    batch: Batch,
    weights: Mapping[str, float],
    *,
    mode0: bool = True,
    vertices: Callable[[Array, Array], Array] | None = None,
) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]], Int[Array, "B"]]:
    """Eq (8): L = l_ri L_ri + l_best L_best + l_theta L_theta + l_beta L_beta + l_V L_V + l_rb L_rb, of each example.

    The camera loss is added, and with `mode0` every term of the best hypothesis once more for hypothesis 0; neither is
    in the paper.

    Args:
      hyps: leading axes (B, M).
      batch: of training.
      weights: factor of each of `TERMS`.
      mode0: adds the best hypothesis' losses of hypothesis 0, which makes it a regressor of its own.
      vertices: (rotmats (N, 24, 3, 3), betas (N, 10)) -> (N, V, 3), the mesh in metres with its *own mid-hip
        subtracted*; called once, for the chosen hypotheses and the target, and only if its weight is not 0.

    Returns:
      The loss; its terms before weighting, those of hypothesis 0 as `mode0_...` (loss = sum of weight x term); and the
      best hypothesis of eq (1): by 3D joints, by 2D keypoints where an example has none, and 0 where it has neither.

    Raises:
      ValueError: the weights are not those of `TERMS`, or `vertices` is missing.
    """
    check_options(weights, vertices)
    target, kp2d_input = batch.target, batch.inputs.kp2d_input

    projected = projected_joints(hyps)
    best = best_of_m.nearest_hypothesis(
        terms.joint_error(hyps.joints24, target.joints3d, target.joints3d_valid),
        terms.reprojection_error(projected, target.kp2d, target.kp2d_valid),
        target.joints3d_valid,
    )
    of_all = {
        "reprojection_all": terms.hypothesis_reprojection_loss(projected, target.kp2d, kp2d_input),
        "camera": terms.camera_loss(hyps.cam),
    }
    chosen = best_of_m.pick(hyps, best, mode0)
    chosen_projected = projected_joints(chosen)
    of_chosen = {
        "best": terms.joint_error(chosen.joints24, target.joints3d, target.joints3d_valid),
        "reprojection_best": terms.reprojection_error(chosen_projected, target.kp2d, target.kp2d_valid),
        "pose": terms.pose_error(chosen.rotmats, target.rotmats, target.smpl_valid),
        "betas": terms.betas_error(chosen.betas, target.betas, target.smpl_valid),
    }
    if weights["vertices"] and vertices is not None:
        of_chosen["vertices"] = terms.vertex_error(
            *terms.meshes(chosen, target.rotmats, target.betas, vertices), target.smpl_valid
        )
    values = of_all | named_terms(of_chosen)
    return weighted_sum(weights, values), values, best


def named_terms(errors: Mapping[str, Float[Array, "B C"]]) -> dict[str, Float[Array, "B"]]:
    """The terms of the hypotheses that `best_of_m.pick` chose: the best one's, and hypothesis 0's as `mode0_...`."""
    values = {}
    for name, error in errors.items():
        values[name] = error[:, 0]
        if error.shape[1] == 2:
            values[f"mode0_{name}"] = error[:, 1]
    return values


def weighted_sum(weights: Mapping[str, float], values: Mapping[str, Float[Array, "B"]]) -> Float[Array, "B"]:
    """sum_k l_k L_k over the terms of eq (8); `mode0_...` has the weight of the term that it repeats."""
    return jnp.asarray(sum(weights[name.removeprefix("mode0_")] * value for name, value in values.items()))


def check_options(weights: Mapping[str, float], vertices: object) -> None:
    """Refuses options that no loss can have.

    Raises:
      ValueError: the weights are not those of `TERMS`, or `vertices` is missing.
    """
    if set(weights) != set(TERMS):
        raise ValueError(
            f"Loss weights must be {sorted(TERMS)}; missing {sorted(set(TERMS) - set(weights))}, "
            f"unknown {sorted(set(weights) - set(TERMS))}. A weight of 0 turns a term off."
        )
    if weights["vertices"] and vertices is None:
        raise ValueError(
            f"The vertex loss has weight {weights['vertices']} but no `vertices` function was given: pass one, or set "
            "the weight to 0."
        )
