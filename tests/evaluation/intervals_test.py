"""Means and their intervals against SciPy, and what is refused."""

import numpy as np
import pytest
import scipy.stats

from multibodies_jax.evaluation import intervals


def test_summary_is_the_mean_with_its_interval():
    values = np.random.default_rng(9).normal(50, 10, 400)
    got = intervals.summary(values.astype(np.float32))
    assert got["count"] == 400
    np.testing.assert_allclose([got["sum"], got["mean"]], [values.sum(), values.mean()], rtol=1e-6)
    low, high = scipy.stats.norm.interval(0.95, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose(got["ci95"], (high - low) / 2, rtol=1e-4)
    assert intervals.summary(np.array([3.0]))["ci95"] == 0


def test_paired_interval_is_the_t_test():
    rng = np.random.default_rng(10)
    a = rng.normal(50, 10, 30)
    b = a + rng.normal(1, 2, 30)
    got = intervals.paired(a, b)
    expected = scipy.stats.ttest_rel(a, b).confidence_interval()
    np.testing.assert_allclose([got["low"], got["high"]], [expected.low, expected.high])
    np.testing.assert_allclose(got["mean"], (a - b).mean())
    assert got["high"] < 0


@pytest.mark.parametrize("values", [[], [1.0, np.nan, 2.0], [np.inf]])
def test_statistics_do_not_skip_in_silence(values):
    with pytest.raises(ValueError, match="finite values, one per example"):
        intervals.summary(np.array(values))


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="got 3 and 2"):
        intervals.paired(np.zeros(3), np.zeros(2))
