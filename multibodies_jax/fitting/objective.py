"""What a fit minimises, its first derivatives, and a positive curvature of all of it except the prior.

For a body x with rotations R, shape b and crop camera c, keypoints k with confidences w, and the body R0 that the fit
starts from, the objective is

    1/2 sum_k w_k rho(|project(J_k(x), c) - k|^2 / sigma^2) - prior log p(X) + shape |b|^2 + anchor sum_j |R_j - R0_j|_F^2,

with rho(e) = e / (1 + e / 25) (Geman and McClure), J the J24 joints, X the joints with an identity root (eq 4), and the
last sum over all joints except the root: the root and the camera are free to follow the keypoints. It is the objective
of SMPLify (Bogo et al., 2016) with the flow as the prior of the pose and a pull towards a prediction, as in SPIN's loop.

A step moves a body by 85 numbers: 24 rotation vectors v with R_j exp(v), 10 of shape, and 3 of (log s, tx, ty), so that
the camera's scale stays positive.
"""

import functools
from collections.abc import Callable
from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.body import smpl
from multibodies_jax.fitting import jacobian
from multibodies_jax.geometry import cameras, centring, joints, rotations

STEP_SIZE = 85
"""Unknowns of one body: 72 of rotation, 10 of shape, 3 of the camera."""

CUT = 25.0
"""Squared error, in units of sigma squared, at which half of a keypoint's term is saturated: 5 sigma."""

_MIN_SCALE = 1e-2  # Least scale of the camera that a fit starts from; a body that fills its crop has about 1.


LogProb = Callable[[Float[Array, "N 72"]], Float[Array, "N"]]
"""log p(X) of eq (4), nats, of J24 joints with an identity root, mid-hip centred, metres, flattened joint-major."""


@no_type_check  # Tree operations fill it with tracers and shapes as well.
@flax.struct.dataclass
class Weights:
    """Factors of the terms.

    Attributes:
      prior: of -log p(X).
      anchor: of the squared distance of the local rotations to those at the start.
      sigma: standard deviation of a keypoint, in units of the crop's [-1, 1].
      shape: of the squared shape coefficients.
    """

    prior: float | Float[Array, ""] = 0.3
    anchor: float | Float[Array, ""] = 5.0
    sigma: float | Float[Array, ""] = 0.02
    shape: float | Float[Array, ""] = 0.1


@no_type_check  # As above.
@flax.struct.dataclass
class Body:
    """A body with its camera as a fit moves it.

    Attributes:
      rotmats: of each joint relative to its parent, the root in the camera frame.
      betas: shape.
      log_cam: (log s, tx, ty) of the crop camera.
    """

    rotmats: Float[Array, "*N 24 3 3"]
    betas: Float[Array, "*N 10"]
    log_cam: Float[Array, "*N 3"]


@no_type_check  # As above.
@flax.struct.dataclass
class Keypoints:
    """Evidence of one body.

    Attributes:
      points: J24 in the crop's [-1, 1]; finite.
      confidence: factor of each keypoint's term, 0 where it is hidden.
      focal: length of the camera, in half-sides of the crop.
    """

    points: Float[Array, "*N 24 2"]
    confidence: Float[Array, "*N 24"]
    focal: Float[Array, "*N"]


def with_camera(rotmats: Float[Array, "*N 24 3 3"], betas: Float[Array, "*N 10"], cam: Float[Array, "*N 3"]) -> Body:
    """A body under the crop camera (s, tx, ty); a scale below 0.01 is raised to it."""
    log_scale = jnp.log(jnp.maximum(cam[..., :1], _MIN_SCALE))
    return Body(rotmats, betas, jnp.concatenate([log_scale, cam[..., 1:]], axis=-1))


def camera(body: Body) -> Float[Array, "*N 3"]:
    """The crop camera (s, tx, ty)."""
    return jnp.concatenate([jnp.exp(body.log_cam[..., :1]), body.log_cam[..., 1:]], axis=-1)


@jax.jit
def visible_keypoints(
    points: Float[Array | np.ndarray, "*N 24 2"],
    confidence: Float[Array | np.ndarray, "*N 24"],
    focal: Float[Array | np.ndarray, "*N"] | Float[Array, ""] | float = cameras.FOCAL,
) -> Keypoints:
    """Keypoints of which those with a confidence of 0 or less, or without finite coordinates, do not count at all.

    `focal` is that of the crop's camera, in half-sides of the crop.
    """
    points, confidence = jnp.asarray(points), jnp.asarray(confidence)
    seen = (confidence > 0) & jnp.all(jnp.isfinite(points), axis=-1)
    focal = jnp.broadcast_to(jnp.asarray(focal, jnp.float32), confidence.shape[:-1])
    return Keypoints(jnp.where(seen[..., None], points, 0.0), jnp.where(seen, confidence, 0.0), focal)


def project(
    points: Float[Array, "*N 24 3"], body: Body, focal: Float[Array, "*N"] | float = cameras.FOCAL
) -> Float[Array, "*N 24 2"]:
    """Where the body's camera shows points of the body model's frame, in the crop's [-1, 1]."""
    return cameras.project_crop(points, camera(body), focal)


def geman_mcclure(squared: Float[Array, "*b"], cut: float) -> Float[Array, "*b"]:
    """rho(e) = e / (1 + e / cut) of squared errors e: e itself near 0, half of `cut` at `cut`, and never more than `cut`."""
    return squared / (1 + squared / cut)


def move(body: Body, step: Float[Array, "N 85"]) -> Body:
    """Bodies after a step."""
    turns = rotations.axis_angle_to_matrix(step[:, :72].reshape(-1, 24, 3))
    rotmats = exact.einsum("njab,njbc->njac", body.rotmats, turns)
    return Body(rotmats, body.betas + step[:, 72:82], body.log_cam + step[:, 82:])


def terms_and_joints(
    body: Body,
    anchor: Float[Array, "N 24 3 3"],
    keypoints: Keypoints,
    joint_model: smpl.JointModel,
    weights: Weights,
) -> tuple[Float[Array, "N"], Float[Array, "N 72"]]:
    """The objective without the prior, and X, which the prior scores; `anchor` is R0."""
    points = smpl.joints(joint_model, body.rotmats, body.betas)
    error = _squared_error(project(points, body, keypoints.focal), keypoints, weights)
    data = 0.5 * jnp.sum(keypoints.confidence * geman_mcclure(error, CUT), axis=-1)
    pull = jnp.sum((body.rotmats[:, 1:] - anchor[:, 1:]) ** 2, axis=(1, 2, 3))
    X = exact.einsum("nka,nab->nkb", points - centring.midhip(points)[:, None], body.rotmats[:, 0])
    return data + weights.shape * jnp.sum(body.betas**2, axis=-1) + weights.anchor * pull, X.reshape(-1, 72)


def value(
    body: Body,
    anchor: Float[Array, "N 24 3 3"],
    keypoints: Keypoints,
    joint_model: smpl.JointModel,
    log_prob: LogProb,
    weights: Weights,
) -> Float[Array, "N"]:
    """The objective of each body."""
    terms, X = terms_and_joints(body, anchor, keypoints, joint_model, weights)
    return terms - weights.prior * log_prob(X)


def value_and_gradients(
    body: Body,
    anchor: Float[Array, "N 24 3 3"],
    keypoints: Keypoints,
    joint_model: smpl.JointModel,
    log_prob: LogProb,
    weights: Weights,
) -> tuple[Float[Array, "N"], Float[Array, "N 85"], Float[Array, "N 85"]]:
    """The objective, its gradient in a step without the prior, and the gradient of the prior's term."""

    def moved(step: Float[Array, "N 85"]) -> tuple[Array, Array]:
        return terms_and_joints(move(body, step), anchor, keypoints, joint_model, weights)

    (terms, X), pull_back = jax.vjp(moved, jnp.zeros((len(body.betas), STEP_SIZE)))
    log_p, pull_back_prior = jax.vjp(log_prob, X)
    (by_joints,) = pull_back_prior(jnp.full_like(log_p, -1.0) * weights.prior)
    one, none = jnp.ones_like(terms), jnp.zeros_like(X)
    # Both at once, which compiles in half the time.
    (both,) = jax.vmap(pull_back)((jnp.stack([one, 0 * one]), jnp.stack([none, by_joints])))
    of_terms, of_prior = both
    return terms - weights.prior * log_p, of_terms, of_prior


def curvature(
    body: Body, keypoints: Keypoints, joint_model: smpl.JointModel, weights: Weights
) -> tuple[Float[Array, "N 85 85"], Float[Array, "N 72 85"]]:
    """A positive semi-definite curvature of the objective without the prior, and the derivative of X, in a step.

    The keypoints' term is that of iteratively reweighted least squares: Gauss-Newton with the weight rho'(e) of each
    keypoint. The anchor and the shape are exact at the start, and the anchor's is a Gauss-Newton form everywhere.
    """

    def one(body: Body, keypoints: Keypoints) -> tuple[Float[Array, "85 85"], Float[Array, "72 85"]]:
        points = smpl.joints(joint_model, body.rotmats, body.betas)
        by_rotation, by_shape = jacobian.of_joints(joint_model, body.rotmats, body.betas)
        by_body = jnp.concatenate([by_rotation.reshape(24, 3, 72), by_shape], axis=-1)
        of_point = functools.partial(_project, focal=keypoints.focal)
        projected = jax.vmap(of_point, (0, None))(points, body.log_cam)
        by_point, by_camera = jax.vmap(jax.jacfwd(of_point, (0, 1)), (0, None))(points, body.log_cam)
        J = jnp.concatenate([exact.einsum("kua,kap->kup", by_point, by_body), by_camera], axis=-1)
        error = _squared_error(projected, keypoints, weights)
        reweighted = keypoints.confidence / (1 + error / CUT) ** 2 / weights.sigma**2
        data = exact.einsum("kup,kuq->pq", J * reweighted[:, None, None], J)
        diagonal = jnp.concatenate(
            [jnp.zeros(3), jnp.full(69, 4.0) * weights.anchor, jnp.full(10, 2.0) * weights.shape, jnp.zeros(3)]
        )
        hips = jnp.mean(by_body[jnp.array(joints.MIDHIP_J24)], axis=0, keepdims=True)
        by_step = jnp.concatenate([(by_body - hips).at[:, :, :3].set(0.0), jnp.zeros((24, 3, 3))], axis=-1)
        by_step = exact.einsum("kap,ab->kbp", by_step, body.rotmats[0])  # A turned root leaves X as it is.
        return data + jnp.diag(diagonal), by_step.reshape(72, STEP_SIZE)

    return jax.vmap(one)(body, keypoints)


def _project(point: Float[Array, "3"], log_cam: Float[Array, "3"], focal: Float[Array, ""]) -> Float[Array, "2"]:
    cam = jnp.stack([jnp.exp(log_cam[0]), log_cam[1], log_cam[2]])
    return cameras.project_crop(point[None], cam, focal)[0]


def _squared_error(projected: Float[Array, "*N 24 2"], keypoints: Keypoints, weights: Weights) -> Float[Array, "*N 24"]:
    """In units of sigma squared; 0 where hidden, so that a hidden joint far away gives no NaN."""
    difference = jnp.where(keypoints.confidence[..., None] > 0, projected - keypoints.points, 0.0)
    return jnp.sum(difference**2, axis=-1) / weights.sigma**2
