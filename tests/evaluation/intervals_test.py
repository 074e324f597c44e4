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


def test_frames_that_are_independent_have_the_usual_interval():
    values = np.random.default_rng(1).normal(50, 10, 400)
    low, high = intervals.Timeline(np.arange(400), block=1).interval(values)
    usual = intervals.summary(values)
    np.testing.assert_allclose([low, high], usual["mean"] + usual["ci95"] * np.array([-1, 1]), atol=0.2)
    blocks = np.ptp(intervals.Timeline(np.arange(400), block=10).interval(values))  # Of ten frames, not ten times one.
    assert blocks < 1.3 * 2 * usual["ci95"]


def test_neighbours_that_are_alike_have_a_wider_interval_and_all_cameras_of_a_frame_stay_together():
    motion = np.repeat(np.random.default_rng(2).normal(50, 10, 20), 5)  # 100 frames: five alike, then five others.
    once, blocks = (np.ptp(intervals.Timeline(np.arange(100), block).interval(motion)) for block in (1, 20))
    assert blocks > 1.6 * once
    four = intervals.Timeline(np.repeat(np.arange(100), 4), 20)
    np.testing.assert_allclose(np.ptp(four.interval(np.repeat(motion, 4))), blocks)
    assert four.rows(np.arange(400) < 200).frame.max() == 49


def test_a_timeline_keeps_the_means_and_replaces_the_intervals():
    rng = np.random.default_rng(3)
    timeline, a, b = intervals.Timeline(np.arange(60) // 2, 4), rng.normal(5, 1, 60), rng.normal(4, 1, 60)
    found, pair = timeline.summary(a), timeline.paired(a, b)
    assert found["mean"] == pytest.approx(a.mean()) and found["low"] < a.mean() < found["high"]
    assert pair["mean"] == pytest.approx((a - b).mean()) and (pair["low"], pair["high"]) == timeline.interval(a - b)
    unbalanced = intervals.Timeline(np.array([0, 1, 1, 1]), 20).interval(np.array([0.0, 1, 1, 1]))
    assert unbalanced == (0.0, 1.0)  # Only the first frame, or only the second.


def test_half_of_an_interval_is_that_of_the_timeline_where_there_is_one():
    assert intervals.half_width({"mean": 5.0, "ci95": 1.5, "count": 9}) == 1.5
    assert intervals.half_width({"mean": 5.0, "ci95": 1.5, "low": 1.0, "high": 7.0, "count": 9}) == 3.0
