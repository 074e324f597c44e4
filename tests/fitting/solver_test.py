"""The solver against scipy's in float64, on the objective of a loop; what it refuses, and what it does with nothing."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from multibodies_jax.body import smpl
from multibodies_jax.fitting import objective, solver
from tests.helpers import fitting_reference as reference

N = 6
minimize, objective_of = jax.jit(solver.minimize), jax.jit(objective.value)


@functools.cache
def shown(seed=0):
    """Starts, and the keypoints of other bodies."""
    model = reference.joint_model()
    start = objective.with_camera(*map(jnp.asarray, reference.random_bodies(seed, N)))
    truth = objective.with_camera(*map(jnp.asarray, reference.random_bodies(seed + 1, N)))
    return start, objective.project(smpl.joints(model, truth.rotmats, truth.betas), truth)


def fit(start, keypoints, steps, weights=reference.WEIGHTS, log_prob=reference.log_prob):
    return minimize(start, start.rotmats, keypoints, reference.joint_model(), log_prob, weights, steps=steps)


def value(body, anchor, keypoints, weights=reference.WEIGHTS):
    return objective_of(body, anchor, keypoints, reference.joint_model(), reference.log_prob, weights)


@pytest.mark.slow
def test_the_optimum_is_that_of_scipy_in_float64():
    start, points = shown()
    confidence = np.ones((N, 24), np.float32)
    confidence[:, 6:12] = 0
    body, found = fit(start, objective.visible_keypoints(points, confidence), steps=80)
    at = [np.asarray(x)[0] for x in (body.rotmats, body.betas, body.log_cam)]

    def after(step):
        return reference.value(at, step, start.rotmats[0], np.asarray(points[0], np.float64), confidence[0])

    assert after(np.zeros(85)) == pytest.approx(float(found[0]), rel=1e-5)
    begun = reference.value(
        [np.asarray(x)[0] for x in (start.rotmats, start.betas, start.log_cam)],
        np.zeros(85),
        start.rotmats[0],
        np.asarray(points[0], np.float64),
        confidence[0],
    )
    further = optimize.minimize(after, np.zeros(85), method="L-BFGS-B", options={"maxiter": 30, "maxfun": 4000})
    assert further.fun > float(found[0]) - 1e-4 * (begun - float(found[0]))
    assert np.abs(further.x).max() < 0.02


@pytest.mark.slow
def test_the_objective_never_rises():
    start, points = shown(2)
    keypoints = objective.visible_keypoints(points, np.ones((N, 24), np.float32))
    values = [value(start, start.rotmats, keypoints)]
    for steps in (1, 2, 4, 8):
        body, found = fit(start, keypoints, steps)
        np.testing.assert_allclose(found, value(body, start.rotmats, keypoints), rtol=1e-4)
        assert (found <= values[-1]).all()
        values.append(found)
    assert (values[-1] < 0.5 * values[0]).all()


@pytest.mark.slow
def test_steps_that_do_not_lower_the_objective_are_refused_one_by_one():
    """A density that is infinitely unlikely everywhere except at the start of every second body."""
    start, points = shown(3)
    keypoints = objective.visible_keypoints(points, np.ones((N, 24), np.float32))
    _, X = objective.terms_and_joints(start, start.rotmats, keypoints, reference.joint_model(), reference.WEIGHTS)

    def trap(X, starts):
        trapped = (jnp.arange(N) % 2 == 0) & jnp.any(starts != X, axis=1)
        return jnp.where(trapped, -jnp.inf, -jnp.sum(X**2, axis=1))

    body, found = fit(start, keypoints, 6, log_prob=jax.tree_util.Partial(trap, starts=X))
    moved = np.abs(np.asarray(body.rotmats - start.rotmats)).max(axis=(1, 2, 3))
    assert (moved[::2] == 0).all()
    assert (moved[1::2] > 0.01).all()
    assert np.isfinite(found).all()


@pytest.mark.slow
def test_a_body_that_is_not_a_number_stays_and_harms_no_other():
    start, points = shown(4)
    keypoints = objective.visible_keypoints(points, np.ones((N, 24), np.float32))
    body, _ = fit(start, keypoints, 4)
    broken, found = fit(dataclasses.replace(start, betas=start.betas.at[2, 3].set(jnp.nan)), keypoints, 4)
    assert found[2] == jnp.inf
    others = np.array([0, 1, 3, 4, 5])
    np.testing.assert_array_equal(broken.rotmats[others], body.rotmats[others])
    np.testing.assert_array_equal(broken.rotmats[2], start.rotmats[2])


def valleys(x):
    """Rosenbrock's function of every row, its gradient, and its Gauss-Newton curvature."""

    def residuals(x):
        return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    J = jax.vmap(jax.jacfwd(residuals))(x)
    r = jax.vmap(residuals)(x)
    value, gradient = jnp.sum(r**2, axis=1), 2 * jnp.einsum("nrp,nr->np", J, r)
    return value, gradient, 2 * jnp.einsum("nrp,nrq->npq", J, J)


@jax.jit
def descend(start, steps):
    return solver.least_squares(start, lambda x: valleys(x)[:2], lambda x: valleys(x)[2], steps)


@pytest.mark.slow
def test_least_squares_finds_the_bottom_of_curved_valleys_and_never_rises():
    start = jnp.asarray([[-1.2, 1.0], [2.0, -1.0], [0.5, 0.5]])
    values = [valleys(descend(start, steps))[0] for steps in (0, 1, 2, 4, 8, 60)]
    np.testing.assert_array_equal(values[0], valleys(start)[0])
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(values))
    np.testing.assert_allclose(descend(start, 60), 1.0, atol=1e-3)


def test_an_objective_that_is_not_finite_keeps_its_start_and_harms_no_other():
    start = jnp.asarray([[jnp.nan, 1.0], [2.0, -1.0]])
    found = descend(start, 10)
    np.testing.assert_array_equal(found[0], start[0])
    np.testing.assert_allclose(found[1], descend(start.at[0].set(0.0), 10)[1], rtol=1e-5)
