"""The mixture's density against SciPy's normal distributions, and eq (9) by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from scipy.spatial.transform import Rotation

from multibodies_jax.baselines.smpl_mdn import network, objective
from multibodies_jax.geometry import rotations
from tests.helpers import batches, small_mdn
from tests.helpers.small_mdn import B, M


def _problem(rng, spread=0.3, size=69):
    theta = rng.normal(size=(B, size))
    means = theta[:, None] + spread * rng.normal(size=(B, M, size))
    log_alpha = np.log(rng.dirichlet(np.ones(M), B))
    return theta, means, log_alpha, rng.uniform(-4, 0, (B, M))


def test_log_density_is_scipys():
    theta, means, log_alpha, log_sigma = _problem(np.random.default_rng(1))
    expected = np.array(
        [
            [
                log_alpha[b, m]
                + scipy.stats.multivariate_normal.logpdf(theta[b], means[b, m], np.exp(2 * log_sigma[b, m]))
                for m in range(M)
            ]
            for b in range(B)
        ]
    )
    got = objective.log_density(*(jnp.asarray(x, jnp.float32) for x in (theta[:, None], means, log_alpha, log_sigma)))
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-3)


def test_virtual_prediction_is_eq_9_by_hand():
    theta, means, log_alpha, _ = _problem(np.random.default_rng(2), spread=0.02)
    log_sigma = np.full((B, M), network.log_std(0.001, "variance"))
    density = np.exp(log_alpha) * np.exp(-0.5 * ((means - theta[:, None]) ** 2).sum(2) / 0.001)  # The constant cancels.
    expected = (means * (density / density.sum(1, keepdims=True))[..., None]).sum(1)
    arrays = [jnp.asarray(x, jnp.float32) for x in (theta[:, None], means, log_alpha, log_sigma)]
    np.testing.assert_allclose(
        objective.virtual_prediction(arrays[1], objective.log_density(*arrays)), expected, atol=2e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("root", network.ROOTS)
@pytest.mark.parametrize("sigma", [1e-3, 1e-6])
def test_objective_is_finite_far_from_the_truth_and_shares_what_is_shared(built, root, sigma):
    """At half a turn in every joint the densities underflow by thousands of nats."""
    states, log_alpha, _ = small_mdn.mixture(built)
    if root == "mixture":  # Some of them nearly half a turn to the other side.
        other_side = rotations.matrix_to_rot6d(rotations.axis_angle_to_matrix(jnp.array([-3.0, 0.0, 0.0])))
        states = states.at[:, ::2, :6].set(other_side)
    turn = jnp.asarray(Rotation.from_rotvec([3.1, 0, 0]).as_matrix(), jnp.float32)
    rotmats = jnp.broadcast_to(turn, (B, 24, 3, 3)).at[2].set(jnp.nan)
    target = batches.batch(rotmats=rotmats, smpl_valid=jnp.array([1.0, 1.0, 0.0])).target
    log_sigma = jnp.full((B, M), network.log_std(sigma, "variance"))

    def loss(states):
        virtual, nll = objective.objective(states, log_alpha, log_sigma, target, root)
        return jnp.sum(nll) + jnp.sum(virtual**2), (virtual, nll)

    (_, (virtual, nll)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(states)
    assert np.isfinite(np.asarray(gradient)).all() and np.isfinite(np.asarray(virtual)).all()
    assert (np.asarray(nll[:2]) > 1e4).all() and nll[2] == 0
    size = 69 if root == "shared" else 72
    theta = np.tile([3.1, 0, 0], (B, M, size // 3))
    means = small_mdn.log_rotations(states, 1 if root == "shared" else 0)
    if root == "mixture":  # The root turns the shorter way.
        other = theta[..., :3] - [2 * np.pi, 0, 0]
        nearer = np.linalg.norm(other - means[..., :3], axis=2) < np.linalg.norm(
            theta[..., :3] - means[..., :3], axis=2
        )
        assert 0 < nearer.sum() < nearer.size
        theta[..., :3] = np.where(nearer[..., None], other, theta[..., :3])
    expected = [
        -np.asarray(
            scipy.special.logsumexp(
                np.asarray(log_alpha[b], np.float64)
                - 0.5 * size * np.log(2 * np.pi * sigma)
                - 0.5 * ((np.asarray(means[b], np.float64) - theta[b]) ** 2).sum(1) / sigma
            )
        )
        for b in range(2)
    ]
    np.testing.assert_allclose(nll[:2], expected, rtol=1e-4)
    np.testing.assert_allclose(virtual[:, 0, 144:], states[:, 0, 144:], atol=1e-6)
    if root == "shared":
        np.testing.assert_allclose(virtual[:, 0, :6], states[:, 0, :6], atol=1e-6)


@pytest.mark.slow
def test_two_global_rotations_on_both_sides_of_half_a_turn_are_near():
    theta, mean = jnp.array([[3.1, 0.0, 0.0]]), jnp.array([[-3.1, 0.1, 0.0]])
    np.testing.assert_allclose(objective.nearest_branch(theta, mean), [[3.1 - 2 * np.pi, 0, 0]], atol=1e-5)
    np.testing.assert_allclose(objective.nearest_branch(theta, -mean), theta)
    assert np.isfinite(jax.jacobian(objective.nearest_branch)(jnp.zeros((1, 3)), mean)).all()


@pytest.mark.slow
def test_without_a_truth_the_virtual_prediction_takes_the_mixtures_weights(built):
    states, log_alpha, log_sigma = small_mdn.mixture(built)
    target = batches.batch(rotmats=jnp.full((B, 24, 3, 3), jnp.nan)).target
    virtual, nll = objective.objective(states, log_alpha, log_sigma, target, "shared")
    means = np.asarray(small_mdn.log_rotations(states, 1))
    expected = np.einsum("bm,bmd->bd", np.exp(np.asarray(log_alpha)), means)
    np.testing.assert_allclose(network.log_rotations_of(virtual[:, 0], 1), expected, atol=1e-4)
    assert not np.any(nll)


@pytest.mark.slow
@pytest.mark.parametrize("valid", [0.0, 1.0])
def test_the_virtual_root_lies_among_roots_on_both_sides_of_half_a_turn(valid):
    """Their axis-angles have opposite signs there: a mean of them as they are would turn to nowhere."""
    around = np.linspace(-0.15, 0.15, 6)
    matrices = Rotation.from_rotvec(np.stack([np.pi + around, 0 * around, 0 * around], 1)).as_matrix()
    six = jax.jit(rotations.matrix_to_rot6d)(jnp.asarray(matrices, jnp.float32))
    states = jnp.zeros((1, 6, 157)).at[..., :144].set(jnp.tile(jnp.array([1.0, 0, 0, 1, 0, 0]), 24))
    states = states.at[0, :, :6].set(six)
    true = np.tile(np.eye(3), (1, 24, 1, 1))
    true[0, 0] = Rotation.from_rotvec([np.pi - 0.02, 0, 0]).as_matrix()
    target = batches.batch(rotmats=jnp.asarray(true, jnp.float32), smpl_valid=jnp.array([valid])).target
    sigma = jnp.full((1, 6), jnp.log(1.0))  # Wide: the posterior weighs all.
    run = jax.jit(objective.objective, static_argnums=4)
    virtual, _ = run(states, jnp.full((1, 6), -jnp.log(6.0)), sigma, target, "mixture")
    root = np.asarray(jax.jit(rotations.rot6d_to_matrix)(virtual[0, 0, :6]), np.float64)
    off = (Rotation.from_matrix(root) * Rotation.from_rotvec([-np.pi, 0, 0])).magnitude()
    assert np.rad2deg(off) < 3
