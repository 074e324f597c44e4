"""Training losses of 3D Multi-bodies, eqs (1) and (5) to (8), per example.

Two readings: "paper" takes the norms as printed, each joint's or vertex' own and then averaged; "released" takes the
means of squares (of absolute values for vertices) of the authors' code, chooses the best hypothesis by 3D joints alone
and gives hidden keypoints no part in any loss. What is not annotated has `valid` 0, may be anything, NaN included, and
adds nothing to a loss or its gradient; a `valid` between 0 and 1 is a confidence.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.geometry import cameras
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.hypotheses.hypotheses import Hypotheses

BEST_TERMS = ("best", "pose", "betas", "vertices", "reprojection_best")
"""Terms of the best hypothesis; trained on hypothesis 0 as well, they are reported as `mode0_...`."""
TERMS = (*BEST_TERMS, "reprojection_all", "camera")

_RELEASED_JOINTS = 49  # The authors average over their 49 joints, of which only the 24 of J24 have a weight.


def total(
    hyps: Hypotheses,
    batch: Mapping[str, Array],
    weights: Mapping[str, float],
    *,
    reading: str = "paper",
    reduce: str = "mean",
    mode0: bool = True,
    vertices: Callable[[Array, Array], Array] | None = None,
    smpl_joints: Float[Array, "B 24 3"] | None = None,
) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]], Int[Array, "B"]]:
    """The whole training loss of each example (eq 8).

    Args:
      hyps: leading axes (B, M).
      batch: a training batch (docs/interfaces.md, section 2).
      weights: factor of each of `TERMS`.
      reading: "paper" or "released".
      reduce: over the M hypotheses of eq (5): "sum" as printed, "mean" does not depend on M.
      mode0: adds the best hypothesis' losses of hypothesis 0, which makes it a regressor of its own (authors' code).
      vertices: (rotmats (N, 24, 3, 3), betas (N, 10)) -> (N, V, 3), the mesh in metres with its *own mid-hip
        subtracted*; called once, for the chosen hypotheses and the truth, and only if its weight is not 0.
      smpl_joints: J24 joints of the batch's SMPL parameters, metres, mid-hip centred; only "released" needs them.

    Returns:
      The loss; its terms before weighting, those of hypothesis 0 as `mode0_...` (loss = sum of weight x term); and the
      best hypothesis of eq (1).

    Raises:
      ValueError: if the weights are not those of `TERMS`, an option is unknown, or `vertices` or `smpl_joints` is missing.
    """
    _check(weights, reading, reduce, vertices, smpl_joints)
    projected = cameras.project_crop(hyps.joints24 + hyps.midhip[..., None, :], hyps.cam)
    best = best_hypothesis(hyps.joints24, projected, batch, reading, smpl_joints)
    all_2d = keypoint_error(projected, batch["kp2d"], batch["kp2d_input"], reading)
    terms = {
        "reprojection_all": jnp.mean(all_2d, axis=1) if reduce == "mean" else jnp.sum(all_2d, axis=1),
        "camera": camera_loss(hyps.cam),
    }
    index = jnp.stack([best, jnp.zeros_like(best)] if mode0 else [best], axis=1)
    errors = chosen_errors(hypotheses.pick(hyps, index), batch, reading, vertices if weights["vertices"] else None)
    for name, error in errors.items():
        terms[name] = error[:, 0]
        if mode0:
            terms[f"mode0_{name}"] = error[:, 1]
    loss = sum(weights[name.removeprefix("mode0_")] * value for name, value in terms.items())
    return jnp.asarray(loss), terms, best


def best_hypothesis(
    joints24: Float[Array, "B M 24 3"],
    projected: Float[Array, "B M 24 2"],
    batch: Mapping[str, Array],
    reading: str,
    smpl_joints: Float[Array, "B 24 3"] | None = None,
) -> Int[Array, "B"]:
    """Index of the hypothesis nearest the truth (eq 1): by 3D joints, else by 2D keypoints, else 0.

    Released: by 3D joints, else by those of the SMPL parameters (`smpl_joints`), else 0.
    """
    by_joints = joint_error(joints24, batch["joints3d"], batch["joints3d_valid"], reading)
    if reading == "released":
        assert smpl_joints is not None
        otherwise = joint_error(joints24, smpl_joints, jnp.repeat(batch["smpl_valid"][:, None], 24, axis=1), reading)
    else:
        otherwise = keypoint_error(projected, batch["kp2d"], batch["kp2d_valid"], reading)
    has_joints = jnp.any(batch["joints3d_valid"] > 0, axis=1, keepdims=True)
    return jnp.argmin(jax.lax.stop_gradient(jnp.where(has_joints, by_joints, otherwise)), axis=1)


def chosen_errors(
    chosen: Hypotheses,
    batch: Mapping[str, Array],
    reading: str,
    vertices: Callable[[Array, Array], Array] | None,
) -> dict[str, Float[Array, "B C"]]:
    """The errors (1), (6) and (7) of C chosen hypotheses per example; `vertices` as in `total`, None leaves it out."""
    projected = cameras.project_crop(chosen.joints24 + chosen.midhip[..., None, :], chosen.cam)
    rotmats, betas, smpl_valid = batch["rotmats"], batch["betas"], batch["smpl_valid"]
    kp2d_valid = batch["kp2d_input" if reading == "released" else "kp2d_valid"]
    errors = {
        "best": joint_error(chosen.joints24, batch["joints3d"], batch["joints3d_valid"], reading),
        "reprojection_best": keypoint_error(projected, batch["kp2d"], kp2d_valid, reading),
        "pose": pose_error(chosen.rotmats, rotmats, smpl_valid, reading),
        "betas": betas_error(chosen.betas, betas, smpl_valid, reading),
    }
    if vertices is not None:
        every = vertices(
            jnp.concatenate([chosen.rotmats.reshape(-1, 24, 3, 3), rotmats]),
            jnp.concatenate([chosen.betas.reshape(-1, betas.shape[1]), betas]),
        )
        size = chosen.betas.shape[0] * chosen.betas.shape[1]
        pred = every[:size].reshape(*chosen.betas.shape[:2], *every.shape[1:])
        errors["vertices"] = vertex_error(pred, every[size:], smpl_valid, reading)
    return errors


def joint_error(
    pred: Float[Array, "B M J 3"], target: Float[Array, "B J 3"], valid: Float[Array, "B J"], reading: str
) -> Float[Array, "B M"]:
    """Distance of 3D joints (eq 1): mean over the valid joints, metres; released: mean of valid x square over all."""
    difference = _difference(pred, target, valid)
    if reading == "released":
        return jnp.mean(valid[:, None, :, None] * jnp.square(difference), axis=(2, 3))
    return _valid_mean(_norm(difference), valid)


def keypoint_error(
    pred: Float[Array, "B M K 2"], target: Float[Array, "B K 2"], valid: Float[Array, "B K"], reading: str
) -> Float[Array, "B M"]:
    """Distance of projected joints to 2D keypoints (eqs 5 and 7), both in [-1, 1] of the crop.

    Mean over the valid keypoints; released: sum of valid x square over the 49 x 2 numbers of the authors' joints.
    """
    difference = _difference(pred, target, valid)
    if reading == "released":
        return jnp.sum(valid[:, None, :, None] * jnp.square(difference), axis=(2, 3)) / (2 * _RELEASED_JOINTS)
    return _valid_mean(_norm(difference), valid)


def pose_error(
    pred: Float[Array, "B M J 3 3"], target: Float[Array, "B J 3 3"], valid: Float[Array, "B"], reading: str
) -> Float[Array, "B M"]:
    """Distance of rotations, the root's included (eq 6): mean over joints of the Frobenius norm; released: of squares.

    Between matrices, because the paper's axis-angles jump at a half turn; an angle a between two rotations is the norm
    2 sqrt(2) sin(a / 2).
    """
    difference = _difference(pred, target, valid)
    if reading == "released":
        return jnp.mean(jnp.square(difference), axis=(2, 3, 4))
    return jnp.mean(_norm(difference.reshape(*difference.shape[:3], 9)), axis=2)


def betas_error(
    pred: Float[Array, "B M S"], target: Float[Array, "B S"], valid: Float[Array, "B"], reading: str
) -> Float[Array, "B M"]:
    """Distance of shape parameters (eq 7): the norm of the difference; released: the mean of squares."""
    difference = _difference(pred, target, valid)
    return jnp.mean(jnp.square(difference), axis=2) if reading == "released" else _norm(difference)


def vertex_error(
    pred: Float[Array, "B M V 3"], target: Float[Array, "B V 3"], valid: Float[Array, "B"], reading: str
) -> Float[Array, "B M"]:
    """Distance of vertices (eq 6): mean of the norms, metres; released: mean of the absolute values."""
    difference = _difference(pred, target, valid)
    return jnp.mean(jnp.abs(difference), axis=(2, 3)) if reading == "released" else jnp.mean(_norm(difference), axis=2)


def camera_loss(cam: Float[Array, "B M 3"]) -> Float[Array, "B"]:
    """Mean over hypotheses of exp(-10 s)^2, which keeps camera scales positive (authors' code; not in the paper).

    Below s = -1 it goes on along its tangent, where the exponential would soon overflow.
    """
    exponent = -20.0 * cam[..., 0]
    tangent = jnp.exp(20.0) * (exponent - 19.0)
    return jnp.mean(jnp.where(exponent > 20.0, tangent, jnp.exp(jnp.minimum(exponent, 20.0))), axis=1)


def _check(weights: Mapping[str, float], reading: str, reduce: str, vertices: object, smpl_joints: object) -> None:
    if set(weights) != set(TERMS):
        raise ValueError(
            f"Loss weights must be {sorted(TERMS)}; missing {sorted(set(TERMS) - set(weights))}, "
            f"unknown {sorted(set(weights) - set(TERMS))}. A weight of 0 turns a term off."
        )
    if reading not in ("paper", "released"):
        raise ValueError(f"Unknown reading {reading!r} of the losses: choose 'paper' or 'released'.")
    if reduce not in ("mean", "sum"):
        raise ValueError(f"Unknown reduction {reduce!r} of the reprojection loss: choose 'mean' or 'sum'.")
    if weights["vertices"] and vertices is None:
        raise ValueError(
            f"The vertex loss has weight {weights['vertices']} but no `vertices` function was given: pass one, or set "
            "the weight to 0."
        )
    if reading == "released" and smpl_joints is None:
        raise ValueError("The released reading chooses by the joints of the SMPL truth: pass `smpl_joints`.")


def _difference(pred: Float[Array, "B M *x"], target: Float[Array, "B *x"], valid: Float[Array, "B ..."]):
    """pred - target, and 0 with zero gradient where `valid`, of the leading axes of `target`, is 0."""
    valid = valid.reshape(*valid.shape, *(1,) * (target.ndim - valid.ndim))
    # Before anything nonlinear: a NaN that is selected away later would still be in the gradient.
    return jnp.where(valid[:, None] > 0, pred - target[:, None], 0.0)


def _norm(x: Float[Array, "*b D"]) -> Float[Array, "*b"]:
    """Euclidean norm with gradient 0, not NaN, at 0."""
    square = jnp.sum(jnp.square(x), axis=-1)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def _valid_mean(error: Float[Array, "B M J"], valid: Float[Array, "B J"]) -> Float[Array, "B M"]:
    """Mean over the joints with weights `valid`; 0 where none is."""
    weight = jnp.sum(valid, axis=1)[:, None]
    return jnp.sum(error * valid[:, None], axis=2) / jnp.where(weight > 0, weight, 1.0)
