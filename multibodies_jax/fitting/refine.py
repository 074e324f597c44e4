"""Refines hypotheses on the keypoints that are seen, and fits bodies to keypoints without any network (SMPLify).

    settings = refine.Settings(weights=objective.Weights(prior=0.3, anchor=5.0))
    refined = refine.refine(hypotheses, keypoints, visible, joint_model, log_prob, settings)   # (B, M), scored anew

All M bodies of all people are fitted at once (`solver`). A hidden keypoint has no influence: where nothing is seen a
body stays where the prior and the pull towards its start hold it, so that a set keeps its spread there.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from multibodies_jax import devices, exact, traced
from multibodies_jax.body import smpl
from multibodies_jax.fitting import objective, solver
from multibodies_jax.geometry import cameras, rotations
from multibodies_jax.hypotheses import hypotheses as hypotheses_lib
from multibodies_jax.hypotheses.hypotheses import Hypotheses

T = TypeVar("T")

TURNS_DEG = (0.0, 90.0, 180.0, 270.0)
"""Turns of the mean body about its own vertical axis from which `fit_from_mean_pose` starts; 0 faces the camera."""

COARSE = 5.0
"""Factor on sigma in the first half of a fit from the mean pose, whose keypoints are further away than 5 sigma."""

ROWS = 128
"""Bodies that are fitted at once: bounds the memory (about 30 kB of matrices for each) and fills two cores."""


class Settings(flax.struct.PyTreeNode):
    """How to fit.

    Attributes:
      weights: of the terms of the objective.
      steps: of the solver.
    """

    weights: objective.Weights = objective.Weights()
    steps: int | Int[Array, ""] = 10


def refine(
    hypotheses: Hypotheses,
    evidence: Float[Array | np.ndarray, "B 24 2"],
    visible: Float[Array | np.ndarray, "B 24"],
    joint_model: smpl.JointModel,
    log_prob: jax.tree_util.Partial,
    settings: Settings,
    focal: Float[Array | np.ndarray, "B"] | float = cameras.FOCAL,
) -> Hypotheses:
    """Fits every hypothesis to the visible keypoints, each from where it is and pulled towards it.

    Args:
      hypotheses: leading axes (B, M).
      evidence: J24 keypoints in the crop's [-1, 1]; any value where they are not visible.
      visible: confidence of each keypoint: a factor of its term; 0 or less where it is hidden.
      joint_model: the body contracted with the J24 regressor.
      log_prob: of (N, 72) numbers X, nats (`objective.LogProb`): a `jax.tree_util.Partial` of a function and the
        variables of the prior, which the compiled program takes as an argument.
      settings: of the fit.
      focal: of the crop's camera, in half-sides of the crop. A body that is near looks larger where it is nearer; with
        the long lens of the networks a fit would turn it to explain that. On real frames of a wide lens the
        photograph's own focal length lowers MPJPE-1 from 113 to 92 mm (docs/benchmarks.md).

    Returns:
      The fitted bodies with their log p(X), and the scores of what they were fitted from; their camera `cam` has this
      focal length. No objective is above that of the start; the bodies of an example without visible keypoints stay as
      they are. The result for an example does not depend on the others of the batch.
    """
    B, M = hypotheses.betas.shape[:2]
    people = (hypotheses, objective.visible_keypoints(evidence, visible, focal))
    fit = functools.partial(_refine, joint_model=joint_model, log_prob=log_prob, settings=settings)
    refined = _by_chunks(fit, people, B, max(1, ROWS // M))
    return dataclasses.replace(refined, log_scores=hypotheses.log_scores)


def fit_from_mean_pose(
    evidence: Float[Array | np.ndarray, "B 24 2"],
    visible: Float[Array | np.ndarray, "B 24"],
    mean_state: Float[Array, "157"],
    joint_model: smpl.JointModel,
    log_prob: jax.tree_util.Partial,
    settings: Settings,
) -> Hypotheses:
    """Fits one body to each person's visible keypoints, with no network: SMPLify (Bogo et al., 2016).

    The fit starts from the mean pose, turned by each of `TURNS_DEG`, under the camera that gives the visible keypoints
    their mean and their size; the body with the least objective is returned. The first half of the steps takes the
    keypoints as `COARSE` times less exact.

    Args:
      evidence, visible, joint_model, log_prob: see `refine`.
      mean_state: of the mean body, as `hypotheses.decode` reads it.
      settings: of the fit; the pull is towards the mean pose.

    Returns:
      The bodies, leading axes (B, 1), with their log p(X).
    """
    people = objective.visible_keypoints(evidence, visible)
    fit = functools.partial(
        _fit_from_mean_pose, mean_state=mean_state, joint_model=joint_model, log_prob=log_prob, settings=settings
    )
    return _by_chunks(fit, people, len(evidence), ROWS // len(TURNS_DEG))


@functools.partial(traced.jit, per_example="people")
def _refine(
    people: tuple[Hypotheses, objective.Keypoints],
    joint_model: smpl.JointModel,
    log_prob: jax.tree_util.Partial,
    settings: Settings,
) -> Hypotheses:
    hypotheses, keypoints = people
    start = _one_axis(objective.with_camera(hypotheses.rotmats, hypotheses.betas, hypotheses.cam))
    of_rows = _for_each(keypoints, hypotheses.betas.shape[1])
    body, _ = solver.minimize(start, start.rotmats, of_rows, joint_model, log_prob, settings.weights, settings.steps)
    seen = jnp.any(of_rows.confidence > 0, axis=1)
    body = jax.tree.map(lambda new, old: jnp.where(seen.reshape(-1, *(1,) * (new.ndim - 1)), new, old), body, start)
    return _two_axes(_scored(body, joint_model, log_prob), hypotheses.betas.shape[:2])


@functools.partial(traced.jit, per_example="keypoints")
def _fit_from_mean_pose(
    keypoints: objective.Keypoints,
    mean_state: Float[Array, "157"],
    joint_model: smpl.JointModel,
    log_prob: jax.tree_util.Partial,
    settings: Settings,
) -> Hypotheses:
    B, T = len(keypoints.points), len(TURNS_DEG)
    mean = hypotheses_lib.decode(mean_state, joint_model)
    axis_angle = np.deg2rad(TURNS_DEG)[:, None] * np.array([[0.0, 1.0, 0.0]])
    turns = rotations.axis_angle_to_matrix(jnp.asarray(axis_angle, jnp.float32))
    roots = exact.einsum("ab,tbc->tac", mean.rotmats[0], turns)
    rotmats = jnp.broadcast_to(mean.rotmats[None], (T, 24, 3, 3)).at[:, 0].set(roots)
    betas = jnp.broadcast_to(mean.betas[None], (T, 10))
    points = smpl.joints(joint_model, rotmats, betas)
    place = jax.vmap(jax.vmap(camera_over, (0, None, None)), (None, 0, None))
    rotmats, betas = (jnp.broadcast_to(x[None], (B, *x.shape)) for x in (rotmats, betas))
    start = _one_axis(objective.with_camera(rotmats, betas, place(points, keypoints, mean.cam)))
    of_rows = _for_each(keypoints, T)

    def stage(body: objective.Body, sigma_and_steps: tuple[Array, Array]) -> tuple[objective.Body, Array]:
        sigma, steps = sigma_and_steps
        weights = dataclasses.replace(settings.weights, sigma=sigma)
        return solver.minimize(body, start.rotmats, of_rows, joint_model, log_prob, weights, steps)

    sigmas = settings.weights.sigma * jnp.array([COARSE, 1.0])
    steps = jnp.stack([jnp.asarray(settings.steps) // 2, (jnp.asarray(settings.steps) + 1) // 2])
    body, (_, value) = jax.lax.scan(stage, start, (sigmas, steps))
    fitted = _two_axes(_scored(body, joint_model, log_prob), (B, T))
    return hypotheses_lib.pick(fitted, jnp.argmin(value.reshape(B, T), axis=1)[:, None])


def camera_over(
    points: Float[Array, "24 3"], keypoints: objective.Keypoints, otherwise: Float[Array, "3"]
) -> Float[Array, "3"]:
    """The camera under which the joints that are seen have the keypoints' mean and size, in closed form.

    Args:
      points: of the body model's frame, metres.
      keypoints: of one person.
      otherwise: its scale is taken where the keypoints are fewer than two different ones.
    """
    share = keypoints.confidence / jnp.maximum(jnp.sum(keypoints.confidence), 1e-12)

    def mean_and_size(xy: Float[Array, "24 2"]) -> tuple[Array, Array]:
        mean = jnp.sum(share[:, None] * xy, axis=0)
        return mean, jnp.sqrt(jnp.sum(share[:, None] * (xy - mean[None]) ** 2))

    (middle, size), (wanted_middle, wanted_size) = mean_and_size(points[:, :2]), mean_and_size(keypoints.points)
    enough = jnp.minimum(size, wanted_size) > 1e-3
    scale = jnp.where(enough, wanted_size / jnp.where(enough, size, 1.0), otherwise[0])
    return jnp.concatenate([scale[None], wanted_middle / scale - middle])


def _scored(body: objective.Body, joint_model: smpl.JointModel, log_prob: objective.LogProb) -> Hypotheses:
    six = rotations.matrix_to_rot6d(body.rotmats).reshape(-1, 144)
    decoded = hypotheses_lib.decode(jnp.concatenate([six, body.betas, objective.camera(body)], axis=1), joint_model)
    X = hypotheses_lib.zero_root_joints(decoded).reshape(-1, 72)
    return dataclasses.replace(decoded, log_prior=log_prob(X))


def _one_axis(tree: T) -> T:
    """Leading axes (B, M) as one."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _two_axes(tree: T, shape: tuple[int, ...]) -> T:
    """One leading axis as (B, M)."""
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), tree)


def _for_each(keypoints: objective.Keypoints, number: int) -> objective.Keypoints:
    """Each person's keypoints for each of its bodies."""
    return jax.tree.map(lambda x: jnp.repeat(x, number, axis=0), keypoints)


@functools.partial(devices.jit, per_example="people")
def _rows(people: Any, index: Int[Array | np.ndarray, "N"]) -> Any:
    return jax.tree.map(lambda x: x[index], people)


@functools.partial(devices.jit, per_example="parts", static_argnames="B")
def _joined(parts: list[Hypotheses], B: int) -> Hypotheses:
    """The first B rows of several parts."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:B], *parts)


def _by_chunks(fit: Callable[[Any], Hypotheses], people: Any, B: int, together: int) -> Hypotheses:
    """Fits some people at a time on each device, and always as many, by repeating the last one.

    One program of one shape gives an example the same bits whatever the batch; a fit amplifies the last bit to
    millimetres, for it is stopped before it converges.
    """
    own = B // devices.shares(people)
    found = []
    for first in range(0, own, together):
        index = np.minimum(np.arange(first, first + together), own - 1)
        found.append(fit(_rows(people, index)))
    return _joined(found, own)
