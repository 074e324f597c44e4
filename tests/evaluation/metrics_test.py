"""The metrics against float64 SVDs and loops, their invariances, and the statistics against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multibodies_jax.evaluation import metrics


def procrustes_error_mm(pred, target):
    """One pair of sets in float64, by the singular value decomposition."""
    x, y = pred - pred.mean(axis=0), target - target.mean(axis=0)
    u, s, vt = np.linalg.svd(x.T @ y)
    flip = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * flip).sum() / (x**2).sum()
    return 1000 * np.linalg.norm(scale * x @ (u * flip) @ vt - y, axis=1).mean()


def skeletons(seed, *batch, scale=(0.2, 0.5, 0.1), size=14):
    return np.random.default_rng(seed).normal(size=(*batch, size, 3)) * scale


@pytest.mark.parametrize("noise", [1e-3, 0.05, 1.0])
@pytest.mark.parametrize("shape", ["solid", "plane", "mirror"])
def test_pa_mpjpe_is_the_svd_solution(noise, shape):
    rng = np.random.default_rng(1)
    target = skeletons(0, 50, scale=(0.3, 0.5, 0.0) if shape == "plane" else (0.2, 0.5, 0.1)) + 3.0
    turns = Rotation.random(50, rng=rng).as_matrix()
    pred = 1.3 * np.einsum("nab,njb->nja", turns, target) + noise * rng.normal(size=target.shape)
    if shape == "mirror":
        pred[..., 0] *= -1
    pred, target = pred.astype(np.float32), target.astype(np.float32)
    expected = [procrustes_error_mm(p.astype(float), t.astype(float)) for p, t in zip(pred, target, strict=True)]
    np.testing.assert_allclose(jax.jit(metrics.pa_mpjpe_mm)(pred, target), expected, atol=1e-3)


@pytest.mark.slow
@given(seed=st.integers(0, 2**31 - 1))
def test_pa_mpjpe_does_not_see_a_similarity(seed):
    rng = np.random.default_rng(seed)
    pred, target = skeletons(rng, 14)[0], skeletons(rng, 14)[0]
    moved = rng.uniform(0.5, 2) * pred @ Rotation.random(rng=rng).as_matrix().T + rng.normal(size=3)
    before, after = metrics.pa_mpjpe_mm(*map(jnp.float32, (np.stack([pred, moved]), target[None])))
    np.testing.assert_allclose(after, before, rtol=1e-4)


@pytest.mark.parametrize("kind", ["same", "point", "line", "zero"])
def test_degenerate_sets_are_finite_with_finite_gradients(kind):
    target = skeletons(2, 3)
    pred = {
        "same": target,
        "point": np.ones_like(target),
        "line": target[..., :1] * np.ones(3),
        "zero": np.zeros_like(target),
    }[kind]
    value, gradient = jax.value_and_grad(lambda p: metrics.pa_mpjpe_mm(p, jnp.float32(target)).sum())(jnp.float32(pred))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    if kind == "same":
        np.testing.assert_allclose(value, 0, atol=2e-3)


@pytest.mark.slow
def test_gradient_of_pa_mpjpe_leads_to_the_truth():
    pred, target = jnp.float32(skeletons(3, 8)), jnp.float32(skeletons(4, 8))
    gradient = jax.grad(lambda p: metrics.pa_mpjpe_mm(p, target).sum())(pred)
    assert metrics.pa_mpjpe_mm(pred - 1e-5 * gradient, target).mean() < metrics.pa_mpjpe_mm(pred, target).mean() - 0.01


def test_mpjpe_is_in_millimetres_and_broadcasts():
    target = skeletons(5, 4)
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
    target = skeletons(7, 20, size=17)
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


def test_spread_is_the_weighted_mean_distance():
    rng = np.random.default_rng(8)
    points, weights = rng.normal(size=(3, 7, 24, 3)), rng.dirichlet(np.ones(7), size=3)
    expected = np.zeros((3, 24))
    for b in range(3):
        for j in range(24):
            mean = sum(w * x for w, x in zip(weights[b], points[b, :, j], strict=True))
            expected[b, j] = 1000 * sum(
                w * np.linalg.norm(x - mean) for w, x in zip(weights[b], points[b, :, j], strict=True)
            )
    np.testing.assert_allclose(metrics.joint_spread_mm(jnp.float32(points), jnp.float32(weights)), expected, rtol=1e-4)
    one = np.eye(7)[[0, 3, 6]]
    np.testing.assert_allclose(metrics.joint_spread_mm(jnp.float32(points), jnp.float32(one)), 0, atol=1e-3)


def test_reprojection_counts_valid_keypoints_in_pixels():
    kp2d = np.zeros((2, 3, 2), np.float32)
    kp2d[0, 2] = np.nan
    projected = np.zeros((2, 1, 3, 2), np.float32)
    projected[0, 0, 0] = [3 / 112, 4 / 112]
    error = metrics.reprojection_px(jnp.array(projected), jnp.array(kp2d), jnp.array([[1.0, 1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(error, [[2.5], [np.nan]], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of_target", [False, True])
def test_a_number_that_is_not_finite_makes_every_metric_nan(value, of_target):
    good = skeletons(9, 2, size=24).astype(np.float32)
    damaged = good.copy()
    damaged[1, 5, 2] = value
    pred, target = map(jnp.asarray, (good, damaged) if of_target else (damaged, good))
    for metric in (metrics.mpjpe_mm, metrics.vertex_error_mm, metrics.pa_mpjpe_mm, metrics.pck150, metrics.auc):
        np.testing.assert_array_equal(np.isnan(metric(pred, target)), [False, True], err_msg=metric.__name__)
    error = metrics.squared24(pred[:, None], target, jnp.ones((2, 24)))
    np.testing.assert_array_equal(np.isfinite(error)[:, 0], [True, False])
    spread = metrics.joint_spread_mm(jnp.asarray(damaged)[None], jnp.array([[0.5, 0.5]]))
    np.testing.assert_array_equal(np.isnan(spread)[0], np.arange(24) == 5)
    error = metrics.reprojection_px(pred[:, None, :, 1:], target[..., 1:], jnp.ones((2, 24)))
    np.testing.assert_array_equal(np.isnan(error)[:, 0], [False, True])


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
