"""Occlusion: which keypoints hide, how often, and the box around the rest."""

import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from multibodies_jax.data import occlusion

NONE, LEGS, ARMS_HEAD, HEAD = range(4)

keypoints = hnp.arrays(np.float64, (24, 2), elements=st.floats(-2000, 2000, allow_subnormal=False))
visibility = hnp.arrays(np.float32, 24, elements=st.sampled_from([0.0, 1.0])).filter(np.any)


def test_names_and_index_sets():
    assert occlusion.STRATEGIES == ("none", "legs", "arms_head", "head")
    legs, arms, head = set(range(6)), set(range(6, 12)), {12, 13, *range(17, 24)}
    for strategy, hidden in enumerate((set(), legs, arms | head, head)):
        visible, used = occlusion.hide(strategy, np.ones(24, np.float32))
        assert set(np.flatnonzero(visible == 0)) == hidden
        assert used == strategy


def assert_frequencies(strategies):
    """Within four standard deviations of the paper's probabilities."""
    n = len(strategies)
    p = np.array([0.1, 0.3, 0.3, 0.3])
    frequencies = np.bincount(strategies, minlength=4) / n
    assert np.all(np.abs(frequencies - p) < 4 * np.sqrt(p * (1 - p) / n)), frequencies


def test_draw_has_the_probabilities_of_the_paper():
    drawn = occlusion.draw(np.random.default_rng(0), 40_000)
    assert drawn.shape == (40_000,) and drawn.dtype == np.int32
    assert_frequencies(drawn)
    assert 0 <= occlusion.draw(np.random.default_rng(1)) < 4


@pytest.mark.slow
def test_strategy_for_has_the_probabilities_of_the_paper_over_ids_and_over_seeds():
    assert_frequencies([occlusion.strategy_for(f"set/test/{i:06d}", 0) for i in range(20_000)])
    assert_frequencies([occlusion.strategy_for("set/test/000000", seed) for seed in range(20_000)])


def test_strategy_for_is_pinned():
    """These numbers decide the crops of published sets: they must never change."""
    ids = [f"synthetic_bodies/test/{i:06d}" for i in range(12)]
    assert [occlusion.strategy_for(i, 0) for i in ids] == PINNED_0
    assert [occlusion.strategy_for(i, 1) for i in ids] == PINNED_1


PINNED_0 = [1, 3, 2, 2, 2, 2, 0, 2, 1, 2, 0, 2]
PINNED_1 = [3, 0, 3, 1, 0, 3, 2, 0, 0, 3, 1, 2]


def test_hide_keeps_what_is_not_annotated_hidden():
    valid = np.ones(24, np.float32)
    valid[[3, 14, 20]] = 0
    visible, _ = occlusion.hide(LEGS, valid)
    assert set(np.flatnonzero(visible)) == set(range(6, 24)) - {14, 20}
    assert valid[0] == 1  # The argument is not edited.


def test_hide_falls_back_to_none_when_nothing_stays_visible():
    head_only = np.zeros((3, 24), np.float32)
    head_only[:, [19, 20]] = 1
    visible, used = occlusion.hide(np.array([HEAD, LEGS, ARMS_HEAD]), head_only)
    np.testing.assert_array_equal(used, [NONE, LEGS, NONE])
    np.testing.assert_array_equal(visible, head_only)


def test_hide_batches_like_a_loop_in_numpy_and_under_jit():
    rng = np.random.default_rng(0)
    strategy = rng.integers(0, 4, (5, 7)).astype(np.int32)
    valid = (rng.random((5, 7, 24)) < 0.2).astype(np.float32)
    visible, used = occlusion.hide(strategy, valid)
    used = np.asarray(used)
    for i in np.ndindex(5, 7):
        one, one_used = occlusion.hide(strategy[i], valid[i])
        np.testing.assert_array_equal(visible[i], one)
        assert used[i] == one_used
    assert visible.dtype == np.float32 and isinstance(visible, np.ndarray)
    jitted, jitted_used = jax.jit(occlusion.hide)(strategy, valid)
    np.testing.assert_array_equal(jitted, visible)
    np.testing.assert_array_equal(jitted_used, used)


@pytest.mark.parametrize("strategy", [-1, 4, np.array([0, 7])])
def test_hide_refuses_unknown_strategies(strategy):
    with pytest.raises(ValueError, match="arms_head"):
        occlusion.hide(strategy, np.ones((*np.shape(strategy), 24), np.float32))
