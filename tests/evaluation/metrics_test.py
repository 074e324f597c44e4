"""The metrics against loops in float64, and what is not finite."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.evaluation import metrics
from tests.helpers import skeletons


def test_mpjpe_is_in_millimetres_and_broadcasts():
    target = skeletons.draw(5, 4)
    offset = np.array([[0.003, 0.0, 0.004], [0.0, 0.01, 0.0]])[None, :, None]
    pred = target[:, None] + offset
    error = metrics.mpjpe_mm(jnp.float32(pred), jnp.float32(target[:, None]))
    np.testing.assert_allclose(error, np.tile([5.0, 10.0], (4, 1)), rtol=1e-4)
    np.testing.assert_array_equal(metrics.vertex_error_mm(jnp.float32(pred), jnp.float32(target[:, None])), error)


def test_sets_are_reduced_by_the_selection():
    rng = np.random.default_rng(6)
    errors = {name: jnp.float32(rng.normal(size=(5, 6))) for name in ("mpjpe", "pck150")}
    joint_error = jnp.float32(rng.normal(size=(5, 6)))
    least = metrics.reduce_set(errors, "minimum per metric")
    np.testing.assert_array_equal(least["mpjpe"], np.asarray(errors["mpjpe"]).min(axis=1))
    np.testing.assert_array_equal(least["pck150"], np.asarray(errors["pck150"]).max(axis=1))
    chosen = metrics.reduce_set(errors, "by joint error", joint_error)
    best = np.asarray(joint_error).argmin(axis=1)
    for name, error in errors.items():
        np.testing.assert_array_equal(chosen[name], np.asarray(error)[np.arange(5), best])
    with pytest.raises(ValueError, match="needs the joint error"):
        metrics.reduce_set(errors, "by joint error")


def test_pck_and_auc_count_joints_below_a_threshold():
    target = skeletons.draw(7, 20, size=17)
    pred = target + np.random.default_rng(7).normal(size=target.shape) * 0.06
    pred[0] = target[0]
    pred[1] = target[1] + [0.0, 0.0, 0.1503]
    distance = 1000 * np.linalg.norm(pred - target, axis=-1)
    at = [100 * (distance < t).mean(axis=1) for t in range(0, 151, 5)]
    np.testing.assert_allclose(metrics.pck150(jnp.float32(pred), jnp.float32(target)), at[-1], rtol=1e-5)
    found = metrics.auc(jnp.float32(pred), jnp.float32(target))
    np.testing.assert_allclose(found, np.mean(at, axis=0), rtol=1e-5, atol=1e-4)
    assert found[0] < 100 and found[1] == 0  # Nothing is nearer than 0 mm.


def test_joint_error_is_the_mean_over_annotated_numbers():
    rng = np.random.default_rng(8)
    pred, target, valid = rng.normal(size=(2, 3, 24, 3)), rng.normal(size=(2, 24, 3)), rng.integers(0, 2, (2, 24))
    expected = [[np.mean(valid[b, :, None] * (pred[b, n] - target[b]) ** 2) for n in range(3)] for b in range(2)]
    found = metrics.squared24(jnp.float32(pred), jnp.float32(target), jnp.float32(valid))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of_target", [False, True])
def test_a_number_that_is_not_finite_makes_every_metric_nan(value, of_target):
    good = skeletons.draw(9, 2, size=24).astype(np.float32)
    damaged = good.copy()
    damaged[1, 5, 2] = value
    pred, target = map(jnp.asarray, (good, damaged) if of_target else (damaged, good))
    for metric in (metrics.mpjpe_mm, metrics.vertex_error_mm, metrics.pa_mpjpe_mm, metrics.pck150, metrics.auc):
        np.testing.assert_array_equal(np.isnan(metric(pred, target)), [False, True], err_msg=metric.__name__)
    error = metrics.squared24(pred[:, None], target, jnp.ones((2, 24)))
    np.testing.assert_array_equal(np.isfinite(error)[:, 0], [True, False])


def test_a_joint_that_does_not_count_may_be_nan():
    pred, target, valid = np.ones((1, 1, 24, 3), np.float32), np.zeros((1, 24, 3), np.float32), np.ones((1, 24))
    target[0, 3], valid[0, 3] = np.nan, 0
    np.testing.assert_allclose(
        metrics.squared24(jnp.array(pred), jnp.array(target), jnp.float32(valid)), [[23 / 24]], rtol=1e-6
    )


@pytest.mark.parametrize("selection", ["minimum per metric", "by joint error"])
def test_a_body_that_is_not_finite_never_wins_in_a_set(selection):
    errors = {name: jnp.array([[50.0, np.nan, 70.0], [50.0, 60.0, 70.0]]) for name in ("mpjpe", "pck150")}
    joint_error = jnp.array([[2.0, np.nan, 3.0], [2.0, 1.0, 3.0]])
    for error in metrics.reduce_set(errors, selection, joint_error).values():
        np.testing.assert_array_equal(np.isnan(error), [True, False])
    # Also where only what decides is not known.
    finite = {"mpjpe": jnp.array([[50.0, 60.0, 70.0]])}
    assert np.isnan(metrics.reduce_set(finite, "by joint error", joint_error[:1])["mpjpe"])
    np.testing.assert_array_equal(metrics.nearest(joint_error), [-1, 1])
