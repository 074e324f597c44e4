"""The losses of the authors' released code: squares in place of the norms that the paper prints in eqs (1) and (5) to (7).

Source: `losses.py` and `model.py` of the release; `losses.squares` has the terms that they share with SPIN. They differ
from the paper also in the choice of the best hypothesis, by 3D joints alone, and in hidden keypoints, which have no part in
any loss. Terms, weights and masks are those of the paper's reading (`multibodies_jax.losses`).
"""

import functools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.batch import Batch
from multibodies_jax.hypotheses.hypotheses import Hypotheses, projected_joints
from multibodies_jax.losses import best_of_m, squares, terms, total
from multibodies_jax.losses.objective import OBJECTIVES, Objective, Settings


def total_loss(
    hyps: Hypotheses,
    batch: Batch,
    weights: Mapping[str, float],
    *,
    joints: Callable[[Array, Array], Array],
    mode0: bool = True,
    vertices: Callable[[Array, Array], Array] | None = None,
) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]], Int[Array, "B"]]:
    """The released code's version of eq (8), of each example.

    Args:
      hyps, batch, weights, mode0, vertices: as in `losses.total.total_loss`; the authors have True.
      joints: (rotmats (N, 24, 3, 3), betas (N, 10)) -> (N, 24, 3), the J24 joints of the target's SMPL parameters,
        metres, mid-hip centred.

    Returns:
      As `losses.total.total_loss`. The best hypothesis is the nearest in 3D joints, the nearest to the joints of the
      target's SMPL parameters where an example has no 3D joints, and 0 where it has neither.

    Raises:
      ValueError: as `losses.total.total_loss`.
    """
    total.check_options(weights, vertices)
    target, kp2d_input = batch.target, batch.inputs.kp2d_input

    all_smpl_joints = jnp.repeat(target.smpl_valid[:, None], 24, axis=1)
    projected = projected_joints(hyps)
    best = best_of_m.nearest_hypothesis(
        squares.joint_error(hyps.joints24, target.joints3d, target.joints3d_valid),
        squares.joint_error(hyps.joints24, joints(target.rotmats, target.betas), all_smpl_joints),
        target.joints3d_valid,
    )
    of_all = {
        "reprojection_all": jnp.mean(squares.reprojection_error(projected, target.kp2d, kp2d_input), axis=1),
        "camera": terms.camera_loss(hyps.cam),
    }
    chosen = best_of_m.pick(hyps, best, mode0)
    chosen_projected = projected_joints(chosen)
    of_chosen = {
        "best": squares.joint_error(chosen.joints24, target.joints3d, target.joints3d_valid),
        "reprojection_best": squares.reprojection_error(chosen_projected, target.kp2d, kp2d_input),
        "pose": pose_error(chosen.rotmats, target.rotmats, target.smpl_valid),
        "betas": squares.betas_error(chosen.betas, target.betas, target.smpl_valid),
    }
    if weights["vertices"] and vertices is not None:
        of_chosen["vertices"] = squares.vertex_error(
            *terms.meshes(chosen, target.rotmats, target.betas, vertices), target.smpl_valid
        )
    values = of_all | total.named_terms(of_chosen)
    return total.weighted_sum(weights, values), values, best


def pose_error(
    pred: Float[Array, "B M J 3 3"], target: Float[Array, "B J 3 3"], valid: Float[Array, "B"]
) -> Float[Array, "B M"]:
    """In place of L_theta of eq (6): mean_j |R_j - R_mj|_F^2 / 9 (`smpl_losses`)."""
    return jnp.mean(jnp.square(terms.masked_difference(pred, target, valid)), axis=(2, 3, 4))


def released(settings: Settings) -> Objective:
    """The objective of the released code (`total_loss`).

    Raises:
      ValueError: as `losses.total.total_loss`, or the function of the joints is missing.
    """
    total.check_options(settings.weights, settings.vertices)
    if settings.joints is None:
        raise ValueError("The released reading chooses by the joints of the SMPL target: pass `joints`.")
    return functools.partial(
        total_loss,
        weights=settings.weights,
        joints=settings.joints,
        mode0=settings.mode0,
        vertices=settings.vertices,
    )


OBJECTIVES.register("released", released)
