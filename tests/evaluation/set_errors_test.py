"""Errors of sets, curves and single bodies among the measured, against plain loops over examples and sizes."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.evaluation import metrics, protocols, set_errors

_B, _M = 3, 7


@pytest.fixture(scope="module")
def errors():
    rng = np.random.default_rng(0)
    return {name: jnp.float32(rng.uniform(10, 90, (_B, _M))) for name in (*metrics.REPORTED, "squared24")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["strict", "released"])
def test_curves_are_the_errors_of_each_set_on_its_own(errors, name):
    protocol = protocols.PROTOCOLS[name]
    order = np.random.default_rng(1).permuted(np.tile(np.arange(_M), (_B, 1)), axis=1)
    growing = set_errors.growing(errors, jnp.array(order), protocol)
    for n in range(1, _M + 1):
        some = {k: jnp.take_along_axis(e, jnp.array(order[:, :n]), axis=1) for k, e in errors.items()}
        own = {k: some[k] for k in metrics.REPORTED}
        expected = metrics.reduce_set(own, protocol.selection, some["squared24"])
        for metric in metrics.REPORTED:
            np.testing.assert_array_equal(growing[metric][:, n - 1], expected[metric], err_msg=f"{n} {metric}")


@pytest.mark.parametrize("name", ["strict", "h36m_p2"])
def test_sets_have_the_metrics_of_the_protocol_in_its_order(errors, name):
    protocol = protocols.PROTOCOLS[name]
    measured = errors | {f"{metric}_strict": errors[metric] + 1 for metric in metrics.REPORTED}
    index = jnp.array([[4, 2], [0, 1], [6, 6]])
    found = set_errors.of_sets(set_errors.members(measured, index), protocol)
    suffixes = ("", "_strict") if protocol.strict else ("",)
    assert list(found) == [metric + suffix for suffix in suffixes for metric in metrics.REPORTED]
    for b in range(_B):
        some = {metric: np.asarray(error)[b, index[b]] for metric, error in measured.items()}
        best = some["squared24"].argmin()
        for metric in metrics.REPORTED:
            least = some[metric].min()
            assert found[metric][b] == (least if protocol.selection == protocols.MINIMUM else some[metric][best])
            if protocol.strict:
                assert found[f"{metric}_strict"][b] == least + 1


def test_single_bodies(errors):
    weights = np.random.default_rng(2).dirichlet(np.ones(_M), _B).astype(np.float32)
    weights[0] = 1 / _M
    found = set_errors.single(errors, jnp.log(jnp.array(weights)) + 7)  # Not normalised.
    assert set(found) == set(set_errors.SINGLE)
    for metric in metrics.REPORTED:
        error = errors[metric]
        assert "squared24" not in found["first"]
        error = np.asarray(error, np.float64)
        likeliest = [0, *weights[1:].argmax(axis=1)]  # The first of equal ones.
        np.testing.assert_allclose(found["first"][metric], error[:, 0])
        np.testing.assert_allclose(found["most probable"][metric], error[np.arange(_B), likeliest])
        np.testing.assert_allclose(found["expected"][metric], (weights * error).sum(axis=1), rtol=1e-5)
        np.testing.assert_allclose(found["random"][metric], error.mean(axis=1), rtol=1e-5)


@pytest.mark.slow
def test_centroids_are_the_weighted_means_of_members_also_where_weights_vanish():
    rng = np.random.default_rng(3)
    joints, log_weights = rng.normal(size=(_B, _M, 4, 3)), rng.normal(size=(_B, _M)) * 3
    log_weights[1, 4:] = -np.inf
    log_weights[2, 4:] -= 5000  # Below what exp can hold.
    assignment = np.tile([0, 1, 0, 1, 2, 2, 2], (_B, 1))
    found = set_errors.centroid_joints(jnp.float32(joints), jnp.float32(log_weights), jnp.array(assignment), 3)
    for b in range(_B):
        for k in range(3):
            own = assignment[b] == k
            log_w = (
                np.zeros(own.sum()) if np.isinf(log_weights[b][own]).all() else log_weights[b][own].astype(np.float32)
            )
            w = np.exp(np.float64(log_w) - log_w.max())
            expected = np.einsum("m,mja->ja", w / w.sum(), joints[b, own])
            np.testing.assert_allclose(found[b, k], expected, atol=2e-3 if b == 2 and k == 2 else 1e-5)


@pytest.mark.parametrize("name", ["strict", "released"])
def test_a_curve_is_nan_from_the_first_body_that_is_not_finite(errors, name):
    damaged = {metric: error.at[0, 4].set(jnp.nan) for metric, error in errors.items()}
    order = jnp.tile(jnp.arange(_M)[None], (_B, 1))
    for values in set_errors.growing(damaged, order, protocols.PROTOCOLS[name]).values():
        np.testing.assert_array_equal(np.isnan(values), (np.arange(_M) >= 4)[None] & (np.arange(_B) == 0)[:, None])


def test_no_body_is_the_most_probable_where_a_weight_is_not_known(errors):
    found = set_errors.single(errors, jnp.zeros((_B, _M)).at[1, 3].set(jnp.nan))
    np.testing.assert_array_equal(np.isnan(found["most probable"]["mpjpe"]), np.arange(_B) == 1)
    np.testing.assert_array_equal(np.isnan(found["expected"]["mpjpe"]), np.arange(_B) == 1)
