"""The two readings that keep hypothesis 0, by their definitions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.hypotheses import quantize
from multibodies_jax.released import quantizer
from tests.helpers.random_hypotheses import keys, make_hypotheses, softmax
from tests.released import lloyd_test


@pytest.mark.slow
def test_both_are_registered_and_released_starts_once():
    assert tuple(quantize.QUANTIZERS) == ("paper", "keep_first", "released")
    h = make_hypotheses(1)
    points, log_weights = h.joints24.reshape(3, 12, 72), h.log_prior
    for reading, function in (("keep_first", quantizer.keep_first), ("released", quantizer.released)):
        selected = quantize.select(h, 5, keys(3), reading=reading, starts=3)
        direct = function(points, log_weights, 5, keys(3), starts=3)
        np.testing.assert_array_equal(selected.medoid, direct.medoid)
    once = quantizer.released(points, log_weights, 5, keys(3), starts=1)
    np.testing.assert_array_equal(once.medoid, quantizer.released(points, log_weights, 5, keys(3), starts=9).medoid)


@pytest.mark.slow
@pytest.mark.parametrize("reading", ["keep_first", "released"])
@pytest.mark.parametrize("n", [1, 5, 12])
def test_two_readings_keep_hypothesis_0(n, reading):
    h = make_hypotheses(1)
    found = quantize.select(h, n, keys(3), reading=reading, temperature=0.1)
    weights, points = softmax(0.1 * h.log_prior), np.asarray(h.joints24).reshape(3, 12, 72)
    np.testing.assert_allclose(found.prob.sum(axis=1), 1, atol=1e-5)
    for b in range(3):
        k = list(np.asarray(found.medoid[b])).index(0)
        assert (
            sorted(set(np.asarray(found.assignment[b]))) == list(range(n))
            and len(set(np.asarray(found.medoid[b]))) == n
        )
        assert found.assignment[b, 0] == k
        np.testing.assert_array_equal(found.centroid[b, k], h.joints24[b, 0])
        np.testing.assert_allclose(found.prob[b, k], 1.0 if n == 1 else weights[b, 0], rtol=1e-4)
        centroid = np.asarray(found.centroid).reshape(3, n, 72)[b][np.asarray(found.assignment[b])]
        expected = weights[b] @ ((points[b] - centroid) ** 2).sum(axis=1)
        np.testing.assert_allclose(found.energy[b], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["prior", "uniform"])
def test_released_choice_by_its_definition(weights):
    h = make_hypotheses(3, num=30)
    found = quantize.select(h, 6, keys(3), reading="released", weights=weights, temperature=1.0)
    points = np.asarray(h.joints24).reshape(3, 30, 72)[:, 1:]
    log_weights = np.asarray(h.log_prior)[:, 1:] * (weights == "prior")
    for b in range(3):
        rows = np.asarray(jax.random.choice(keys(3)[b], 29, (5,), replace=False))
        labels, centroids = lloyd_test.loop(points[b], log_weights[b], rows, 30)
        nearest = [1 + int(np.argmin(np.sum((points[b] - c) ** 2, axis=1))) for c in centroids]
        assert len(set(nearest)) == 5
        assert set(np.asarray(found.medoid[b])) == {0, *nearest}
        medoid = list(np.asarray(found.medoid[b]))
        assert [medoid[k] for k in np.asarray(found.assignment[b])] == [0, *(nearest[k] for k in labels)]
        share = softmax(np.asarray(h.log_prior[b], np.float64) * (weights == "prior"))
        expected = [share[0] if m == 0 else share[1:][labels == nearest.index(m)].sum() for m in medoid]
        np.testing.assert_allclose(found.prob[b], expected, atol=1e-5)


def test_released_keeps_all_with_n_m_and_the_first_alone_with_n_1():
    h = make_hypotheses(4)
    h = dataclasses.replace(
        h, joints24=h.joints24.at[:, 3:6].set(h.joints24[:, 2:3])
    )  # Clustering would put these together.
    every = quantize.select(h, 12, keys(3), reading="released")
    np.testing.assert_array_equal(np.sort(every.medoid), np.tile(np.arange(12), (3, 1)))
    expected = np.take_along_axis(softmax(h.log_prior), np.asarray(every.medoid), axis=1)
    np.testing.assert_allclose(every.prob, expected, atol=1e-6)
    np.testing.assert_array_equal(quantize.select(h, 1, keys(3), reading="released").medoid, [[0]] * 3)


@pytest.mark.slow
def test_a_run_is_reproduced_from_its_first_rows():
    rng = np.random.default_rng(0)
    points, log_w = jnp.asarray(rng.normal(size=(2, 9, 6)), jnp.float32), jnp.zeros((2, 9))
    keys = jax.random.split(jax.random.key(3), 2)
    drawn = quantize.random_subset(8, 3, keys)
    own = quantizer.released(points, log_w, 4, keys)
    same, other = (
        quantizer.released(points, log_w, 4, keys[::-1], first_rows=rows)
        for rows in (drawn, jnp.tile(jnp.arange(3), (2, 1)))
    )
    np.testing.assert_array_equal(same.medoid, own.medoid)
    np.testing.assert_allclose(same.centroid, own.centroid, atol=1e-6)
    assert not np.array_equal(other.centroid, own.centroid)
    for rows, message in ((drawn[:, :2], r"Expected first_rows \(2, 3\)"), (drawn * 0 + 8, "to 7; got one outside")):
        with pytest.raises(ValueError, match=message):
            quantizer.released(points, log_w, 4, keys, first_rows=rows)


@pytest.mark.slow
def test_first_rows_are_for_a_reading_that_starts_from_rows():
    hyps, rows = make_hypotheses(batch=2, num=9), jnp.tile(jnp.arange(3), (2, 1))
    found = quantize.select(hyps, 4, keys(2), reading="released", first_rows=rows)
    points, log_w = hyps.joints24.reshape(2, 9, 72), hyps.log_prior
    np.testing.assert_array_equal(found.medoid, quantizer.released(points, log_w, 4, keys(2), first_rows=rows).medoid)
    with pytest.raises(ValueError, match="reading 'paper' takes no first_rows"):
        quantize.select(hyps, 4, keys(2), first_rows=rows)
