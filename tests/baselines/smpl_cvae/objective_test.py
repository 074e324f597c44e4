"""The divergence against its integral, its gradients, and the growth of its weight."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from multibodies_jax.baselines.smpl_cvae import objective
from tests.helpers import small_cvae
from tests.helpers.small_cvae import TRAINING, Z


def test_divergence_equals_the_integral():
    mean = np.array([[-2.0, 0.0, 0.3], [1.5, 0.7, 0.0]], np.float32)
    log_var = np.array([[-4.0, 0.0, 1.2], [0.5, -1.0, 2e-3]], np.float32)

    def integral(m, v):
        q: Any = scipy.stats.norm(m, math.exp(v / 2))  # SciPy's stubs take it for a discrete one.
        p: Any = scipy.stats.norm()
        end = 12 * math.exp(v / 2)
        return scipy.integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), m - end, m + end, points=[m])[0]

    expected = np.vectorize(integral)(mean.astype(np.float64), log_var.astype(np.float64))
    np.testing.assert_allclose(
        objective.kl_divergence(jnp.asarray(mean), jnp.asarray(log_var)), expected, rtol=1e-3, atol=0
    )


def test_gradients_are_finite_and_alive_however_wild_the_encoder(trained):
    """A unit that is far out must still be drawn back."""

    @jax.jit
    @jax.value_and_grad
    def loss(encoder):
        variables = {"params": trained["params"] | {"encoder": encoder}}
        encoded: Any = small_cvae.build().apply(variables, TRAINING.mesh, method="encode")
        mean, log_var = encoded
        return jnp.sum(objective.kl_divergence(mean, log_var)) + jnp.sum(jnp.sin(mean + jnp.exp(log_var / 2)))

    encoder = trained["params"]["encoder"]
    for scale in (0.0, 1e6):
        bias = jnp.concatenate([jnp.zeros(Z), jnp.asarray([-30.0, 30.0, 0.0])])
        value, gradient = loss(encoder | {"out": {"kernel": scale * encoder["out"]["kernel"], "bias": bias}})
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        if scale == 0.0:
            assert gradient["out"]["bias"][Z] < 0 < gradient["out"]["bias"][Z + 1]


@pytest.mark.parametrize(("steps", "expected"), [(4, [0.0, 0.5, 1.5, 2.0, 2.0]), (0, [2.0] * 5)])
def test_the_weight_grows_linearly_and_stays(steps, expected):
    weight = jax.jit(lambda step: objective.annealed(step, 2.0, steps))
    np.testing.assert_allclose([weight(step) for step in (0, 1, 3, 4, 90)], expected, rtol=1e-6)
