"""SMPLify as SPIN's loop has it: a short fit of SMPL's pose and shape to the keypoints of one image.

    fitted = smplify.fit(start, keypoints, joint_model, prior)         # start: where a network says the body is

Two stages of Adam, 100 steps each (Bogo et al., 2016; Kolotouros et al., 2019, section 3.2). Pixels are those of a crop
that is 224 wide; c is a keypoint's confidence, (dx, dy) its projection minus the keypoint.

  1. The root's rotation and the translation t follow the torso (hips and shoulders), pose and shape stay:

         sum_torso (dx^2 + dy^2) + 100^2 (t_z - t_z,start)^2.

  2. Pose and shape follow all keypoints, t stays:

         sum_k c_k^2 [g(dx_k) + g(dy_k)] + 4.78^2 E_mixture + 15.2^2 E_angle + 5^2 |betas|^2,

     g(e) = s^2 e^2 / (s^2 + e^2) with s = 100, of each coordinate; E_mixture of `pose_mixture`; and E_angle, the sum of
     exp(2 angle) over knees and elbows, the angle positive where they bend the wrong way.

Both objectives are also minimised by Levenberg-Marquardt (`solver="second_order"`), with the curvature of reweighted least
squares and that of the priors.

Keypoints are SPIN's 49 (OpenPose's 25, then J24) or J24 alone, which counts as 49 of which the first 25 are not seen. Neck
and hips of OpenPose and the hips of J24 are ignored in stage 2 and in the loss: SMPL's joints of these names are elsewhere in
the body. All people of a batch are fitted at once, and none knows of the others.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from multibodies_jax import exact
from multibodies_jax.body import smpl
from multibodies_jax.fitting import jacobian, objective, pose_mixture, refine, solver
from multibodies_jax.geometry import cameras, image_cameras, joints, rotations
from multibodies_jax.hypotheses import hypotheses

TORSOS = ("annotated", "openpose_if_valid", "visible")
"""What stage 1 looks at: hips and shoulders of J24, whatever their confidence (as in SPIN's training); OpenPose's where all
four are seen, else J24's (as SPIN's SMPLify alone); or those of J24 by their squared confidence, and all keypoints where
fewer than two of them are seen."""

SOLVERS = ("adam", "second_order")
"""How a stage is minimised: by Adam, as SPIN, or by Levenberg-Marquardt, of which few steps do what 100 of Adam do: 2 from
starts near the body, 5 from the mean pose."""

POINTS = 49
"""Keypoints whose mean the loss is, those that are not given included."""

IGNORED = tuple(joints.OPENPOSE25.index(name) for name in ("mid_shoulders", "right_hip", "left_hip")) + tuple(
    len(joints.OPENPOSE25) + joint for joint in joints.MIDHIP_J24
)
"""Of the 49; confidence 0 in stage 2 and in the loss."""

BENDS = ((52, 1.0), (55, -1.0), (9, -1.0), (12, -1.0))
"""Places of left elbow, right elbow, left knee and right knee in the 69 numbers of the pose, and the sign of E_angle."""

_TORSO = ("right_hip", "left_hip", "right_shoulder", "left_shoulder")
_SIDE = cameras.CROP_PX / 2  # Pixels of half a side.
_RATE = 1e-2
_LONGEST = 1.5  # Radians, metres and units of shape in a step of second order.
_DEPTH, _ROBUST_PX = 100.0, 100.0
_MIXTURE, _ANGLE, _SHAPE = 4.78**2, 15.2**2, 5.0**2
_TOGETHER = 64  # People that `fit_from_mean_pose` fits at once.
_LEAST_SCALE = 1e-2  # Of a network's camera; one that looks backwards starts from it.


class Settings(NamedTuple):
    """How to fit; static.

    Attributes:
      steps: of each stage.
      torso: one of `TORSOS`.
      solver: one of `SOLVERS`.
    """

    steps: int = 100
    torso: str = "annotated"
    solver: str = "adam"


SPIN = Settings()
"""The steps and the torso of SPIN's training."""


@no_type_check  # Tree operations fill it with tracers and shapes as well.
@flax.struct.dataclass
class Body:
    """A body as SMPLify moves it.

    Attributes:
      pose: axis-angles, the root first, in the camera frame.
      betas: shape.
      translation: of the body model's frame to the camera, metres, under the focal length of the crop.
    """

    pose: Float[Array, "*N 24 3"]
    betas: Float[Array, "*N 10"]
    translation: Float[Array, "*N 3"]


@no_type_check  # As above.
@flax.struct.dataclass
class Keypoints:
    """Evidence of one body.

    Attributes:
      points_px: SPIN's 49, or J24, in pixels of the crop; finite.
      confidence: 0 where a keypoint is not seen.
    """

    points_px: Float[Array, "*N K 2"]
    confidence: Float[Array, "*N K"]


@no_type_check  # As above.
@flax.struct.dataclass
class Fit:
    """What a fit found.

    Attributes:
      body: the fitted one; the start where the fit is not finite.
      errors_px2: c^2 [g(dx) + g(dy)] of each keypoint.
      loss_px2: sum of them over 49; infinite where no keypoint counts, or the fit is not finite.
    """

    body: Body
    errors_px2: Float[Array, "*N K"]
    loss_px2: Float[Array, "*N"]


def start_from(rotmats: Float[Array, "*N 24 3 3"], betas: Float[Array, "*N 10"], cam: Float[Array, "*N 3"]) -> Body:
    """The body of a network as a start; no gradient reaches the network, and a camera scale below 0.01 is raised to it."""
    cam = jnp.concatenate([jnp.maximum(cam[..., :1], _LEAST_SCALE), cam[..., 1:]], axis=-1)
    body = Body(rotations.matrix_to_axis_angle(rotmats), betas, image_cameras.crop_camera_to_translation(cam))
    return jax.lax.stop_gradient(body)


def crop_keypoints(points: Float[Array, "*N K 2"], confidence: Float[Array, "*N K"]) -> Keypoints:
    """Keypoints in the crop's [-1, 1]; those without finite coordinates, or of a confidence of 0 or less, are not seen."""
    seen = (confidence > 0) & jnp.all(jnp.isfinite(points), axis=-1)
    points = jnp.where(jnp.isfinite(points), points, 0.0)  # Stage 1 may look at a joint that is not seen.
    return Keypoints(_SIDE * (points + 1), jnp.where(seen, confidence, 0.0))


def fit(
    start: Body,
    keypoints: Keypoints,
    joint_model: smpl.JointModel,
    prior: pose_mixture.PoseMixture,
    settings: Settings = SPIN,
) -> Fit:
    """Fits N bodies, each to its own keypoints.

    Args:
      start: where the fit begins (`start_from`).
      keypoints: K = 49 or 24 of each body.
      joint_model: the body contracted with the regressor of these keypoints.
      prior: of the pose.
      settings: steps and torso.

    Returns:
      The bodies with their loss; a body without a keypoint that counts follows the priors alone, and its loss is infinite.

    Raises:
      ValueError: another number of keypoints, or an unknown rule for the torso.
    """
    _check(keypoints, settings)
    root, translation = _follow_torso(start, keypoints, joint_model, settings)
    pose = start.pose.at[:, 0].set(root)
    pose, betas = _follow_keypoints(Body(pose, start.betas, translation), keypoints, joint_model, prior, settings)
    fitted = Body(pose, betas, translation)
    errors = reprojection_errors_px2(fitted, keypoints, joint_model)
    loss = _loss(errors, keypoints)
    finite = jnp.isfinite(errors).all(axis=1)
    for x in jax.tree.leaves(fitted):
        finite = finite & jnp.isfinite(x.reshape(len(x), -1)).all(axis=1)
    body = jax.tree.map(lambda new, old: jnp.where(_rows(finite, new), new, old), fitted, start)
    return Fit(body, errors, jnp.where(finite, loss, jnp.inf))


def fit_from_mean_pose(
    points: Float[np.ndarray, "N K 2"],
    confidence: Float[np.ndarray, "N K"],
    mean_state: Float[np.ndarray | Array, "157"],
    joint_model: smpl.JointModel,
    prior: pose_mixture.PoseMixture,
    settings: Settings = SPIN,
) -> Fit:
    """Fits one body to each person's keypoints, with no network, from the mean pose, which faces the camera.

    The first camera is the one that gives the keypoints of J24 that are seen their mean and their size. As many people as
    are fitted at once always make one program of one shape, so that a person's result does not depend on the others.

    Args:
      points: SPIN's 49 keypoints or J24, in the crop's [-1, 1]; any value where they are not seen.
      confidence: 0 or less where a keypoint is not seen.
      mean_state: of the mean body, as `hypotheses.decode` reads it.
      joint_model: the body contracted with the regressor of these keypoints.
      prior, settings: as in `fit`.

    Returns:
      The fits, with arrays of NumPy.

    Raises:
      ValueError: a person without a keypoint that counts, or whose fit is not finite; another number of keypoints.
    """
    keypoints = jax.tree.map(np.asarray, crop_keypoints(jnp.asarray(points), jnp.asarray(confidence)))
    _check(keypoints, settings)
    blind = np.flatnonzero(~np.asarray(counts(jnp.asarray(keypoints.confidence))).any(axis=1))
    if len(blind):
        raise ValueError(
            f"All keypoints of {len(blind)} of {len(points)} people are hidden (the first is person {blind[0]}, from 0), or only "
            "those are seen that SMPLify ignores (hips, and OpenPose's neck): leave them out, a fit needs at least one."
        )
    found = []
    for first in range(0, len(points), _TOGETHER):
        index = np.minimum(np.arange(first, first + _TOGETHER), len(points) - 1)
        given = jax.tree.map(lambda x, index=index: jnp.asarray(x[index]), keypoints)
        found.append(jax.device_get(_fit_from_mean_pose(given, jnp.asarray(mean_state), joint_model, prior, settings)))
    every = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(points)], *found)
    if len(wrong := np.flatnonzero(~np.isfinite(every.loss_px2))):
        raise ValueError(
            f"The fits of {len(wrong)} of {len(points)} people are not finite (the first is person {wrong[0]}, from 0): their "
            "keypoints are too large; they are expected in [-1, 1] of the crop, and somewhat beyond."
        )
    return every


@functools.partial(jax.jit, static_argnames="settings")
def _fit_from_mean_pose(
    keypoints: Keypoints,
    mean_state: Float[Array, "157"],
    joint_model: smpl.JointModel,
    prior: pose_mixture.PoseMixture,
    settings: Settings,
) -> Fit:
    pose, betas, cam = hypotheses.split_state(mean_state)
    rotmats = rotations.rot6d_to_matrix(pose.reshape(24, 6))
    points = smpl.joints(joint_model, rotmats, betas)[-24:]
    seen = objective.Keypoints(
        keypoints.points_px[:, -24:] / _SIDE - 1,
        keypoints.confidence[:, -24:],
        jnp.full(len(keypoints.confidence), cameras.FOCAL),
    )
    cam = jax.vmap(refine.camera_over, (None, 0, None))(points, seen, cam)
    N = len(cam)
    start = start_from(jnp.broadcast_to(rotmats[None], (N, 24, 3, 3)), jnp.broadcast_to(betas[None], (N, 10)), cam)
    return fit(start, keypoints, joint_model, prior, settings)


def loss_px2(body: Body, keypoints: Keypoints, joint_model: smpl.JointModel) -> Float[Array, "N"]:
    """The mean over 49 keypoints of c^2 [g(dx) + g(dy)], which compares fits; infinite where no keypoint counts."""
    return _loss(reprojection_errors_px2(body, keypoints, joint_model), keypoints)


def stored_loss_px2(
    rotmats: Float[Array, "N 24 3 3"],
    betas: Float[Array, "N 10"],
    keypoints: Keypoints,
    joint_model: smpl.JointModel,
) -> Float[Array, "N"]:
    """The loss of bodies without a camera: under the translation of least squares over J24, weighted by confidence.

    Infinite also where the keypoints allow no translation in front of the camera.
    """
    points = smpl.joints(joint_model, rotmats, betas)
    K = jnp.array([[cameras.FOCAL_PX, 0, _SIDE], [0, cameras.FOCAL_PX, _SIDE], [0, 0, 1]])
    translation = image_cameras.translation_from_keypoints(
        points[:, -24:],
        keypoints.points_px[:, -24:],
        keypoints.confidence[:, -24:],
        jnp.broadcast_to(K[None], (len(points), 3, 3)),
    )
    placed = translation[:, 2] > 0
    translation = jnp.where(placed[:, None], translation, jnp.ones(3)[None])
    loss = _loss(_errors_px2(points, translation, keypoints), keypoints)
    return jnp.where(placed & jnp.isfinite(loss), loss, jnp.inf)


def reprojection_errors_px2(body: Body, keypoints: Keypoints, joint_model: smpl.JointModel) -> Float[Array, "N K"]:
    """c^2 [g(dx) + g(dy)] of each keypoint, square pixels; 0 for ignored ones."""
    points = smpl.joints(joint_model, rotations.axis_angle_to_matrix(body.pose), body.betas)
    return _errors_px2(points, body.translation, keypoints)


def angle_energy(pose: Float[Array, "*N 69"]) -> Float[Array, "*N"]:
    """E_angle, sum of exp(2 angle): 4 where knees and elbows are straight, less where they bend, large where overstretched."""
    places, signs = zip(*BENDS, strict=True)
    angles = pose[..., jnp.array(places)] * jnp.array(signs)[(None,) * (pose.ndim - 1)]
    return jnp.sum(jnp.exp(2 * angles), axis=-1)


def torso_weights(confidence: Float[Array, "N K"], torso: str) -> Float[Array, "N K"]:
    """Factors of the squared distances in stage 1 (`TORSOS`)."""
    K = confidence.shape[1]
    annotated = _one_hot(K, [K - 24 + joints.J24.index(name) for name in _TORSO])
    everybody = jnp.broadcast_to(annotated[None], confidence.shape)
    if torso == "visible":
        squared = confidence**2
        own = squared * annotated[None]
        enough = jnp.sum(own > 0, axis=1, keepdims=True) >= 2
        return jnp.where(enough, own, squared)
    if torso == "openpose_if_valid" and K == POINTS:
        places = [joints.OPENPOSE25.index(name) for name in _TORSO]
        valid = jnp.all(confidence[:, jnp.array(places)] > 0, axis=1, keepdims=True)
        return jnp.where(valid, _one_hot(K, places)[None], everybody)
    return everybody


def _follow_torso(
    start: Body, keypoints: Keypoints, joint_model: smpl.JointModel, settings: Settings
) -> tuple[Float[Array, "N 3"], Float[Array, "N 3"]]:
    """Stage 1: the root's axis-angle and the translation."""
    weights = torso_weights(keypoints.confidence, settings.torso)
    # The body does not change: its points turn about the root joint as one.
    rotmats = rotations.axis_angle_to_matrix(start.pose.at[:, 0].set(0.0))
    features = jnp.concatenate([jnp.ones_like(start.betas[:, :1]), start.betas], axis=1)
    root = exact.dot(features, joint_model.root)
    centre = root[:, None, :] * joint_model.root_sums[None, :, None]
    arms = smpl.joints(joint_model, rotmats, start.betas) - centre

    given = (arms, centre, keypoints.points_px, weights, start.translation[:, 2])

    def residuals(x: Array, arms: Array, centre: Array, points_px: Array, weights: Array, depth: Array) -> Array:
        """Whose squares are the objective of one body; x is the root's axis-angle and the translation."""
        turn = rotations.axis_angle_to_matrix(x[:3])
        points = exact.einsum("ab,kb->ka", turn, arms) + centre
        away = jnp.where(weights[:, None] > 0, _project_px(points, x[3:]) - points_px, 0.0)
        root = jnp.sqrt(jnp.where(weights > 0, weights, 1.0))  # Of 0 it has no derivative.
        return jnp.append((root[:, None] * away).ravel(), _DEPTH * (x[5] - depth))

    def values(x: Array) -> Array:
        return jnp.sum(jax.vmap(residuals)(x, *given) ** 2, axis=1)

    def curvature(x: Array) -> Array:
        J = jax.vmap(jax.jacfwd(residuals))(x, *given)
        return 2 * exact.einsum("nrp,nrq->npq", J, J)

    first = jnp.concatenate([start.pose[:, 0], start.translation], axis=1)
    moved = _minimize(values, curvature, first, settings)
    return moved[:, :3], moved[:, 3:]


def _follow_keypoints(
    start: Body,
    keypoints: Keypoints,
    joint_model: smpl.JointModel,
    prior: pose_mixture.PoseMixture,
    settings: Settings,
) -> tuple[Float[Array, "N 24 3"], Float[Array, "N 10"]]:
    """Stage 2: pose and shape."""
    N = len(start.betas)

    def body_of(x: Array) -> Body:
        return Body(x[:, :72].reshape(N, 24, 3), x[:, 72:], start.translation)

    def values(x: Array) -> Array:
        return body_objective(body_of(x), keypoints, joint_model, prior)

    def curvature(x: Array) -> Array:
        return body_curvature(body_of(x), keypoints, joint_model, prior)

    first = jnp.concatenate([start.pose.reshape(N, 72), start.betas], axis=1)
    moved = _minimize(values, curvature, first, settings)
    return moved[:, :72].reshape(N, 24, 3), moved[:, 72:]


def body_objective(
    body: Body, keypoints: Keypoints, joint_model: smpl.JointModel, prior: pose_mixture.PoseMixture
) -> Float[Array, "N"]:
    """What stage 2 minimises, of each body."""
    pose = body.pose[:, 1:].reshape(-1, pose_mixture.POSE_SIZE)
    return (
        jnp.sum(reprojection_errors_px2(body, keypoints, joint_model), axis=1)
        + _MIXTURE * pose_mixture.energy(prior, pose)
        + _ANGLE * angle_energy(pose)
        + _SHAPE * jnp.sum(body.betas**2, axis=1)
    )


def body_curvature(
    body: Body, keypoints: Keypoints, joint_model: smpl.JointModel, prior: pose_mixture.PoseMixture
) -> Float[Array, "N 82 82"]:
    """A positive semi-definite curvature of `body_objective` in pose and shape.

    The priors' are exact; the keypoints' is that of iteratively reweighted least squares: Gauss-Newton, each coordinate with
    the slope of g.
    """
    N = len(body.betas)
    rotmats = rotations.axis_angle_to_matrix(body.pose)
    points = smpl.joints(joint_model, rotmats, body.betas)
    world, moment, by_shape = jacobian.moments(joint_model, rotmats, body.betas)
    by_point = jax.vmap(jax.vmap(jax.jacfwd(_project_one_px), (0, None)))(points, body.translation)
    # A turn w in the world about a bone moves a projection by p . (w x moment) = w . (moment x p).
    turns = jnp.cross(moment[:, :, None], by_point[:, :, :, None])  # (N, K, 2, 24, 3)
    frame = exact.einsum("nabj,njbc->njac", world, jacobian.of_turn(body.pose))[:, None, None]
    a, b, c = (turns[..., k, None] * frame[..., k, :] for k in range(3))
    by_shape = exact.einsum("nkua,nkas->nkus", by_point, by_shape)
    J = jnp.concatenate([(a + b + c).reshape(N, -1, 2, 72), by_shape], axis=-1)
    away = _project_px(points, body.translation) - keypoints.points_px
    sure = jnp.where(counts(keypoints.confidence), keypoints.confidence, 0.0)[..., None] ** 2
    slope = jnp.where(sure > 0, 1 / (1 + away**2 / _ROBUST_PX**2) ** 2, 0.0)
    J = (J * jnp.sqrt(2 * sure * slope)[..., None]).reshape(N, -1, 82)
    pose = body.pose[:, 1:].reshape(N, pose_mixture.POSE_SIZE)
    places, signs = zip(*BENDS, strict=True)
    at = jnp.array(places)
    bend = 4 * _ANGLE * jnp.exp(2 * pose[:, at] * jnp.array(signs)[None])
    total = exact.einsum("nrp,nrq->npq", J, J)
    total = total.at[:, 3:72, 3:72].add(_MIXTURE * pose_mixture.curvature(prior, pose))
    total = total.at[:, 3 + at, 3 + at].add(bend)
    shape = jnp.arange(72, 82)
    return total.at[:, shape, shape].add(2 * _SHAPE)


def _minimize(
    values: Callable[[Array], Array],
    curvature: Callable[[Array], Array],
    start: Float[Array, "N P"],
    settings: Settings,
) -> Float[Array, "N P"]:
    """The unknowns of each person after the steps of a stage; no person's depend on another's."""

    def total(x: Array) -> tuple[Array, Array]:
        each = values(x)
        return jnp.sum(each), each

    if settings.solver == "second_order":

        def look(x: Array) -> tuple[Array, Array]:
            (_, each), gradient = jax.value_and_grad(total, has_aux=True)(x)
            return each, gradient

        return solver.least_squares(start, look, curvature, settings.steps, _LONGEST)
    optimizer = optax.adam(_RATE)

    def step(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
        x, state = carry
        gradient, _ = jax.grad(total, has_aux=True)(x)
        updates, state = optimizer.update(gradient, state)
        return (x + jnp.asarray(updates), state), None

    (moved, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=settings.steps)
    return moved


def _errors_px2(
    points: Float[Array, "N K 3"], translation: Float[Array, "N 3"], keypoints: Keypoints
) -> Float[Array, "N K"]:
    seen = counts(keypoints.confidence)
    away = jnp.where(seen[..., None], _project_px(points, translation) - keypoints.points_px, 0.0)
    robust = objective.geman_mcclure(away**2, _ROBUST_PX**2)
    return jnp.where(seen, keypoints.confidence, 0.0) ** 2 * jnp.sum(robust, axis=-1)


def _project_px(points: Float[Array, "*N K 3"], translation: Float[Array, "*N 3"]) -> Float[Array, "*N K 2"]:
    """Pixels of the crop of points that are moved by a translation."""
    cam = jnp.concatenate([cameras.FOCAL / translation[..., 2:], translation[..., :2]], axis=-1)
    return _SIDE * (cameras.project_crop(points, cam) + 1)


def _project_one_px(point: Float[Array, "3"], translation: Float[Array, "3"]) -> Float[Array, "2"]:
    return _project_px(point[None], translation)[0]


def _loss(errors_px2: Float[Array, "N K"], keypoints: Keypoints) -> Float[Array, "N"]:
    any_seen = jnp.any(counts(keypoints.confidence), axis=1)
    return jnp.where(any_seen, jnp.sum(errors_px2, axis=1) / POINTS, jnp.inf)


def counts(confidence: Float[Array, "N K"]) -> Bool[Array, "N K"]:
    """Which keypoints count in stage 2 and in the loss: those that are seen and not ignored."""
    K = confidence.shape[1]
    ignored = _one_hot(K, [joint - (POINTS - K) for joint in IGNORED if joint >= POINTS - K])
    return (confidence > 0) & (ignored == 0)[None]


def _one_hot(size: int, places: list[int]) -> Float[Array, "K"]:
    return jnp.zeros(size).at[jnp.array(places)].set(1.0)


def _rows(rows: Bool[Array, "N"], like: Float[Array, "N ..."]) -> Bool[Array, "N ..."]:
    return rows.reshape(-1, *(1,) * (like.ndim - 1))


def _check(keypoints: Keypoints, settings: Settings) -> None:
    if keypoints.points_px.shape[-2] not in (24, POINTS):
        raise ValueError(
            f"SMPLify takes J24 or SPIN's 49 keypoints, got {keypoints.points_px.shape[-2]} of each person."
        )
    if settings.torso not in TORSOS:
        raise ValueError(f"The torso of stage 1 is one of {', '.join(TORSOS)}, got {settings.torso!r}.")
    if settings.solver not in SOLVERS:
        raise ValueError(f"The solver is one of {', '.join(SOLVERS)}, got {settings.solver!r}.")
