"""The rows of one evaluation under other readings and weights than the paper's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.evaluation import judge, protocols, set_errors
from multibodies_jax.hypotheses import hypotheses

B, M, N = 3, 6, 2


@pytest.fixture(scope="module")
def hyps():
    rng = np.random.default_rng(0)
    return hypotheses.Hypotheses(
        rotmats=jnp.tile(jnp.eye(3), (B, M, 24, 1, 1)),
        betas=jnp.zeros((B, M, 10)),
        cam=jnp.ones((B, M, 3)),
        joints24=jnp.asarray(rng.normal(size=(B, M, 24, 3)), jnp.float32),
        midhip=jnp.zeros((B, M, 3)),
        log_prior=jnp.asarray(10 * rng.normal(size=(B, M)), jnp.float32),
    )


def _settings(**fields):
    usual = {"reading": "paper", "weights": "prior", "starts": 2, "iterations": 5, "temperature": 0.5, "noise": {}}
    return judge.Settings(ns=(N,), protocol=protocols.get("strict"), **usual | fields)


def _quantizer(hyps, settings):
    return judge.Quantizer(hyps, jax.random.split(jax.random.key(0), B), settings)


def test_rows_of_other_weights_have_the_reading_of_the_main_row(hyps):
    """Else the difference to them, which table 2 tells, would be that of two readings."""
    batch = {"example_hash": jnp.arange(B, dtype=jnp.uint32)}
    settings = _settings(reading="keep_first")
    chosen = judge._choices(_quantizer(hyps, settings), batch, settings)
    for name in (judge.OURS, judge.UNIFORM, judge.PRINTED, judge.KEPT):
        assert (np.asarray(chosen[name][N]) == 0).any(axis=1).all(), name


def test_probabilities_are_those_of_the_quantizers_weights(hyps):
    joints24 = hyps.joints24[:, 0]
    truth = set_errors.Truth(joints24, {}, joints24, jnp.ones((B, 24)), None)
    log_prior = np.asarray(hyps.log_prior, np.float64)
    for weights, factor in (("prior", 0.5), ("uniform", 0.0)):
        settings = _settings(weights=weights)
        found = _quantizer(hyps, settings)(N)
        prob = judge.calibrations(hyps, {"2": found}, truth, settings)["2"].prob[:, 0]
        w = np.exp(factor * (log_prior - log_prior.max(1, keepdims=True)))
        expected = np.stack([(w * (np.asarray(found.assignment) == k)).sum(1) for k in range(N)], 1)
        np.testing.assert_allclose(prob, expected / w.sum(1, keepdims=True), rtol=1e-4)
