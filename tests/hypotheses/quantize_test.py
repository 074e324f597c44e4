"""The quantizer against exhaustive search, scikit-learn and its own definition; ties, extremes and bad input."""

import dataclasses
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import quantizer
from multibodies_jax.hypotheses import quantize
from tests.helpers.random_hypotheses import keys, make_hypotheses, poses, softmax

KMeans: Any = sklearn.cluster.KMeans  # Not annotated: the type checker takes the types of its defaults.


def check(points, log_weights, n, found):
    """Everything that must hold of any result."""
    batch, num, _ = points.shape
    weights, points = softmax(log_weights), np.array(points, np.float64)
    medoid, assignment, prob, centroid = (
        np.asarray(x) for x in (found.medoid, found.assignment, found.prob, found.centroid)
    )
    assert np.isfinite(centroid).all() and np.isfinite(found.energy).all()
    assert medoid.shape == (batch, n) and assignment.shape == (batch, num)
    np.testing.assert_allclose(prob.sum(axis=1), 1, atol=1e-5)
    assert (np.diff(prob, axis=1) <= 2e-5).all()
    for b in range(batch):
        assert sorted(set(assignment[b])) == list(range(n))
        assert len(set(medoid[b])) == n
        for k in range(n):
            members = np.flatnonzero(assignment[b] == k)
            mass = weights[b, members].sum()
            np.testing.assert_allclose(prob[b, k], mass, atol=1e-5)
            if mass > 1e-6:
                mean = weights[b, members] @ points[b, members] / mass
                np.testing.assert_allclose(centroid[b, k], mean, atol=1e-4 * (1 + np.abs(points[b]).max()))
            distance = ((points[b, members] - centroid[b, k]) ** 2).sum(axis=1)
            assert medoid[b, k] in members
            if np.isfinite(log_weights[b]).all():
                assert distance[members == medoid[b, k]][0] <= distance.min() + 1e-4 * (1 + distance.max())
        squared = ((points[b][:, None] - centroid[b][None]) ** 2).sum(axis=2)
        own = squared[np.arange(num), assignment[b]]
        np.testing.assert_allclose(found.energy[b], weights[b] @ own, rtol=1e-3, atol=1e-6 * (1 + squared.max()))
    return squared, own


@pytest.mark.slow
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), n=st.sampled_from([1, 2, 5, 12]), spread=st.sampled_from([0.0, 1.0, 30.0, 1e4]))
def test_what_always_holds(seed, n, spread):
    rng = np.random.default_rng(seed)
    points, log_weights = poses(seed, 3, 12, 6), (spread * rng.normal(size=(3, 12))).astype(np.float32)
    found = quantize.quantize(jnp.array(points), jnp.array(log_weights), n, keys(3, seed))
    check(points, log_weights, n, found)
    if n == 12:
        np.testing.assert_array_equal(np.sort(found.medoid), np.tile(np.arange(12), (3, 1)))
        np.testing.assert_allclose(
            found.prob, np.take_along_axis(softmax(log_weights), np.asarray(found.medoid), 1), atol=1e-6
        )
        np.testing.assert_allclose(found.energy, 0, atol=1e-6)
    if n == 1:
        mean = np.einsum("bm,bmd->bd", softmax(log_weights), points)
        np.testing.assert_allclose(found.centroid[:, 0], mean, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_finds_the_best_partition_of_five_points(n, size):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1000, 5, size)).astype(np.float32)
    log_weights = np.log(rng.uniform(0.01, 0.3, (1000, 5))).astype(np.float32)
    found = quantize.quantize(jnp.array(points), jnp.array(log_weights), n, keys(1000))
    ratio = np.asarray(found.energy) / quantizer.least_energies(points, softmax(log_weights), n)
    # No step proves an optimum; Lloyd's and single moves alone miss 3 to 10 of a thousand where n is 3 or 4.
    assert ratio.min() > 1 - 1e-2 and np.sum(ratio > 1.01) <= 2


@pytest.mark.slow
def test_two_clusters_merge_where_no_single_move_and_no_step_of_lloyd_finds_the_optimum():
    points = np.array([5, 7, 1, 5, 2], np.float32)[None, :, None]
    log_weights = np.log(np.array([0.02, 0.03, 0.13, 0.25, 0.13], np.float32))[None]
    found = quantize.quantize(jnp.tile(points, (50, 1, 1)), jnp.tile(log_weights, (50, 1)), 3, keys(50))
    np.testing.assert_allclose(found.energy, 0.065 / 0.56, rtol=1e-4)
    np.testing.assert_array_equal(found.assignment, np.tile([0, 2, 1, 0, 1], (50, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 25])
@pytest.mark.parametrize("weighted", [False, True])
def test_energy_reaches_the_best_of_ten_starts_of_sklearn(n, weighted):
    points = poses(1, 16)
    log_weights = (np.random.default_rng(2).normal(size=(16, 100)) * (2 if weighted else 0)).astype(np.float32)
    found = quantize.quantize(jnp.array(points), jnp.array(log_weights), n, keys(16))
    squared, own = check(points, log_weights, n, found)
    np.testing.assert_allclose(own, squared.min(axis=1), rtol=1e-3)  # Each to its nearest centroid.
    expected = [
        KMeans(n, n_init=10, random_state=0).fit(x, sample_weight=w).inertia_
        for x, w in zip(points.astype(np.float64), softmax(log_weights), strict=True)
    ]
    ratio = np.asarray(found.energy) / expected
    assert np.median(ratio) <= 1.02 and ratio.max() < 1.3


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_a_result_does_not_depend_on_the_batch(weighted):
    points = jnp.array(poses(3, 16))
    log_weights = jnp.float32(np.random.default_rng(4).normal(size=(16, 100)) * (3 if weighted else 0))
    together = quantize.quantize(points, log_weights, 10, keys(16))
    order = np.random.default_rng(5).permutation(16)
    shuffled = quantize.quantize(points[order], log_weights[order], 10, keys(16)[order])
    np.testing.assert_array_equal(shuffled.medoid, together.medoid[order])
    np.testing.assert_array_equal(shuffled.assignment, together.assignment[order])
    for b in range(0, 16, 2):
        alone = quantize.quantize(points[b : b + 1], log_weights[b : b + 1], 10, keys(16)[b : b + 1])
        np.testing.assert_array_equal(alone.medoid[0], together.medoid[b])
        np.testing.assert_array_equal(alone.assignment[0], together.assignment[b])
        np.testing.assert_allclose(alone.centroid[0], together.centroid[b], atol=1e-6)


@pytest.mark.slow
def test_order_of_hypotheses_and_origin_change_nothing_but_luck():
    points, order = poses(6, 16), np.random.default_rng(7).permutation(100)
    log_weights = np.random.default_rng(8).normal(size=(16, 100)).astype(np.float32)
    energy = [
        quantize.quantize(jnp.array(x), jnp.array(w), 10, keys(16)).energy
        for x, w in ((points, log_weights), (points[:, order], log_weights[:, order]), (points + 30, log_weights))
    ]
    np.testing.assert_allclose(np.median(energy[1] / energy[0]), 1, atol=0.02)
    # A Gram matrix would lose everything at 30 m from the origin.
    np.testing.assert_allclose(np.median(energy[2] / energy[0]), 1, atol=0.02)


@pytest.mark.slow
def test_duplicates_get_different_representatives():
    points = np.float32(np.repeat(np.random.default_rng(9).normal(size=(3, 4, 6)), 3, axis=1))
    for n in (2, 5, 12):
        found = quantize.quantize(jnp.array(points), jnp.zeros((3, 12)), n, keys(3))
        check(points, np.zeros((3, 12)), n, found)
        if n >= 4:
            np.testing.assert_allclose(found.energy, 0, atol=1e-6)


@pytest.mark.slow
def test_excluded_hypotheses_represent_only_when_nothing_else_is_left():
    points = poses(10, 3, 12, 6)
    log_weights = np.zeros((3, 12), np.float32)
    log_weights[:, 5:] = -np.inf
    for n in (1, 2, 5):
        found = quantize.quantize(jnp.array(points), jnp.array(log_weights), n, keys(3))
        check(points, log_weights, n, found)
        assert (np.asarray(found.medoid) < 5).all()
    found = quantize.quantize(jnp.array(points), jnp.array(log_weights), 12, keys(3))
    check(points, log_weights, 12, found)
    np.testing.assert_array_equal(np.sort(found.medoid[:, :5]), np.tile(np.arange(5), (3, 1)))
    np.testing.assert_array_equal(found.prob[:, 5:], 0)


@pytest.mark.slow
def test_hopeless_weights_still_order_the_hypotheses():
    """Far below what exp can hold, the likelier is still the seed, and its cluster's mean is weighted."""
    points = np.zeros((3, 12, 6), np.float32)
    points[:, 1:, 0] = [10, 11, *range(20, 29)]
    log_weights = np.full((3, 12), -5000, np.float32)
    log_weights[:, :3] = [0, -900, -901]
    found = quantize.quantize(jnp.array(points), jnp.array(log_weights), 2, keys(3))
    expected = [0, (10 + 11 / np.e) / (1 + 1 / np.e)]
    np.testing.assert_allclose(found.centroid[..., 0], np.tile(expected, (3, 1)), rtol=1e-4)
    np.testing.assert_array_equal(found.medoid, np.tile([0, 1], (3, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["prior", "uniform"])
def test_paper_reading_clusters_all(weights):
    h = make_hypotheses()
    log_weights = 0.3 * h.log_prior if weights == "prior" else jnp.zeros((3, 12))
    for n in (1, 5):
        found = quantize.select(h, n, keys(3), weights=weights, temperature=0.3)
        direct = quantize.quantize(h.joints24.reshape(3, 12, 72), log_weights, n, keys(3))
        np.testing.assert_array_equal(found.medoid, direct.medoid)
        assert found.centroid.shape == (3, n, 24, 3)


@pytest.mark.slow
def test_learned_scores_weigh_hypotheses_alone_or_with_the_prior():
    h = make_hypotheses()
    scored = dataclasses.replace(h, log_scores=jax.nn.log_softmax(h.log_prior[:, ::-1]))
    for weights, expected in (
        ("scores", scored.log_scores),
        ("scores_and_prior", scored.log_scores + 0.3 * h.log_prior),
    ):
        found = quantize.select(scored, 4, keys(3), weights=weights, temperature=0.3)
        direct = quantize.quantize(h.joints24.reshape(3, 12, 72), expected, 4, keys(3))
        np.testing.assert_array_equal(found.medoid, direct.medoid)
        with pytest.raises(
            ValueError, match=rf"weights '{weights}' need learned scores.*a config that has model.scores"
        ):
            quantize.select(h, 4, keys(3), weights=weights)
    with pytest.raises(
        ValueError, match="Unknown weights 'score' of the hypotheses: choose one of 'prior', 'uniform', 'scores'"
    ):
        quantize.select(h, 4, keys(3), weights="score")


@pytest.mark.parametrize("sharpness", [0.0, 0.5, 3.0])
def test_sharpness_changes_the_probabilities_and_nothing_else(sharpness):
    h = make_hypotheses()
    plain = quantize.select(h, 4, keys(3), temperature=0.3)
    found = quantize.select(h, 4, keys(3), temperature=0.3, sharpness=sharpness)
    powers = np.float64(plain.prob) ** sharpness
    np.testing.assert_allclose(found.prob, powers / powers.sum(1, keepdims=True), rtol=1e-5)
    for name in ("medoid", "centroid", "assignment", "energy"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


@jax.jit
def select_inside(h, temperature):
    return quantize.select(h, 5, keys(3), temperature=temperature)


@pytest.mark.slow
def test_select_runs_inside_jit_with_a_traced_temperature():
    h = make_hypotheses(2)
    inside = select_inside(h, jnp.float32(0.2))
    outside = quantize.select(h, 5, keys(3), temperature=0.2)
    np.testing.assert_array_equal(inside.medoid, outside.medoid)


def test_random_subset_draws_without_replacement_per_key():
    drawn = np.asarray(quantize.random_subset(10, 4, keys(500)))
    assert all(len(set(row)) == 4 for row in drawn)
    np.testing.assert_allclose(np.bincount(drawn.ravel(), minlength=10) / 500, 0.4, atol=0.1)
    np.testing.assert_array_equal(quantize.random_subset(10, 4, keys(500)[7:9]), drawn[7:9])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_raises_outside_jit_and_shows_inside(value):
    h = make_hypotheses()
    joints, prior = (
        replace(h, joints24=h.joints24.at[1, 2, 3, 0].set(value)),
        replace(h, log_prior=h.log_prior.at[1, 2].set(value)),
    )
    for bad in (joints, prior):
        with pytest.raises(ValueError, match="the first is example 1"):
            quantize.select(bad, 5, keys(3))
        energy = select_inside(bad, jnp.float32(1)).energy
        assert list(np.isnan(energy)) == [False, True, False]
    with pytest.raises(ValueError, match="all -inf"):
        quantize.select(replace(h, log_prior=h.log_prior.at[0].set(-jnp.inf)), 5, keys(3))
