"""The similarity against a float64 SVD, its invariance, degenerate sets and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multibodies_jax.geometry import distances, procrustes
from tests.helpers import skeletons


def error_mm(pred, target):
    return 1000 * distances.norm(procrustes.align(pred, target) - target).mean(axis=-1)


def procrustes_error_mm(pred, target):
    """One pair of sets in float64, by the singular value decomposition."""
    x, y = pred - pred.mean(axis=0), target - target.mean(axis=0)
    u, s, vt = np.linalg.svd(x.T @ y)
    flip = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * flip).sum() / (x**2).sum()
    return 1000 * np.linalg.norm(scale * x @ (u * flip) @ vt - y, axis=1).mean()


@pytest.mark.parametrize("noise", [1e-3, 0.05, 1.0])
@pytest.mark.parametrize("shape", ["solid", "plane", "mirror"])
def test_the_aligned_error_is_the_svd_solution(noise, shape):
    rng = np.random.default_rng(1)
    target = skeletons.draw(0, 50, scale=(0.3, 0.5, 0.0) if shape == "plane" else (0.2, 0.5, 0.1)) + 3.0
    turns = Rotation.random(50, rng=rng).as_matrix()
    pred = 1.3 * np.einsum("nab,njb->nja", turns, target) + noise * rng.normal(size=target.shape)
    if shape == "mirror":
        pred[..., 0] *= -1
    pred, target = pred.astype(np.float32), target.astype(np.float32)
    expected = [procrustes_error_mm(p.astype(float), t.astype(float)) for p, t in zip(pred, target, strict=True)]
    np.testing.assert_allclose(jax.jit(error_mm)(pred, target), expected, atol=1e-3)


@pytest.mark.slow
@given(seed=st.integers(0, 2**31 - 1))
def test_the_aligned_error_does_not_see_a_similarity(seed):
    rng = np.random.default_rng(seed)
    pred, target = skeletons.draw(rng, 14)[0], skeletons.draw(rng, 14)[0]
    moved = rng.uniform(0.5, 2) * pred @ Rotation.random(rng=rng).as_matrix().T + rng.normal(size=3)
    before, after = error_mm(*map(jnp.float32, (np.stack([pred, moved]), target[None])))
    np.testing.assert_allclose(after, before, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["same", "point", "line", "zero"])
def test_degenerate_sets_are_finite_with_finite_gradients(kind):
    target = skeletons.draw(2, 3)
    pred = {
        "same": target,
        "point": np.ones_like(target),
        "line": target[..., :1] * np.ones(3),
        "zero": np.zeros_like(target),
    }[kind]
    value, gradient = jax.value_and_grad(lambda p: error_mm(p, jnp.float32(target)).sum())(jnp.float32(pred))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    if kind == "same":
        np.testing.assert_allclose(value, 0, atol=2e-3)


@pytest.mark.slow
def test_gradient_of_the_aligned_error_leads_to_the_truth():
    pred, target = jnp.float32(skeletons.draw(3, 8)), jnp.float32(skeletons.draw(4, 8))
    gradient = jax.grad(lambda p: error_mm(p, target).sum())(pred)
    assert error_mm(pred - 1e-5 * gradient, target).mean() < error_mm(pred, target).mean() - 0.01
