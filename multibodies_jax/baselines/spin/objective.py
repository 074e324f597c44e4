"""The losses of SPIN (Kolotouros et al., 2019), `loss.reading=spin`: means of squares, each over the examples that have it.

Source: `trainer.py` of its public code; `losses.squares` has most terms. In the names of this project its weights are best 5
(3D joints), reprojection_best 5 (2D keypoints), pose 1, betas 0.001, vertices 0 and camera 1, all times 60; the factor
matters for Adam's epsilon alone.
"""

import functools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.batch import Batch
from multibodies_jax.hypotheses.hypotheses import Hypotheses, projected_joints
from multibodies_jax.losses import best_of_m, squares, terms, total
from multibodies_jax.losses.objective import Objective, Settings


def total_loss(
    hyps: Hypotheses,
    batch: Batch,
    weights: Mapping[str, float],
    *,
    mode0: bool = True,
    vertices: Callable[[Array, Array], Array] | None = None,
) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]], Int[Array, "B"]]:
    """SPIN's loss of the best hypothesis, of each example; its mean over the batch is SPIN's, also where examples lack labels.

    A term that some examples lack is a mean over the others: theirs are larger by the number of all over the number of
    those that have it. With several hypotheses the best one is trained, the one of least squared error in 3D, or in 2D where
    an example has no 3D joints.

    Args:
      hyps, batch, weights, mode0, vertices: as in `losses.total.total_loss`.

    Returns:
      As `losses.total.total_loss`.

    Raises:
      ValueError: as `losses.total.total_loss`.
    """
    total.check_options(weights, vertices)
    target = batch.target
    projected = projected_joints(hyps)
    best = best_of_m.nearest_hypothesis(
        squares.joint_error(hyps.joints24, target.joints3d, target.joints3d_valid),
        squares.reprojection_error(projected, target.kp2d, target.kp2d_valid),
        target.joints3d_valid,
    )
    chosen = best_of_m.pick(hyps, best, mode0)
    has_joints = jnp.any(target.joints3d_valid > 0, axis=1)
    has_smpl = target.smpl_valid > 0
    of_all = {
        "reprojection_all": jnp.mean(
            squares.reprojection_error(projected, target.kp2d, batch.inputs.kp2d_input), axis=1
        ),
        "camera": terms.camera_loss(hyps.cam),
    }
    of_chosen = {
        "best": _over(squares.joint_error(chosen.joints24, target.joints3d, target.joints3d_valid), has_joints),
        "reprojection_best": squares.reprojection_error(projected_joints(chosen), target.kp2d, target.kp2d_valid),
        "pose": _over(_pose_error(chosen.rotmats, target.rotmats, target.smpl_valid), has_smpl),
        "betas": _over(squares.betas_error(chosen.betas, target.betas, target.smpl_valid), has_smpl),
    }
    if weights["vertices"] and vertices is not None:
        meshes = terms.meshes(chosen, target.rotmats, target.betas, vertices)
        of_chosen["vertices"] = _over(squares.vertex_error(*meshes, target.smpl_valid), has_smpl)
    values = of_all | total.named_terms(of_chosen)
    return total.weighted_sum(weights, values), values, best


def spin(settings: Settings) -> Objective:
    """The objective of SPIN (`total_loss`).

    Raises:
      ValueError: as `losses.total.total_loss`.
    """
    total.check_options(settings.weights, settings.vertices)
    return functools.partial(total_loss, weights=settings.weights, mode0=settings.mode0, vertices=settings.vertices)


def _pose_error(
    pred: Float[Array, "B M J 3 3"], target: Float[Array, "B J 3 3"], valid: Float[Array, "B"]
) -> Float[Array, "B M"]:
    """In place of L_theta of eq (6): mean_j |R_j - R_mj|_F^2 / 9 (`smpl_losses`)."""
    difference = terms.masked_difference(pred, target, valid)
    return jnp.mean(difference.reshape(*difference.shape[:2], -1) ** 2, axis=2)


def _over(error: Float[Array, "B C"], has: Array) -> Float[Array, "B C"]:
    """Errors whose mean over the batch is that over the examples that have them; 0 where none has."""
    count = jnp.sum(has)
    return jnp.where(has[:, None], error, 0.0) * (len(error) / jnp.maximum(count, 1))
