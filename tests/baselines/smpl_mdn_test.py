"""SMPL-MDN against SciPy's normal distributions, eq 9 by hand, and its hypotheses against the mixture they come from."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from scipy.spatial.transform import Rotation

from multibodies_jax.baselines.smpl_mdn import network as mdn
from multibodies_jax.baselines.smpl_mdn import objective
from multibodies_jax.geometry import rotations
from multibodies_jax.hypotheses.hypotheses import split_state
from multibodies_jax.models.keypoint_trunk import KeypointTrunk
from multibodies_jax.training import config_checks
from tests.helpers import tiny

B, M = 3, 5
MEAN = tuple(np.concatenate([np.tile([1.0, 0, 0, 1, 0, 0], 24), np.zeros(10), [0.9, 0, 0]]).tolist())


@pytest.fixture(scope="module")
def network():
    batch = {
        "kp2d": jnp.asarray(np.random.default_rng(0).normal(size=(B, 24, 2)), jnp.float32),
        "kp2d_input": jnp.ones((B, 24)),
        "example_hash": jnp.array([7, 8, 9], jnp.uint32),
    }
    model = mdn.MDN(
        trunk=KeypointTrunk(width=16, blocks=1),
        mean_state=MEAN,
        num_hypotheses=M,
        hidden=8,
        init_noise=1.0,
        learn_alpha=True,
        learn_sigma=True,
    )
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    # Weights and deviations that differ, else order and samples show nothing.
    params = dict(variables["params"])
    params["alpha"] = params["alpha"] | {"bias": jnp.linspace(0.0, 3.0, M)}
    params["sigma_change"] = params["sigma_change"] | {"bias": jnp.linspace(-2.0, 2.0, M)}
    return model, {"params": params}, batch


@functools.partial(jax.jit, static_argnums=0)
def _train(model, variables, batch):
    return model.apply(variables, batch, train=True, rngs={"dropout": jax.random.key(0)}, mutable=["extras"])


@functools.partial(jax.jit, static_argnums=0)
def _answer(model, variables, batch):
    return model.apply(variables, batch)


LOG_ROTATIONS = jax.jit(mdn.log_rotations_of, static_argnums=1)


def _mixture(network):
    model, variables, batch = network
    states, extras = _train(model, variables, batch)
    return states, extras["extras"]["log_alpha"][0], extras["extras"]["log_sigma"][0]


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
    log_sigma = np.full((B, M), mdn.log_std(0.001, "variance"))
    density = np.exp(log_alpha) * np.exp(-0.5 * ((means - theta[:, None]) ** 2).sum(2) / 0.001)  # The constant cancels.
    expected = (means * (density / density.sum(1, keepdims=True))[..., None]).sum(1)
    arrays = [jnp.asarray(x, jnp.float32) for x in (theta[:, None], means, log_alpha, log_sigma)]
    np.testing.assert_allclose(
        objective.virtual_prediction(arrays[1], objective.log_density(*arrays)), expected, atol=2e-5
    )


def test_sigma_is_a_variance_or_a_standard_deviation():
    np.testing.assert_allclose(np.exp(mdn.log_std(0.001, "variance")), np.sqrt(0.001))
    np.testing.assert_allclose(np.exp(mdn.log_std(0.001, "std")), 0.001)


@pytest.mark.parametrize("root", mdn.ROOTS)
@pytest.mark.parametrize("sigma", [1e-3, 1e-6])
def test_objective_is_finite_far_from_the_truth_and_shares_what_is_shared(network, root, sigma):
    """At half a turn in every joint the densities underflow by thousands of nats."""
    states, log_alpha, _ = _mixture(network)
    if root == "mixture":  # Some of them nearly half a turn to the other side.
        other_side = rotations.matrix_to_rot6d(rotations.axis_angle_to_matrix(jnp.array([-3.0, 0.0, 0.0])))
        states = states.at[:, ::2, :6].set(other_side)
    batch = {
        "rotmats": jnp.broadcast_to(
            jnp.asarray(Rotation.from_rotvec([3.1, 0, 0]).as_matrix(), jnp.float32), (B, 24, 3, 3)
        ),
        "smpl_valid": jnp.array([1.0, 1.0, 0.0]),
    }
    batch["rotmats"] = batch["rotmats"].at[2].set(jnp.nan)
    log_sigma = jnp.full((B, M), mdn.log_std(sigma, "variance"))

    def loss(states):
        virtual, nll = objective.objective(states, log_alpha, log_sigma, batch, root)
        return jnp.sum(nll) + jnp.sum(virtual**2), (virtual, nll)

    (_, (virtual, nll)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(states)
    assert np.isfinite(np.asarray(gradient)).all() and np.isfinite(np.asarray(virtual)).all()
    assert (np.asarray(nll[:2]) > 1e4).all() and nll[2] == 0
    size = 69 if root == "shared" else 72
    theta = np.tile([3.1, 0, 0], (B, M, size // 3))
    means = LOG_ROTATIONS(states, 1 if root == "shared" else 0)
    if root == "mixture":  # The root turns the shorter way.
        other = theta[..., :3] - [2 * np.pi, 0, 0]
        nearer = np.linalg.norm(other - means[..., :3], axis=2) < np.linalg.norm(
            theta[..., :3] - means[..., :3], axis=2
        )
        assert 0 < nearer.sum() < nearer.size
        theta[..., :3] = np.where(nearer[..., None], other, theta[..., :3])
    expected = [
        -scipy.special.logsumexp(
            np.asarray(log_alpha[b], np.float64)
            - 0.5 * size * np.log(2 * np.pi * sigma)
            - 0.5 * ((np.asarray(means[b], np.float64) - theta[b]) ** 2).sum(1) / sigma
        )
        for b in range(2)
    ]
    np.testing.assert_allclose(nll[:2], expected, rtol=1e-4)
    np.testing.assert_allclose(virtual[:, 0, 144:], states[:, 0, 144:], atol=1e-6)
    if root == "shared":
        np.testing.assert_allclose(virtual[:, 0, :6], states[:, 0, :6], atol=1e-6)


def test_two_global_rotations_on_both_sides_of_half_a_turn_are_near():
    theta, mean = jnp.array([[3.1, 0.0, 0.0]]), jnp.array([[-3.1, 0.1, 0.0]])
    np.testing.assert_allclose(objective.nearest_branch(theta, mean), [[3.1 - 2 * np.pi, 0, 0]], atol=1e-5)
    np.testing.assert_allclose(objective.nearest_branch(theta, -mean), theta)
    assert np.isfinite(jax.jacobian(objective.nearest_branch)(jnp.zeros((1, 3)), mean)).all()


def test_without_a_truth_the_virtual_prediction_takes_the_mixtures_weights(network):
    states, log_alpha, log_sigma = _mixture(network)
    batch = {"rotmats": jnp.full((B, 24, 3, 3), jnp.nan), "smpl_valid": jnp.zeros(B)}
    virtual, nll = objective.objective(states, log_alpha, log_sigma, batch, "shared")
    means = np.asarray(LOG_ROTATIONS(states, 1))
    expected = np.einsum("bm,bmd->bd", np.exp(np.asarray(log_alpha)), means)
    np.testing.assert_allclose(mdn.log_rotations_of(virtual[:, 0], 1), expected, atol=1e-4)
    assert not np.any(nll)


def test_components_share_shape_camera_and_root_and_differ_in_pose(network):
    states, *_ = _mixture(network)
    pose, betas, cam = (np.asarray(part) for part in split_state(states))
    for shared in (betas, cam, pose[..., :6]):
        np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], shared.shape))
    assert np.abs(pose[:, 1:, 6:] - pose[:, :1, 6:]).max() > 0.1
    mixed = dataclasses.replace(network[0], root="mixture").apply(
        *network[1:], train=True, rngs={"dropout": jax.random.key(0)}
    )
    assert np.abs(mixed[:, 1:, :6] - mixed[:, :1, :6]).max() > 0.1


def test_the_means_come_in_an_order_drawn_by_their_weights(network):
    model, variables, batch = network
    many = 4000
    states, log_alpha, _ = _mixture(network)
    batch = {k: jnp.repeat(v[:1], many, axis=0) for k, v in batch.items()}
    batch["example_hash"] = jnp.arange(many, dtype=jnp.uint32)
    drawn = np.asarray(_answer(model, variables, batch))
    place = np.abs(drawn[:, :, None] - np.asarray(states[0])[None, None]).sum(3).argmin(2)
    assert (np.sort(place, axis=1) == np.arange(M)).all()  # Each of them once.
    share = np.bincount(place[:, 0], minlength=M) / many
    np.testing.assert_allclose(share, np.exp(np.asarray(log_alpha[0])), atol=0.03)
    alone = _answer(model, variables, {k: v[5:6] for k, v in batch.items()})
    np.testing.assert_allclose(alone[0], drawn[5], atol=1e-5)  # Nothing depends on the rest of the batch.


def test_samples_have_the_mixtures_weights_means_and_deviation(network):
    model, variables, batch = network
    many = 2000
    batch = {k: jnp.repeat(v[:1], many, axis=0) for k, v in batch.items()}
    batch["example_hash"] = jnp.arange(many, dtype=jnp.uint32)
    # Small rotations and deviations: log-rotations are unique only within half a turn.
    params = dict(variables["params"])
    params["sigma_change"] = jax.tree.map(jnp.zeros_like, params["sigma_change"])
    params["head"] = jax.tree.map(lambda x: 0.2 * x, params["head"])
    states, extras = _train(model, {"params": params}, batch)
    means = np.asarray(LOG_ROTATIONS(states[0], 1), np.float64)
    alpha = np.exp(np.asarray(extras["extras"]["log_alpha"][0][0]))
    drawn = _answer(dataclasses.replace(model, draw="samples"), {"params": params}, batch)
    theta = np.asarray(LOG_ROTATIONS(drawn, 1), np.float64).reshape(-1, 69)
    nearest = np.square(theta[:, None] - means[None]).sum(2).argmin(1)
    np.testing.assert_allclose(np.bincount(nearest, minlength=M) / len(theta), alpha, atol=0.03)
    np.testing.assert_allclose((theta - means[nearest]).mean(0), 0, atol=0.002)
    np.testing.assert_allclose((theta - means[nearest]).std(0), np.sqrt(0.001), rtol=0.05)


def test_log_rotations_round_trip():
    rotvecs = np.random.default_rng(3).normal(scale=0.8, size=(2, 24, 3)).astype(np.float32)
    six = rotations.matrix_to_rot6d(rotations.axis_angle_to_matrix(jnp.asarray(rotvecs))).reshape(2, 144)
    states = jnp.concatenate([six, jnp.zeros((2, 13))], axis=1)
    for first in (0, 1):
        theta = LOG_ROTATIONS(states, first)
        np.testing.assert_allclose(theta, rotvecs[:, first:].reshape(2, -1), atol=1e-5)
        np.testing.assert_allclose(mdn.with_log_rotations(states, theta, first), states, atol=1e-5)


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
    batch = {"rotmats": jnp.asarray(true, jnp.float32), "smpl_valid": jnp.array([valid])}
    sigma = jnp.full((1, 6), jnp.log(1.0))  # Wide: the posterior weighs all.
    run = jax.jit(objective.objective, static_argnums=4)
    virtual, _ = run(states, jnp.full((1, 6), -jnp.log(6.0)), sigma, batch, "mixture")
    root = np.asarray(jax.jit(rotations.rot6d_to_matrix)(virtual[0, 0, :6]), np.float64)
    off = (Rotation.from_matrix(root) * Rotation.from_rotvec([-np.pi, 0, 0])).magnitude()
    assert np.rad2deg(off) < 3


@pytest.mark.parametrize("name", ["smpl_mdn", "smpl_cvae"])
@pytest.mark.parametrize("field", ["num_hypotheses", "head"])
def test_baselines_refuse_one_hypothesis_and_the_released_head(name, field):

    config = tiny.config(model__name=name).unlock()
    config.model[field] = {"num_hypotheses": 1, "head": "released"}[field]
    config.model.trunk, config.data.sets = "resnet50", ("synthetic_bodies/clean",)
    with pytest.raises(ValueError, match=r"2 or more.*head='paper'"):
        config_checks.validate(config)
