"""Calibration of cluster probabilities: constructed cases, a reference of plain loops, and the fit of a temperature."""

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


def test_the_temperature_that_made_the_outcomes_is_fitted():
    rng = np.random.default_rng(1)
    log_prior = (rng.normal(size=(_N, 12)) * 20).astype(np.float32)
    assignment = rng.permuted(np.tile(np.arange(12) % 3, (_N, 1)), axis=1).astype(np.int32)
    true = calibration.GRID[17]
    grid = jnp.array((*calibration.GRID, true))
    logs = grid[None, :, None] * jnp.array(log_prior)[:, None]
    prob = np.asarray(calibration.probabilities(logs, jnp.array(assignment), 3))
    np.testing.assert_allclose(prob.sum(axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(prob[:, 0], 1 / 3, atol=1e-6)  # Temperature 0: four of twelve are in each.
    weights = np.exp(np.float64(true) * (log_prior[0] - log_prior[0].max()))
    expected = [weights[assignment[0] == k].sum() / weights.sum() for k in range(3)]
    np.testing.assert_allclose(prob[0, -1], expected, rtol=1e-4)
    hit = np.array([rng.choice(3, p=p / p.sum()) for p in prob[:, -1].astype(np.float64)])
    fitted = calibration.fit(prob[:, :-1], hit, calibration.GRID)
    assert abs(calibration.GRID.index(fitted) - 17) <= 1


@pytest.mark.slow
def test_the_truth_falls_in_the_cluster_of_the_nearest_centroid_by_valid_joints():
    centroids = jnp.zeros((1, 2, 3, 3)).at[0, 1, 0, 0].set(1.0).at[0, 0, 2].set(9.0)
    truth = jnp.zeros((1, 3, 3)).at[0, 0, 0].set(0.9)
    assert calibration.nearest(centroids, truth, jnp.array([[1.0, 1.0, 0.0]]))[0] == 1
    assert calibration.nearest(centroids, truth, jnp.array([[0.0, 1.0, 0.0]]))[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prior", "scores_and_prior"])
def test_probabilities_are_those_of_the_quantizers_weights_and_of_the_grid(kind):
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
    own = scores if kind == "scores_and_prior" else 0.0
    arguments = jnp.array(log_prior), jnp.array(own + 0.5 * log_prior), scores, {"2": found}, truth
    measured = calibration.measure(kind, *arguments)["2"]
    grid = (own + t * np.float64(log_prior) for t in calibration.GRID)
    logs = [own + 0.5 * log_prior, 0.0 * log_prior, *grid, scores]
    assert measured.prob.shape == (3, len(logs), 2)
    for place, its in enumerate(logs):
        w = np.exp(its - its.max(1, keepdims=True))
        expected = np.stack([(w * (assignment == k)).sum(1) for k in range(2)], 1) / w.sum(1, keepdims=True)
        np.testing.assert_allclose(measured.prob[:, place], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(measured.hit, [0, 1, 0])
    np.testing.assert_array_equal(calibration.hits(found, truth), [0, 1, 0])
    without = calibration.measure("prior", *arguments[:2], None, {"2": found}, truth)["2"]
    assert without.prob.shape == (3, len(logs) - 1, 2)


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
        lambda: calibration.fit(prob[:, None], np.array([0, 0]), (1.0,)),
    ):
        with pytest.raises(ValueError, match="nan, of example 1, and not between 0 and 1"):
            refuses()
