"""What is chosen among measured bodies, against plain loops over examples and sizes."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.evaluation import choices, metrics, protocols

_B, _M = 3, 7


@pytest.fixture(scope="module")
def errors():
    rng = np.random.default_rng(0)
    return {name: jnp.float32(rng.uniform(10, 90, (_B, _M))) for name in (*choices.CURVES, "squared24")}


@pytest.mark.parametrize("name", ["strict", "released"])
def test_curves_are_the_errors_of_each_set_on_its_own(errors, name):
    protocol = protocols.get(name)
    order = np.random.default_rng(1).permuted(np.tile(np.arange(_M), (_B, 1)), axis=1)
    medoids = np.full((_B, _M, _M), -1)
    for n in range(1, _M + 1):
        medoids[:, n - 1, :n] = order[:, ::-1][:, :n]
    growing = choices.growing(errors, jnp.array(order), protocol)
    every = choices.of_every(errors, jnp.array(medoids), protocol)
    for n in range(1, _M + 1):
        for found, index in ((growing, order[:, :n]), (every, medoids[:, n - 1, :n])):
            some = {k: jnp.take_along_axis(e, jnp.array(index), axis=1) for k, e in errors.items()}
            own = {k: some[k] for k in choices.CURVES}
            expected = metrics.reduce_set(own, protocol.selection, some["squared24"])
            for metric in choices.CURVES:
                np.testing.assert_array_equal(found[metric][:, n - 1], expected[metric], err_msg=f"{n} {metric}")


def test_single_bodies(errors):
    weights = np.random.default_rng(2).dirichlet(np.ones(_M), _B).astype(np.float32)
    weights[0] = 1 / _M
    found = choices.single(errors, jnp.array(weights))
    assert tuple(found) == choices.SINGLE
    for metric, error in errors.items():
        error = np.float64(error)
        likeliest = [0, *weights[1:].argmax(axis=1)]  # The first of equal ones.
        np.testing.assert_allclose(found["first"][metric], error[:, 0])
        np.testing.assert_allclose(found["most probable"][metric], error[np.arange(_B), likeliest])
        np.testing.assert_allclose(found["expected"][metric], (weights * error).sum(axis=1), rtol=1e-5)
        np.testing.assert_allclose(found["random"][metric], error.mean(axis=1), rtol=1e-5)


def test_centroids_are_the_weighted_means_of_members_also_where_weights_vanish():
    rng = np.random.default_rng(3)
    joints, log_weights = rng.normal(size=(_B, _M, 4, 3)), rng.normal(size=(_B, _M)) * 3
    log_weights[1, 4:] = -np.inf
    log_weights[2, 4:] -= 5000  # Below what exp can hold.
    assignment = np.tile([0, 1, 0, 1, 2, 2, 2], (_B, 1))
    found = choices.centroid_joints(jnp.float32(joints), jnp.float32(log_weights), jnp.array(assignment), 3)
    for b in range(_B):
        for k in range(3):
            own = assignment[b] == k
            log_w = np.zeros(own.sum()) if np.isinf(log_weights[b][own]).all() else np.float32(log_weights)[b][own]
            w = np.exp(np.float64(log_w) - log_w.max())
            expected = np.einsum("m,mja->ja", w / w.sum(), joints[b, own])
            np.testing.assert_allclose(found[b, k], expected, atol=2e-3 if b == 2 and k == 2 else 1e-5)
