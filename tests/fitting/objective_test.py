"""The objective and its derivatives against a float64 loop over keypoints and vertices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.fitting import objective
from tests.helpers import fitting_reference as reference

N = 3
value, value_and_gradients, curvature = map(
    jax.jit, (objective.value, objective.value_and_gradients, objective.curvature)
)


def case(seed=0):
    rng = np.random.default_rng(seed)
    body = objective.with_camera(*map(jnp.asarray, reference.random_bodies(seed, N)))
    anchor = jnp.asarray(reference.random_bodies(seed + 1, N)[0])
    points = rng.uniform(-1, 1, size=(N, 24, 2)).astype(np.float32)
    confidence = (rng.uniform(size=(N, 24)) * (rng.uniform(size=(N, 24)) < 0.6)).astype(np.float32)
    return body, anchor, points, confidence


def rows(body):
    return zip(np.asarray(body.rotmats), np.asarray(body.betas), np.asarray(body.log_cam), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("focal", [5000 / 112, 3.0])
def test_the_value_equals_a_loop_in_float64(focal):
    body, anchor, points, confidence = case()
    keypoints = objective.visible_keypoints(points, confidence, focal)
    args = (body, anchor, keypoints, reference.joint_model(), reference.log_prob, reference.WEIGHTS)
    expected = [
        reference.value(row, np.zeros(85), anchor[i], points[i], confidence[i], focal=focal)
        for i, row in enumerate(rows(body))
    ]
    np.testing.assert_allclose(value(*args), expected, rtol=1e-5)
    np.testing.assert_allclose(value_and_gradients(*args)[0], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_gradient_equals_differences_in_float64():
    body, anchor, points, confidence = case(1)
    keypoints = objective.visible_keypoints(points, confidence, 3.0)
    _, of_terms, of_prior = value_and_gradients(
        body, anchor, keypoints, reference.joint_model(), reference.log_prob, reference.WEIGHTS
    )
    row, h = next(rows(body)), 1e-5
    for weights, gradient in (
        (reference.WEIGHTS, of_terms + of_prior),
        (dataclasses.replace(reference.WEIGHTS, prior=0.0), of_terms),
    ):

        def exact(step, weights=weights):
            return reference.value(row, step, anchor[0], points[0], confidence[0], weights, focal=3.0)

        expected = np.array([(exact(h * axis) - exact(-h * axis)) / (2 * h) for axis in np.eye(85)])
        np.testing.assert_allclose(gradient[0], expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_the_curvature_is_that_of_the_objective_where_the_residuals_vanish():
    """With exact keypoints at the anchor the Gauss-Newton form is the Hessian, here without pose correctives."""
    body, _, _, confidence = case(2)
    arrays = reference.body_arrays()
    arrays["posedirs"] = 0 * arrays["posedirs"]
    joint_model = reference.joint_model_of(arrays)
    body = dataclasses.replace(body, betas=jnp.zeros_like(body.betas))
    points = [reference.points(arrays, R, b) for R, b, _ in rows(body)]
    shown = objective.project(jnp.asarray(points, jnp.float32), body, jnp.full(N, 4.0))
    keypoints = objective.visible_keypoints(shown, confidence, 4.0)
    H, by_step = curvature(body, keypoints, joint_model, reference.WEIGHTS)

    def terms(step, part):
        moved = objective.move(body, step)
        return objective.terms_and_joints(moved, body.rotmats, keypoints, joint_model, reference.WEIGHTS)[part]

    zero = jnp.zeros((N, objective.STEP_SIZE))
    hessian = jax.jit(jax.hessian(lambda step: terms(zero.at[0].set(step), 0)[0]))(zero[0])
    np.testing.assert_allclose(H[0], hessian, atol=1e-4 * float(jnp.abs(hessian).max()))
    jacobian = jax.jit(jax.jacfwd(lambda step: terms(zero.at[0].set(step), 1)[0]))(zero[0])
    np.testing.assert_allclose(by_step[0], jacobian, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [np.nan, np.inf, 1e6])
def test_hidden_keypoints_have_no_influence(hidden):
    body, anchor, points, confidence = case(3)
    model = reference.joint_model()

    def everything(points):
        keypoints = objective.visible_keypoints(points, confidence)
        given = (body, anchor, keypoints, model, reference.log_prob, reference.WEIGHTS)
        return value_and_gradients(*given), curvature(body, keypoints, model, reference.WEIGHTS)

    elsewhere = np.where(confidence[..., None] > 0, points, np.float32(hidden))
    jax.tree.map(np.testing.assert_array_equal, everything(points), everything(elsewhere))


def test_a_visible_keypoint_without_coordinates_does_not_count():
    _, _, points, confidence = case(4)
    confidence[0, 5] = 1.0
    points[0, 5, 1] = np.nan
    keypoints = objective.visible_keypoints(points, confidence)
    assert keypoints.confidence[0, 5] == 0
    assert np.isfinite(keypoints.points).all()


def test_a_camera_that_looks_backwards_starts_with_a_small_positive_scale():
    rotmats, betas, cam = reference.random_bodies(0, N)
    cam[:, 0] = [-0.3, 0.0, 0.8]
    body = objective.with_camera(*map(jnp.asarray, (rotmats, betas, cam)))
    np.testing.assert_allclose(objective.camera(body)[:, 0], [0.01, 0.01, 0.8], rtol=1e-5)
    np.testing.assert_array_equal(objective.camera(body)[:, 1:], cam[:, 1:])
