"""The rotation of a matrix and its gradient: against SciPy, finite differences and random rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

from multibodies_jax.geometry import nearest_rotation

_project = jax.jit(nearest_rotation.to_rotation, static_argnums=1)


def _matrices(seed, count=40):
    return np.random.default_rng(seed).normal(size=(count, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("rule", nearest_rotation.RULES)
@pytest.mark.parametrize("scale", [1, 3])
def test_a_scaled_rotation_is_its_rotation(rule, scale):
    R = Rotation.random(20, rng=np.random.default_rng(0)).as_matrix().astype(np.float32)
    np.testing.assert_allclose(_project(scale * R, rule), R, atol=1e-5)


def test_no_rotation_is_nearer():
    m = _matrices(1)
    R = np.asarray(_project(m, "nearest"))
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-5)
    others = Rotation.random(3000, rng=np.random.default_rng(2)).as_matrix()
    assert (np.linalg.det(m) < 0).any()
    for one, found in zip(m, R, strict=True):
        assert np.trace(one.T @ found) >= np.einsum("ij,nij->n", one, others).max() - 1e-5


def test_the_published_rule_differs_by_half_a_turn_where_the_determinant_is_negative():
    m = _matrices(3)
    nearest, published = (np.asarray(_project(m, rule), np.float64) for rule in ("nearest", "published"))
    angle = Rotation.from_matrix(np.einsum("nij,nkj->nik", nearest, published)).magnitude()
    np.testing.assert_allclose(angle, np.where(np.linalg.det(m) < 0, np.pi, 0), atol=2e-3)
    polar = np.stack([scipy.linalg.polar(one)[0] for one in m.astype(np.float64)])
    np.testing.assert_allclose(published, np.linalg.det(polar)[:, None, None] * polar, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rule", nearest_rotation.RULES)
def test_the_derivative_is_that_of_finite_differences(rule):
    m, change = _matrices(4, 12).astype(np.float64), _matrices(5, 12).astype(np.float64)
    m += 2 * np.sign(np.linalg.det(m))[:, None, None] * np.eye(3)  # Away from where it jumps; both signs.

    def of(matrices):
        u, _, vt = np.linalg.svd(matrices)
        sign = np.linalg.det(u @ vt)
        return sign[:, None, None] * u @ vt if rule == "published" else u @ (np.stack([1 + 0 * sign, 1 + 0 * sign, sign], 1)[..., None] * vt)  # fmt: skip

    expected = (of(m + 1e-6 * change) - of(m - 1e-6 * change)) / 2e-6
    f32 = (jnp.asarray(m, jnp.float32), jnp.asarray(change, jnp.float32))
    tangent = jax.jvp(lambda x: nearest_rotation.to_rotation(x, rule), f32[:1], f32[1:])[1]
    assert (np.linalg.det(m) < 0).any() and np.abs(expected).max() > 0.1
    np.testing.assert_allclose(tangent, expected, atol=2e-3 * np.abs(expected).max())
    weights = jnp.asarray(_matrices(6, 12))
    gradient = jax.grad(lambda x: jnp.sum(weights * nearest_rotation.to_rotation(x, rule)))(f32[0])
    np.testing.assert_allclose(jnp.sum(gradient * f32[1]), np.sum(weights * expected), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("rule", nearest_rotation.RULES)
@pytest.mark.parametrize("m", [np.eye(3), 1e-8 * np.eye(3), np.zeros((3, 3)), np.diag([1.0, 1, -1]), -np.eye(3)])
def test_gradients_are_finite_where_singular_values_coincide(rule, m):
    gradient = jax.grad(lambda x: jnp.sum(nearest_rotation.to_rotation(x, rule) ** 3 + nearest_rotation.to_rotation(x, rule)))(jnp.float32(m))  # fmt: skip
    assert np.isfinite(gradient).all()
    assert np.isfinite(nearest_rotation.to_rotation(jnp.float32(m), rule)).all()


def test_another_rule_is_refused():
    with pytest.raises(ValueError, match="choose one of nearest, published"):
        nearest_rotation.to_rotation(jnp.eye(3), "spin")
