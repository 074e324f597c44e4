"""What GraphCMR trains: its vertices and the body of its SMPL parameters, both against the truth (Kolotouros et al., 2019).

  L = [vertices + joints + reprojection] of the mesh + [vertices + joints + reprojection + pose + betas] of the body

with the squares and the absolute differences of the authors' code. `loss.best` is the factor of the joints,
`loss.reprojection_best` of the reprojection; the terms of the mesh are called `mesh_...` and have the same factors. No
gradient of the body's reprojection reaches the camera, and none of the body reaches the vertices, which the network detaches.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.batch import Batch
from multibodies_jax.geometry import centring
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.losses import terms, total
from multibodies_jax.losses.objective import Objective, Settings

_MESH = "mesh_"


def total_loss(
    hyps: Hypotheses, batch: Batch, settings: Settings
) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]], Int[Array, "B"]]:
    """The loss of each example, its terms before weighting, and hypothesis 0 as the best of one.

    A term is a mean over the examples that have its annotation: each of these counts B / (their number), and the others 0.

    Args:
      hyps: leading axes (B, 1), with the vertices of the network.
      batch: of training.
      settings: with all of its functions.

    Raises:
      ValueError: the network predicts no vertices.
    """
    if hyps.vertices is None:
        raise ValueError("loss.reading='graphcmr' compares vertices of the network: use it with model.name='graphcmr'.")
    target = batch.target
    surface, joints24 = _call(settings.of_mesh)(hyps.vertices[:, 0])
    parts = {_MESH: (surface, joints24, hyps.cam[:, 0])}
    shapes = jnp.concatenate([hyps.rotmats[:, 0], target.rotmats]), jnp.concatenate([hyps.betas[:, 0], target.betas])
    meshes = (
        _call(settings.vertices)(*shapes) + _call(settings.midhip)(*shapes)[:, None]
    )  # Around the model's own origin.
    body, true = jnp.split(meshes, 2)
    joints_of_body = hyps.joints24[:, 0] + hyps.midhip[:, 0, None]
    parts[""] = body, joints_of_body, jax.lax.stop_gradient(hyps.cam[:, 0])

    values: dict[str, Array] = {}
    for prefix, (vertices, points, cam) in parts.items():
        values[f"{prefix}vertices"] = vertex_error(vertices, true, target.smpl_valid)
        values[f"{prefix}best"] = joint_error(points, target.joints3d, target.joints3d_valid)
        values[f"{prefix}reprojection_best"] = reprojection_error(points, cam, target.kp2d, target.kp2d_valid)
    values["pose"] = _squares(hyps.rotmats[:, 0], target.rotmats, target.smpl_valid)
    values["betas"] = _squares(hyps.betas[:, 0], target.betas, target.smpl_valid)
    values["camera"] = terms.camera_loss(hyps.cam)
    loss = jnp.asarray(sum(settings.weights[name.removeprefix(_MESH)] * value for name, value in values.items()))
    return loss, values, jnp.zeros(len(loss), jnp.int32)


def vertex_error(
    pred: Float[Array, "B V 3"], target: Float[Array, "B V 3"], valid: Float[Array, "B"]
) -> Float[Array, "B"]:
    """mean |difference| of all coordinates, metres; nothing is subtracted first (`shape_loss`)."""
    return _of_valid(jnp.mean(jnp.abs(_difference(pred, target, valid)), axis=(1, 2)), valid)


def joint_error(
    pred: Float[Array, "B 24 3"], target: Float[Array, "B 24 3"], valid: Float[Array, "B 24"]
) -> Float[Array, "B"]:
    """mean c (x - y)^2 of all coordinates, square metres, both minus their mid-hips (`keypoint_3d_loss`).

    Args:
      pred: around any origin.
      target: mid-hip centred.
      valid: c.
    """
    squares = valid[..., None] * jnp.square(_difference(centring.centre(pred), target, valid))
    return _of_valid(jnp.mean(squares, axis=(1, 2)), jnp.max(valid, axis=1))


def reprojection_error(
    pred: Float[Array, "B 24 3"], cam: Float[Array, "B 3"], target: Float[Array, "B 24 2"], valid: Float[Array, "B 24"]
) -> Float[Array, "B"]:
    """mean c (p - y)^2 of all coordinates in [-1, 1] of the crop (`keypoint_loss`); every example counts.

    Args:
      pred: joints in the frame that `cam` projects, metres.
      cam: (s, tx, ty).
      target: keypoints.
      valid: c.
    """
    squares = valid[..., None] * jnp.square(_difference(orthographic(pred, cam), target, valid))
    return jnp.mean(squares, axis=(1, 2))


def orthographic(points: Float[Array, "B J 3"], cam: Float[Array, "B 3"]) -> Float[Array, "B J 2"]:
    """s (x + tx, y + ty): GraphCMR's camera, the limit of `cameras.project_crop` at an infinite focal length."""
    return cam[:, None, :1] * (points[..., :2] + cam[:, None, 1:])


def _squares(pred: Float[Array, "B *x"], target: Float[Array, "B *x"], valid: Float[Array, "B"]) -> Float[Array, "B"]:
    """The mean squared difference of all numbers of an example (`smpl_losses`)."""
    squares = jnp.square(_difference(pred, target, valid))
    return _of_valid(jnp.mean(squares.reshape(len(squares), -1), axis=1), valid)


def _difference(pred: Array, target: Array, valid: Array) -> Array:
    return terms.masked_difference(pred[:, None], target, valid)[:, 0]


def _of_valid(error: Float[Array, "B"], valid: Float[Array, "B"]) -> Float[Array, "B"]:
    """Errors whose mean over the batch is the mean over the valid examples; 0 where none is valid."""
    counts = (valid > 0).astype(error.dtype)
    return counts * error * (len(error) / jnp.maximum(jnp.sum(counts), 1.0))


def _call(function: Any) -> Any:
    if function is None:
        raise ValueError(
            "loss.reading='graphcmr' needs the functions " + ", ".join(_NEEDED) + " of `losses.objective.Settings`."
        )
    return function


_NEEDED = tuple(f.name for f in dataclasses.fields(Settings) if f.name in ("vertices", "midhip", "of_mesh"))


def graphcmr(settings: Settings) -> Objective:
    """The objective of GraphCMR (`total_loss`).

    Raises:
      ValueError: as `losses.total.total_loss`, or a weight on what one hypothesis lacks.
    """
    total.check_options(settings.weights, settings.vertices)
    if settings.weights["reprojection_all"]:
        raise ValueError(
            f"loss.reading='graphcmr' has one hypothesis: set loss.reprojection_all to 0 (it is "
            f"{settings.weights['reprojection_all']}); loss.reprojection_best is the factor of its reprojection."
        )
    return functools.partial(total_loss, settings=settings)
