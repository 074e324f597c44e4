"""The head with fewer products against the textbook loop: parameters, states, masks of dropout, gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import hmr, hmr_preactivated

RNG = np.random.default_rng(0)
MEAN = tuple(RNG.normal(size=157).tolist())
FEATURES, HIDDEN = 6, 8


def both(M, **fields):
    every: dict[str, Any] = {"activation": "relu"} | fields
    settings = hmr.HeadSettings(MEAN, M, hidden=HIDDEN, **every)
    return [kind(settings) for kind in (hmr.IterativeHead, hmr_preactivated.PreactivatedHead)]


@pytest.mark.parametrize("M", [1, 3])
def test_parameters_are_named_shaped_and_drawn_alike(M):
    feature = jnp.zeros((2, FEATURES))
    textbook, fast = (jax.jit(head.init)(jax.random.key(3), feature) for head in both(M))
    assert jax.tree.structure(textbook) == jax.tree.structure(fast)
    for a, b in zip(jax.tree.leaves(textbook), jax.tree.leaves(fast), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])  # Below and above a quarter of the hidden width: both orders of products.
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("M", [1, 3])
def test_states_and_gradients_are_those_of_the_textbook_loop_with_the_same_dropout(batch, activation, M):
    feature = jnp.asarray(RNG.normal(size=(batch, FEATURES)), jnp.float32)
    heads = both(M, activation=activation)
    shapes = jax.eval_shape(heads[0].init, jax.random.key(0), feature)
    variables = jax.tree.map(lambda s: jnp.asarray(0.1 * RNG.normal(size=s.shape), jnp.float32), shapes)
    weight = jnp.sin(jnp.arange(M * 157.0)).reshape(1, M, 157)
    found = []
    for head in heads:

        def value(variables, feature, head=head):
            states = jnp.asarray(head.apply(variables, feature, True, rngs={"dropout": jax.random.key(5)}))
            return jnp.sum(states * weight), states

        gradients, states = jax.jit(jax.grad(value, argnums=(0, 1), has_aux=True))(variables, feature)
        found.append(jax.tree.leaves((gradients, states, jax.jit(head.apply)(variables, feature))))
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
