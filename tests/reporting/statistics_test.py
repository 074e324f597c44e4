"""Intervals and paired tests of the report, against theory, SciPy and loops."""

from typing import Any

import numpy as np
import pytest
import scipy.stats

from multibodies_jax.evaluation import calibration, intervals
from multibodies_jax.reporting import statistics


@pytest.mark.slow
def test_bootstrap_is_the_normal_interval_of_many_images():
    values = np.random.default_rng(0).gamma(4.0, 10.0, (3000, 2)) + np.array([[0.0, 500.0]])
    low, high = statistics.bootstrap(values)
    half = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    np.testing.assert_allclose(low, values.mean(axis=0) - half, atol=0.05 * half.max())
    np.testing.assert_allclose(high, values.mean(axis=0) + half, atol=0.05 * half.max())


def test_bootstrap_is_that_of_scipy_for_few_and_skewed_images():
    values = np.random.default_rng(1).exponential(10.0, 25)
    low, high = statistics.bootstrap(values[:, None])
    other = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=3)
    np.testing.assert_allclose([low[0], high[0]], other.confidence_interval, rtol=0.03)
    assert high[0] - values.mean() > values.mean() - low[0]  # Skewed, as no normal interval is.


def test_bootstrap_leaves_out_what_an_image_lacks_and_does_not_depend_on_its_chunks(monkeypatch):
    values = np.random.default_rng(2).normal(50, 5, (40, 2))
    values[::2, 1] = np.nan
    whole = statistics.bootstrap(values)
    rng = np.random.default_rng(0)
    means = np.array([np.nanmean(values[rng.integers(40, size=40)], axis=0) for _ in range(statistics.RESAMPLES)])
    np.testing.assert_allclose(whole, np.percentile(means, (2.5, 97.5), axis=0), rtol=1e-9)
    monkeypatch.setattr(statistics, "CHUNK", 40 * 7)
    np.testing.assert_allclose(statistics.bootstrap(values), whole, rtol=1e-12)
    with pytest.raises(ValueError, match="Column 1 of 2 has no finite value"):
        statistics.bootstrap(np.array([[1.0, np.nan], [2.0, np.nan]]))


def test_a_summary_averages_seeds_and_says_how_far_they_lie_apart():
    values = np.arange(6.0).reshape(2, 3) * 10
    found = statistics.summarize({"a": values})["a"]
    assert (found["mean"], found["seeds"], found["seed_min"], found["seed_max"]) == (25.0, 2, 10.0, 40.0)
    assert found["low"] == 15.0 and found["high"] == 35.0  # Of the three images, whose means over seeds are 15, 25, 35.


def test_a_comparison_is_paired_by_image_and_seed():
    rng = np.random.default_rng(4)
    common = rng.normal(80, 30, (3, 200))
    a, b = common + rng.normal(0, 1, (3, 200)), common + 0.5 + rng.normal(0, 1, (3, 200))
    a[2] += 2.0  # One seed says the opposite.
    found = statistics.compare({"x": (a, b), "same": (a, a)})
    over_seeds = (a - b).mean(axis=0)
    assert found["x"]["mean"] == pytest.approx(over_seeds.mean())
    wilcoxon: Any = scipy.stats.wilcoxon(a.mean(axis=0), b.mean(axis=0))  # SciPy's result type hides its fields.
    assert found["x"]["p"] == pytest.approx(wilcoxon.pvalue)
    assert found["x"]["high"] - found["x"]["low"] < 0.5  # Unpaired it would be some 8 mm.
    assert found["x"]["seeds"] == 3 and found["x"]["same_sign"] == (1 if found["x"]["mean"] > 0 else 2)
    assert found["same"]["p"] == 1.0 and found["same"]["low"] == found["same"]["high"] == 0.0
    unranked = statistics.compare({"x": (a, b), "same": (a, a)}, ranked=False)
    assert unranked == {key: its | {"p": None} for key, its in found.items()}
    with pytest.raises(ValueError, match=r"got \(3, 200\) and \(2, 200\)"):
        statistics.compare({"x": (a, b[:2])})


def test_a_calibration_error_is_that_of_the_evaluation_and_its_interval_that_of_loops(monkeypatch):
    rng = np.random.default_rng(5)
    probability = rng.uniform(size=(2, 30)) ** 2
    true = (rng.uniform(size=(2, 30)) < probability**0.5).astype(float)

    def error(rows):
        return np.mean(
            [
                calibration.expected_error(calibration.bins(p[rows], y[rows]))
                for p, y in zip(probability, true, strict=True)
            ]
        )

    found = statistics.calibration_error(probability, true)
    draws = np.random.default_rng(0)
    looped = [error(draws.integers(30, size=30)) for _ in range(statistics.RESAMPLES // 10)]
    assert found[0] == pytest.approx(error(slice(None)))
    monkeypatch.setattr(statistics, "RESAMPLES", statistics.RESAMPLES // 10)
    monkeypatch.setattr(statistics, "CHUNK", 30 * 100)
    np.testing.assert_allclose(
        statistics.calibration_error(probability, true)[1:], np.percentile(looped, (2.5, 97.5)), rtol=1e-9
    )
    timeline = intervals.Timeline(np.arange(30) // 2, 1)  # Pairs of examples: 15 frames of two cameras.
    of_frames = statistics.calibration_error(probability, true, timeline)
    assert of_frames[0] == found[0] and of_frames[1] < of_frames[2]


@pytest.mark.parametrize(
    ("low", "high", "more", "word"),
    [
        (-2.0, -1.0, False, "better"),
        (1.0, 2.0, False, "worse"),
        (-1.0, 1.0, False, ""),
        (0.0, 1.0, False, ""),
        (1.0, 2.0, True, "better"),
        (-2.0, -1.0, True, "worse"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(low, high, more, word):
    assert statistics.verdict(low, high, more) == word
