"""SMPL-MDN's components and its hypotheses against the mixture that they come from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.baselines.smpl_mdn import network
from multibodies_jax.geometry import rotations
from multibodies_jax.hypotheses.hypotheses import split_state
from tests.helpers import small_mdn
from tests.helpers.small_mdn import M


def test_sigma_is_a_variance_or_a_standard_deviation():
    np.testing.assert_allclose(np.exp(network.log_std(0.001, "variance")), np.sqrt(0.001))
    np.testing.assert_allclose(np.exp(network.log_std(0.001, "std")), 0.001)


@pytest.mark.slow
def test_components_share_shape_camera_and_root_and_differ_in_pose(built):
    states, *_ = small_mdn.mixture(built)
    pose, betas, cam = (np.asarray(part) for part in split_state(states))
    for shared in (betas, cam, pose[..., :6]):
        np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], shared.shape))
    assert np.abs(pose[:, 1:, 6:] - pose[:, :1, 6:]).max() > 0.1
    mixed = dataclasses.replace(built[0], root="mixture").apply(
        *built[1:], train=True, rngs={"dropout": jax.random.key(0)}
    )
    assert np.abs(mixed[:, 1:, :6] - mixed[:, :1, :6]).max() > 0.1


@pytest.mark.slow
def test_the_means_come_in_an_order_drawn_by_their_weights(built):
    model, variables, inputs = built
    many = 4000
    states, log_alpha, _ = small_mdn.mixture(built)
    inputs = jax.tree.map(lambda v: jnp.repeat(v[:1], many, axis=0), inputs)
    inputs = inputs.replace(example_hash=jnp.arange(many, dtype=jnp.uint32))
    drawn = np.asarray(small_mdn.answer(model, variables, inputs))
    place = np.abs(drawn[:, :, None] - np.asarray(states[0])[None, None]).sum(3).argmin(2)
    assert (np.sort(place, axis=1) == np.arange(M)).all()  # Each of them once.
    share = np.bincount(place[:, 0], minlength=M) / many
    np.testing.assert_allclose(share, np.exp(np.asarray(log_alpha[0])), atol=0.03)
    alone = small_mdn.answer(model, variables, jax.tree.map(lambda v: v[5:6], inputs))
    np.testing.assert_allclose(alone[0], drawn[5], atol=1e-5)  # Nothing depends on the rest of the batch.


@pytest.mark.slow
def test_samples_have_the_mixtures_weights_means_and_deviation(built):
    model, variables, inputs = built
    many = 2000
    inputs = jax.tree.map(lambda v: jnp.repeat(v[:1], many, axis=0), inputs)
    inputs = inputs.replace(example_hash=jnp.arange(many, dtype=jnp.uint32))
    # Small rotations and deviations: log-rotations are unique only within half a turn.
    params = dict(variables["params"])
    params["sigma_change"] = jax.tree.map(jnp.zeros_like, params["sigma_change"])
    params["head"] = jax.tree.map(lambda x: 0.2 * x, params["head"])
    states, extras = small_mdn.train(model, {"params": params}, inputs)
    means = np.asarray(small_mdn.log_rotations(states[0], 1), np.float64)
    alpha = np.exp(np.asarray(extras["extras"]["log_alpha"][0][0]))
    drawn = small_mdn.answer(dataclasses.replace(model, draw="samples"), {"params": params}, inputs)
    theta = np.asarray(small_mdn.log_rotations(drawn, 1), np.float64).reshape(-1, 69)
    nearest = np.square(theta[:, None] - means[None]).sum(2).argmin(1)
    np.testing.assert_allclose(np.bincount(nearest, minlength=M) / len(theta), alpha, atol=0.03)
    np.testing.assert_allclose((theta - means[nearest]).mean(0), 0, atol=0.002)
    np.testing.assert_allclose((theta - means[nearest]).std(0), np.sqrt(0.001), rtol=0.05)


@pytest.mark.slow
def test_log_rotations_round_trip():
    rotvecs = np.random.default_rng(3).normal(scale=0.8, size=(2, 24, 3)).astype(np.float32)
    six = rotations.matrix_to_rot6d(rotations.axis_angle_to_matrix(jnp.asarray(rotvecs))).reshape(2, 144)
    states = jnp.concatenate([six, jnp.zeros((2, 13))], axis=1)
    for first in (0, 1):
        theta = small_mdn.log_rotations(states, first)
        np.testing.assert_allclose(theta, rotvecs[:, first:].reshape(2, -1), atol=1e-5)
        np.testing.assert_allclose(network.with_log_rotations(states, theta, first), states, atol=1e-5)
