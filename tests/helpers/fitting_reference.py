"""The objective of a fit in float64, from the vertices of the body: no contraction, no mask, one body at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from multibodies_jax.body import smpl
from multibodies_jax.fitting import objective
from tests.helpers import random_body

WEIGHTS = objective.Weights(prior=0.5, anchor=3.0, sigma=0.05, shape=0.2)
_HIPS = (2, 3)  # Of J24.
_CENTRE = 0.2 * np.random.default_rng(5).normal(size=72)
_PRECISION = np.linspace(20.0, 60.0, 72)


@functools.cache
def _arrays():
    arrays = random_body.arrays(0, vertices=40)
    return arrays | {"posedirs": 0.02 * arrays["posedirs"]}


def body_arrays():
    """A random body whose pose correctives are as small as a human's."""
    return dict(_arrays())


@functools.cache
def regressor():
    rng = np.random.default_rng(1)
    return np.array([rng.dirichlet(np.full(40, 0.1)) for _ in range(24)])


@functools.cache
def joint_model():
    return joint_model_of(body_arrays())


def joint_model_of(arrays):
    return smpl.contract(smpl.build(**arrays), regressor())


def log_prob_of(numpy):
    """A log-density that is not quadratic, up to a constant, in NumPy or JAX."""

    def log_prob(X):
        away = X - numpy.broadcast_to(numpy.asarray(_CENTRE, X.dtype), X.shape)
        precision = numpy.broadcast_to(numpy.asarray(_PRECISION, X.dtype), X.shape)
        return -numpy.sum(numpy.log(1 + 0.5 * precision * away**2), axis=-1)

    return log_prob


log_prob = jax.tree_util.Partial(log_prob_of(jnp))


def points(body, rotmats, betas, rows=None):
    """Regressed joints of one body, float64, through its vertices; by default J24."""
    features = (rotmats[1:] - np.eye(3)).ravel()
    shaped = body["v_template"] + body["shapedirs"] @ betas
    rest = body["J_regressor"] @ shaped
    world, place = [rotmats[0]], [rest[0]]
    for j in range(1, 24):
        parent = body["parents"][j]
        world.append(world[parent] @ rotmats[j])
        place.append(place[parent] + world[parent] @ (rest[j] - rest[parent]))
    local = shaped + body["posedirs"] @ features
    carried = [local @ R.T + (p - R @ r) for R, p, r in zip(world, place, rest, strict=True)]
    return (regressor() if rows is None else rows) @ np.einsum("vk,kva->va", body["weights"], np.array(carried))


def value(start, step, anchor, keypoints, confidence, weights=WEIGHTS, focal=5000 / 112):
    """The objective of (rotmats, betas, (log s, tx, ty)) moved by 85 numbers, term by term; 2 f / S is 5000 / 112."""
    rotmats, betas, log_cam = (np.asarray(x, np.float64) for x in start)
    rotmats = rotmats @ Rotation.from_rotvec(step[:72].reshape(24, 3)).as_matrix()
    betas, log_cam = betas + step[72:82], log_cam + step[82:]
    p = points(body_arrays(), rotmats, betas)
    depth = focal / np.exp(log_cam[0])  # Metres.
    total = 0.0
    for k in range(24):
        if confidence[k] > 0:
            x = focal * (p[k, :2] + log_cam[1:]) / (p[k, 2] + depth)
            e = np.sum((x - keypoints[k]) ** 2) / weights.sigma**2
            total += 0.5 * confidence[k] * e / (1 + e / 25)
    X = (p - (p[_HIPS[0]] + p[_HIPS[1]]) / 2) @ rotmats[0]
    total -= weights.prior * log_prob_of(np)(X.reshape(72))
    total += weights.shape * np.sum(betas**2)
    return total + weights.anchor * np.sum((rotmats[1:] - np.asarray(anchor, np.float64)[1:]) ** 2)


def random_bodies(seed, number, spread=0.3):
    """(rotmats, betas, cam) of bodies near the rest pose, seen from the front."""
    rng = np.random.default_rng(seed)
    rotmats = Rotation.from_rotvec(spread * rng.normal(size=(24 * number, 3))).as_matrix().reshape(number, 24, 3, 3)
    cam = np.array([0.9, 0.0, 0.1]) + 0.05 * rng.normal(size=(number, 3))
    return tuple(np.asarray(x, np.float32) for x in (rotmats, 0.5 * rng.normal(size=(number, 10)), cam))
