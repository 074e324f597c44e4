"""Each row of a table against what it says that it chooses, and which rows an evaluation has."""

import dataclasses

import numpy as np
import pytest

from configs import default
from multibodies_jax.evaluation import methods
from tests.helpers import evaluation_fixture as fixture
from tests.helpers import tiny

CORE = ("main", "uniform", "temperature_1", "quantized", "all", "centroids", "hmr")


@pytest.fixture(scope="module")
def out():
    return fixture.made()


def row(name, out, **overrides):
    made = methods.METHODS[name](fixture.evaluation(out, **overrides))
    assert made is not None
    return made


def names(out, **overrides):
    return [made.name for made in methods.rows(fixture.evaluation(out, eval__methods=CORE, **overrides))]


def test_rows_come_in_the_order_of_the_config_and_absent_ones_are_left_out(out):
    assert names(out) == [
        "ours",
        "ours, uniform weights",
        "ours, prior at temperature 1",
        "all M = 6",
        "ours, centroids",
        "HMR (M = 1)",
    ]
    assert names(fixture.made(hmr=False))[-1] == "ours, centroids"
    exchangeable = fixture.made(hmr=False, label="SMPL-MDN", exchangeable=True)
    assert names(exchangeable) == ["SMPL-MDN", "SMPL-MDN, quantized", "all M = 6"]
    assert names(fixture.made(m=1, hmr=False)) == ["ours"]


def test_the_default_lists_every_row_that_exists_except_the_slow_ones():
    own = default.of("graphcmr").eval.methods  # Rows of one model alone stand in its config.
    others = (*default.FITTED, *default.WEIGHTED, *default.FITTED_WEIGHTED, *own)
    assert {*tiny.config().eval.methods, *others} == set(methods.METHODS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("main", {}),
        ("uniform", {"weights": "uniform"}),
        ("temperature_1", {"weights": "prior", "temperature": 1.0}),
        ("hypothesis_0_kept", {"reading": "keep_first"}),
    ],
)
@pytest.mark.parametrize("n", [1, 5])
def test_quantized_rows_have_the_errors_of_their_medoids(out, name, options, n):
    index = np.asarray(out.quantize(n, **options).medoid)
    found = row(name, out).sets(out, n)
    for metric, errors in out.errors.items():
        np.testing.assert_array_equal(found[metric], np.take_along_axis(np.asarray(errors), index, axis=1))
    assert set(found) == {"mpjpe", "pa_mpjpe", "vertex", "squared24"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scores", "scores_and_prior"])
def test_rows_of_learned_scores_are_quantized_under_them_and_absent_without(name, out):
    assert methods.METHODS[name](fixture.evaluation(out)) is None
    scored = fixture.made(scored=True)
    found = np.asarray(row(name, scored).sets(scored, 2)["mpjpe"])
    log_weights = scored.hyps.log_scores + (0.5 * scored.hyps.log_prior if name == "scores_and_prior" else 0.0)
    expected = scored.with_hypotheses(dataclasses.replace(scored.hyps, log_prior=log_weights))
    index = expected.quantize(2, weights="prior", temperature=1.0).medoid
    np.testing.assert_array_equal(found, np.take_along_axis(np.asarray(scored.errors["mpjpe"]), np.asarray(index), 1))
    assert (np.asarray(scored.quantize(2, weights=name).medoid) != np.asarray(scored.quantize(2).medoid)).any()


def test_rows_of_other_weights_are_those_that_the_main_row_lacks():
    names = ("prior", "scores", "refined", "refined_prior", "refined_scores")

    def found(**fields):
        evaluation = fixture.evaluation(fixture.made(hmr=False, **fields), eval__methods=("main", *names))
        return [row.name for row in methods.rows(evaluation)]

    assert found(scored=True) == [
        "ours",
        "ours, learned scores",
        "ours, refined",
        "ours, refined, learned scores",
    ]
    assert found(scored=True, weights="scores") == [
        "ours",
        "ours, prior",
        "ours, refined",
        "ours, refined, the prior p(X)",
    ]
    assert found() == ["ours", "ours, refined"]


@pytest.mark.slow
def test_rows_of_other_weights_have_the_reading_of_the_main_row():
    """Otherwise the difference to them, which table 2 reports, would be that of two readings."""
    out = fixture.made(reading="keep_first")
    for name in ("main", "uniform", "temperature_1", "hypothesis_0_kept"):
        found = np.asarray(row(name, out).sets(out, 2)["squared24"])
        assert (found == np.asarray(out.errors["squared24"])[:, :1]).any(axis=1).all(), name


@pytest.mark.slow
def test_exchangeable_hypotheses_are_taken_in_their_order_and_quantized_in_a_row_of_their_own():
    out = fixture.made(label="SMPL-MDN", exchangeable=True)
    np.testing.assert_array_equal(row("main", out).sets(out, 2)["mpjpe"], out.errors["mpjpe"][:, :2])
    chosen = out.members(out.quantize(2).medoid)
    np.testing.assert_array_equal(row("quantized", out).sets(out, 2)["mpjpe"], chosen["mpjpe"])
    assert row("quantized", out).name == "SMPL-MDN, quantized"


@pytest.mark.slow
def test_all_hypotheses_and_the_single_one(out):
    every = row("all", out)
    assert every.ns == (6,)
    np.testing.assert_array_equal(every.sets(out, 6)["mpjpe"], out.errors["mpjpe"])
    hmr = row("hmr", out)
    assert hmr.ns == (1,)
    np.testing.assert_array_equal(hmr.sets(out, 1)["mpjpe"], out.measure(out.hmr)["mpjpe"])


def test_centroids_of_single_hypotheses_are_these_hypotheses():
    out = fixture.made(ns=(6,))
    found = row("centroids", out).sets(out, 6)
    for metric in ("mpjpe", "pa_mpjpe", "squared24"):
        expected = np.sort(np.asarray(out.errors[metric]), axis=1)
        np.testing.assert_allclose(np.sort(np.asarray(found[metric]), axis=1), expected, rtol=1e-4)
    assert "vertex" not in found
