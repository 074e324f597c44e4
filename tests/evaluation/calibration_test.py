"""Calibration of cluster probabilities: constructed cases, a reference of plain loops, and the fit of a sharpness."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.evaluation import calibration, set_errors
from multibodies_jax.hypotheses import quantize

_N, _CLUSTERS = 4000, 5


@pytest.fixture(scope="module")
def drawn():
    """Probabilities of 5 clusters, and outcomes drawn from them."""
    rng = np.random.default_rng(0)
    prob = rng.dirichlet(np.ones(_CLUSTERS), _N)
    return prob, np.array([rng.choice(_CLUSTERS, p=p) for p in prob])


def test_outcomes_drawn_from_the_probabilities_are_calibrated_and_sharpened_ones_are_not(drawn):
    prob, hit = drawn
    sharp = prob**3 / (prob**3).sum(axis=1, keepdims=True)
    good, bad = (calibration.describe(hit, p, np.full_like(p, 1 / _CLUSTERS)) for p in (prob, sharp))
    assert good["ece"] < 0.01 < 0.05 < bad["ece"] and good["top_ece"] < 0.02 < 0.1 < bad["top_ece"]
    assert good["log_loss"] < min(good["log_loss_uniform"], bad["log_loss"])
    assert good["log_loss_uniform"] == pytest.approx(np.log(_CLUSTERS)) and good["count"] == _N
    assert good["ece_uniform"] < 1e-12  # 1 of 5 comes true, as said.


def test_bins_and_errors_are_those_of_plain_loops(drawn):
    prob, hit = drawn[0][:50], drawn[1][:50]
    found = calibration.describe(hit, prob, prob)
    members = [[] for _ in range(10)]
    for p, k in zip(prob, hit, strict=True):
        for cluster in range(_CLUSTERS):
            members[min(int(10 * p[cluster]), 9)].append((p[cluster], cluster == k))
    members = [np.array(rows, float) for rows in members if rows]
    expected = [(*rows.mean(axis=0), len(rows)) for rows in members]
    np.testing.assert_allclose([tuple(row.values()) for row in found["bins"]], expected)
    total = sum(len(rows) for rows in members)
    assert found["ece"] == pytest.approx(sum(n * abs(p - f) for p, f, n in expected) / total)
    assert found["log_loss"] == pytest.approx(-np.mean([np.log(p[k]) for p, k in zip(prob, hit, strict=True)]))


def test_certainty_is_counted_and_an_impossible_outcome_costs_a_bounded_loss():
    prob, hit = np.eye(2, dtype=np.float32), np.array([0, 0])
    found = calibration.describe(hit, prob, prob)
    assert [row["count"] for row in found["bins"]] == [2, 2] and found["top_ece"] == pytest.approx(0.5)
    assert found["log_loss"] == pytest.approx(-np.log(1e-7) / 2)


def test_the_scores_are_those_of_what_is_kept_of_each_image(drawn):
    prob, hit = drawn
    its = calibration.per_image(hit, prob)
    whole = calibration.scores(hit, prob)
    assert its["log_loss"].mean() == pytest.approx(whole["log_loss"], rel=1e-5) and its["log_loss"].shape == (_N,)
    of_top = calibration.bins(its["top_probability"], its["top_true"])
    assert calibration.expected_error(of_top) == pytest.approx(whole["top_ece"], rel=1e-5)
    over = calibration.per_image(np.array([0]), np.array([[1 + 5e-5, 0.0]]))  # A sum of float32 weights.
    assert {name: values.tolist() for name, values in over.items()} == {
        "log_loss": [0.0],
        "top_probability": [1.0],
        "top_true": [1.0],
    }


def test_the_probability_of_a_cluster_is_the_mass_of_its_members():
    rng = np.random.default_rng(1)
    logs = (rng.normal(size=(2, 3, 12)) * 5).astype(np.float32)
    assignment = rng.permuted(np.tile(np.arange(12) % 3, (2, 1)), axis=1).astype(np.int32)
    prob = np.asarray(calibration.probabilities(jnp.array(logs), jnp.array(assignment), 3))
    np.testing.assert_allclose(prob.sum(axis=2), 1, atol=1e-5)
    weights = np.exp(np.float64(logs[0, 1]))
    expected = [weights[assignment[0] == k].sum() / weights.sum() for k in range(3)]
    np.testing.assert_allclose(prob[0, 1], expected, rtol=1e-4)


@pytest.mark.parametrize("true", [0.0, 0.4, 2.0])
def test_the_sharpness_that_made_the_outcomes_is_fitted(true):
    rng = np.random.default_rng(1)
    first, other = ([{"": _drawn(rng, n, s)} for n in (3, 8)] for s in (true, 3.5))
    assert calibration.fit([first, first]) == calibration.fit([first]) == {"": pytest.approx(true, abs=0.15)}
    assert calibration.fit([first, other], examples=_N) == calibration.fit([first]) != calibration.fit([first, other])


def _drawn(rng, n, sharpness):
    masses = rng.dirichlet(np.ones(n), _N).astype(np.float32)
    prob = np.float64(masses) ** sharpness
    return masses, np.array([rng.choice(n, p=p / p.sum()) for p in prob])


@pytest.mark.slow
def test_the_truth_falls_in_the_cluster_of_the_nearest_centroid_by_valid_joints():
    centroids = jnp.zeros((1, 2, 3, 3)).at[0, 1, 0, 0].set(1.0).at[0, 0, 2].set(9.0)
    truth = jnp.zeros((1, 3, 3)).at[0, 0, 0].set(0.9)
    assert calibration.nearest(centroids, truth, jnp.array([[1.0, 1.0, 0.0]]))[0] == 1
    assert calibration.nearest(centroids, truth, jnp.array([[0.0, 1.0, 0.0]]))[0] == 0


@pytest.mark.slow
def test_probabilities_are_those_of_each_kind_of_weights_and_sharpened_where_a_sharpness_is_known():
    rng = np.random.default_rng(2)
    log_prior = (10 * rng.normal(size=(3, 6))).astype(np.float32)
    assignment = np.array([[0, 1, 0, 1, 1, 0]] * 3, np.int32)
    centroid = jnp.zeros((3, 2, 24, 3)).at[:, 1].set(1.0)
    found = quantize.Quantized(
        jnp.zeros((3, 2), jnp.int32), centroid, jnp.ones((3, 2)) / 2, jnp.array(assignment), jnp.ones(3)
    )
    joints24 = jnp.zeros((3, 24, 3)).at[1].set(0.9)
    truth = set_errors.Truth(joints24, {}, joints24, jnp.ones((3, 24)), None)
    scores = rng.normal(size=(3, 6)).astype(np.float32)
    logs = {"": scores + 0.5 * log_prior, "_uniform": 0.0 * log_prior, "_scores": scores}
    measured = calibration.measure(
        jnp.array(logs[""]), jnp.array(scores), {"2": found}, truth, {"": 2.0, "_scores": 0.0}
    )["2"]
    expected = {}
    for ending, its in logs.items():
        w = np.exp(its - its.max(1, keepdims=True))
        expected[ending] = np.stack([(w * (assignment == k)).sum(1) for k in range(2)], 1) / w.sum(1, keepdims=True)
    squared = np.float64(expected[""]) ** 2
    expected |= {"_fitted": squared / squared.sum(1, keepdims=True), "_scores_fitted": np.full((3, 2), 0.5)}
    assert measured.prob.keys() == expected.keys()
    for ending, its in expected.items():
        np.testing.assert_allclose(measured.prob[ending], its, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(measured.hit, [0, 1, 0])
    seen = calibration.masses(found, truth, np.array([True, True, False]), jnp.array(scores))
    assert seen.keys() == {"", "_scores"}
    np.testing.assert_array_equal(seen[""][0], np.full((2, 2), 0.5))
    np.testing.assert_allclose(seen["_scores"][0], expected["_scores"][:2], rtol=1e-4)
    for _, hit in seen.values():
        np.testing.assert_array_equal(hit, [0, 1])
    assert calibration.masses(found, truth, np.array([True, True, False])).keys() == {""}
    without = calibration.measure(jnp.array(logs[""]), None, {"2": found}, truth, {})["2"]
    assert without.prob.keys() == {"", "_uniform"}


def test_what_is_not_finite_falls_in_no_cluster_and_has_no_calibration():
    centroids, truth = jnp.zeros((2, 2, 3, 3)).at[0, 1].set(jnp.nan), jnp.zeros((2, 3, 3)).at[1, 2].set(jnp.nan)
    valid = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(calibration.nearest(centroids, truth, valid), [-1, 0])
    prob = np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match="example 1 falls in no cluster"):
        calibration.log_loss(prob, np.array([0, -1]))
    prob[1, 0] = np.nan
    for refuses in (
        lambda: calibration.bins(prob, prob > 0),
        lambda: calibration.fit([[{"": (prob, np.array([0, 0]))}]]),
    ):
        with pytest.raises(ValueError, match="nan, of example 1, and not between 0 and 1"):
            refuses()
