"""The weights of eq (2) against the formula in float64, where they under- and overflow, and their floors."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.hypotheses import weights


def powers(log_prior, temperature):
    """p^T / sum p^T in float64, of priors that it can hold."""
    p = np.exp(np.float64(log_prior)) ** temperature
    return p / p.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_weights_are_the_powers_of_the_density_normalised(temperature):
    log_prior = np.float32(np.random.default_rng(0).normal(size=(2, 3, 7)) * 5)
    found = weights.posterior_weights(jnp.array(log_prior), temperature)
    np.testing.assert_allclose(found, powers(log_prior, temperature), rtol=1e-5)
    logs = weights.log_normalized(weights.tempered(jnp.array(log_prior), temperature))
    np.testing.assert_allclose(logs, np.log(powers(log_prior, temperature)), rtol=1e-5, atol=1e-5)


def test_a_temperature_of_1_is_the_default_and_several_broadcast():
    log_prior = jnp.array([[0.0, 1.0, 3.0], [5.0, 0.0, 0.0]])
    np.testing.assert_array_equal(weights.posterior_weights(log_prior), weights.posterior_weights(log_prior, 1.0))
    several = weights.posterior_weights(log_prior[:, None], jnp.array([0.0, 0.5])[None, :, None])
    assert several.shape == (2, 2, 3)
    np.testing.assert_allclose(several[:, 0], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(several[:, 1], powers(log_prior, 0.5), rtol=1e-5)


def test_weights_that_exp_cannot_hold_and_excluded_ones():
    log_prior = jnp.array([[-1000.0, -1001.0, -jnp.inf], [3000.0, 2000.0, 2999.0]])
    expected = np.exp([[0, -1, -np.inf], [0, -1000, -1]])
    np.testing.assert_allclose(
        weights.posterior_weights(log_prior), expected / expected.sum(axis=1, keepdims=True), rtol=1e-6
    )
    logs = np.asarray(weights.log_normalized(log_prior))
    assert logs[0, 2] == -np.inf and logs[1, 1] == pytest.approx(-1000 - np.log(1 + 1 / np.e), rel=1e-6)


def test_floors_hold_excluded_hypotheses_and_keep_the_order_of_the_others():
    log_weights = jnp.array([[0.0, -900.0, -901.0, -2e5, -jnp.inf]])
    log_w, excluded = weights.floored(log_weights)
    np.testing.assert_array_equal(excluded, [[False, False, False, False, True]])
    np.testing.assert_allclose(log_w, [[0, -900, -901, weights.FLOOR, weights.FLOOR]])
    shifted = weights.floored_below_peak(log_weights + 500)
    np.testing.assert_allclose(shifted, [[0, -900, -901, weights.FLOOR, weights.FLOOR]])


def test_effective_number_counts_equal_weights_and_falls_to_1():
    log_prior = jnp.array([[0.0, 0.0, -1e4, -1e4], [0.0, 0.0, 0.0, 0.0], [0.0, -1e4, -2e4, -3e4]])
    np.testing.assert_allclose(weights.effective_number(log_prior), [2, 4, 1], rtol=1e-6)
    np.testing.assert_allclose(weights.effective_number(log_prior, 0.0), 4, rtol=1e-6)
    log_prior = np.float32(np.random.default_rng(1).normal(size=(3, 9)))
    expected = 1 / (powers(log_prior, 2.0) ** 2).sum(axis=1)
    np.testing.assert_allclose(weights.effective_number(jnp.array(log_prior), 2.0), expected, rtol=1e-5)


def test_masses_of_clusters_are_sums_of_one_kind_of_weights_or_of_several():
    weight = np.random.default_rng(2).random((2, 3, 7), np.float32)
    assignment = np.array([[0, 1, 1, 3, 0, 0, 3], [2, 2, 2, 2, 2, 1, 0]])
    expected = np.zeros((2, 3, 4))
    for b, k, m in np.ndindex(weight.shape):
        expected[b, k, assignment[b, m]] += weight[b, k, m]
    found = weights.of_clusters(jnp.array(weight), jnp.array(assignment), 4)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(
        weights.of_clusters(jnp.array(weight[:, 1]), jnp.array(assignment), 4), expected[:, 1], rtol=1e-6
    )
