"""A gradient in parts is that of the whole batch; what is carried passes from part to part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.training import accumulation

X = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)


def loss_fn(params, carried, batch, key):
    """The mean square of x times the parameters, and of a draw; counts its calls."""
    loss = jnp.mean(jnp.square(batch["x"] @ params)) + jax.random.uniform(key)
    return loss, (carried + 1, {"size": jnp.asarray(len(batch["x"]), jnp.float32), "draw": jax.random.uniform(key)})


def run(parts, whole=False):
    keys = jax.random.split(jax.random.key(0), parts)
    params = jnp.asarray([1.0, -2.0])
    return keys, accumulation.accumulated_gradient(loss_fn, params, jnp.zeros(()), {"x": jnp.asarray(X)}, keys, whole)


@pytest.mark.parametrize(("parts", "whole"), [(1, False), (3, False), (3, True)])
def test_loss_and_gradient_are_the_means_over_the_parts(parts, whole):
    keys, (loss, gradient, carried, metrics) = run(parts, whole)
    squared = X.astype(np.float64) @ [1.0, -2.0]
    draws = np.mean([jax.random.uniform(key) for key in keys])
    np.testing.assert_allclose(loss, np.mean(squared**2) + draws, rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 * squared @ X / len(X), rtol=1e-5)
    assert carried == parts and metrics["size"] == (6 if whole else 6 // parts)
    np.testing.assert_allclose(metrics["draw"], draws, rtol=1e-6)
