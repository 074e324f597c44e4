"""The folded density against the flow that it was made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import flow, folded_flow

SIZE = 5
FLOW = flow.Flow(layers=3, width=8, size=SIZE)


@pytest.fixture(scope="module")
def variables():
    """Of ordinary size: at the start every coupling is the identity."""
    shapes = jax.eval_shape(FLOW.init, jax.random.key(0), jnp.zeros((1, SIZE)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: np.float32(0.5 * rng.normal(size=s.shape)), shapes["params"])
    stats = {"mean": np.float32(rng.normal(size=SIZE)), "std": np.float32(rng.uniform(0.5, 2, SIZE))}
    masks = {"couplings": rng.random((3, SIZE)) < 0.5}
    return jax.tree.map(jnp.asarray, {"params": params, "masks": masks, "stats": stats})


@pytest.fixture(scope="module", params=[1, 2])
def folded(request, variables):
    density, own = folded_flow.fold(variables, unrolled=request.param)
    return density, jax.tree.map(jnp.asarray, own)


@pytest.mark.slow
def test_log_prob_and_its_gradient_are_those_of_the_flow(variables, folded):
    density, own = folded
    X = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, SIZE)), jnp.float32)

    def both(apply, variables):
        log_prob = jax.jit(lambda X: apply(variables, X, method="log_prob"))
        return log_prob(X), jax.jit(jax.grad(lambda X: log_prob(X).sum()))(X)

    (log_prob, gradient), expected = both(density.apply, own), both(FLOW.apply, variables)
    assert log_prob.shape == (2, 3)
    np.testing.assert_allclose(log_prob, expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-4 * np.abs(expected[1]).max())


@pytest.mark.slow
def test_samples_are_those_of_the_flow(variables, folded):
    density, own = folded
    expected, found = (
        np.asarray(flow.apply(its, jax.random.key(2), 7, method="sample"))
        for flow, its in ((FLOW, variables), (density, own))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_x_of_another_size_is_refused(folded):
    density, own = folded
    with pytest.raises(ValueError, match=r"over 5 coordinates, got an X of shape \(2, 3\)"):
        density.apply(own, jnp.zeros((2, 3)), method="log_prob")
