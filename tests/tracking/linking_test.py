"""Body k stays the same explanation when the order of a set, its weights and its representatives change."""

import itertools

import numpy as np
import pytest

from multibodies_jax.tracking import linking


def _modes(rng, k, num=12):
    """Hypotheses of a person with the hidden arm in front or behind, at frame k: (joints, mode of each)."""
    mode = rng.permutation(np.arange(num) % 2)
    joints = np.zeros((num, 4, 3)) + np.array([0.3, 0.0, 0.0]) * np.sin(k / 10)
    joints[:, 3, 2] += np.where(mode == 0, 0.5, -0.5)
    return joints + rng.normal(0, 0.01, joints.shape), mode


def test_clusters_keep_their_order_when_sets_swap_it():
    rng, before, seen = np.random.default_rng(0), None, []
    for k in range(20):
        joints, mode = _modes(rng, k)
        weight = np.where(mode == 0, 3.0, 1.0)
        # The frame's own representatives, in an order that changes in every frame.
        chosen = np.array([np.flatnonzero(mode == m)[0] for m in ((0, 1) if k % 2 else (1, 0))])
        linked = linking.link(before, joints, weight / weight.sum(), chosen)
        before = linked.centers
        seen.append((mode[linked.index].tolist(), linked.probabilities))
        assert (mode[linked.labels == 0] == mode[linked.index[0]]).all() and not linked.taken_over
    assert all(modes == [1, 0] for modes, _ in seen)  # As the first frame had them.
    np.testing.assert_allclose([probabilities for _, probabilities in seen], np.tile([0.25, 0.75], (20, 1)))


def test_a_poor_set_of_one_frame_does_not_break_the_sequence():
    """Both representatives of the frame are of one mode; the clusters go on with one body for each."""
    rng = np.random.default_rng(1)
    joints, mode = _modes(rng, 0)
    first = linking.link(None, joints, np.full(12, 1 / 12), np.array([np.argmax(mode == 0), np.argmax(mode == 1)]))
    joints, mode = _modes(rng, 1)
    linked = linking.link(first.centers, joints, np.full(12, 1 / 12), np.flatnonzero(mode == 1)[:2])
    assert mode[linked.index].tolist() == [0, 1] and not linked.taken_over


@pytest.mark.parametrize("chosen", [(0, 1), (1, 0)])
def test_new_explanations_take_over_when_the_old_ones_describe_nothing(chosen):
    rng = np.random.default_rng(2)
    joints, mode = _modes(rng, 0)
    first = linking.link(None, joints, np.full(12, 1 / 12), np.array([np.argmax(mode == 0), np.argmax(mode == 1)]))
    # Two new modes on one side of both: from the centres before, one cluster gets all and the other none.
    moved = rng.normal(0, 0.01, (12, 4, 3))
    moved[:, 0, 1] += np.where(np.arange(12) % 3 == 0, 2.6, 2.0)
    moved[:, 3, 2] += np.where(np.arange(12) % 3 == 0, 0.3, 0.2)
    linked = linking.link(first.centers, moved, np.full(12, 1 / 12), np.array(chosen))
    assert linked.taken_over
    # Whatever their order in the frame, each takes the place of the nearer one, and together they are nearest so.
    assert linked.index.tolist() == [0, 1]
    np.testing.assert_allclose(linked.probabilities, [1 / 3, 2 / 3])


def test_equal_hypotheses_still_give_different_representatives():
    linked = linking.link(None, np.zeros((5, 4, 3)), np.full(5, 0.2), np.array([3, 1]))
    again = linking.link(linked.centers, np.zeros((5, 4, 3)), np.full(5, 0.2), np.array([0, 4]))
    for found in (linked, again):
        assert len(set(found.index.tolist())) == 2
        assert found.labels[found.index].tolist() == [0, 1]
        assert found.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_path_is_that_of_trying_all(seed):
    rng = np.random.default_rng(seed)
    costs = [rng.uniform(0, 1, 3) for _ in range(5)]
    costs[2][1] = np.inf
    steps = [rng.uniform(0, 1, (3, 3)) for _ in range(4)]

    def total(path):
        pairs = zip(steps, itertools.pairwise(path), strict=True)
        return sum(cost[state] for cost, state in zip(costs, path, strict=True)) + sum(s[a, b] for s, (a, b) in pairs)

    best = min(itertools.product(range(3), repeat=5), key=total)
    assert linking.best_path(costs, steps) == list(best)


def test_a_chain_stays_with_a_hypothesis_that_moves_with_the_cluster():
    """The others come a little nearer to the centre, each in another direction in every frame."""
    rng, chain, picked = np.random.default_rng(4), linking.Chain(), []
    for k in range(20):
        away = rng.normal(size=(10, 4, 3))
        away *= 0.025 / np.sqrt(np.square(away).sum(axis=-1).mean(axis=-1))[:, None, None]
        away[3] = 0.03 / np.sqrt(3)
        center = np.full((1, 4, 3), 0.2 * k)  # The cluster itself moves fast.
        labels, share = np.zeros(10, int), np.ones(1)
        chain.push(linking.Linked(np.array([0]), center, labels, share, False), center + away)
        if len(chain) > linking.LAG:
            picked.append(chain.pop().tolist())
    assert picked == [[3]] * len(picked) and len(picked) == 20 - linking.LAG


def test_a_chain_picks_hypotheses_that_move_little_and_looks_only_a_few_frames_ahead():
    rng, chain, before = np.random.default_rng(3), linking.Chain(), None
    picked, alone, shown = [], [], []
    for k in range(40):
        joints, mode = _modes(rng, k, num=40)
        joints += rng.normal(0, 0.02, joints.shape)
        chosen = np.array([np.flatnonzero(mode == m)[0] for m in (0, 1)])
        linked = linking.link(before, joints, np.full(40, 1 / 40), chosen)
        before = linked.centers
        chain.push(linked, joints)
        shown.append((joints, mode))
        alone.append(joints[chosen])
        if len(chain) > linking.LAG:
            picked.append(chain.pop())
        assert len(chain) <= linking.LAG
    while len(chain):
        picked.append(chain.pop())
    assert len(picked) == 40
    assert all(mode[index].tolist() == [0, 1] for index, (_, mode) in zip(picked, shown, strict=True))
    moved = np.array([joints[index] for index, (joints, _) in zip(picked, shown, strict=True)])
    steps = [np.linalg.norm(np.diff(x, axis=0), axis=-1).mean() for x in (moved, np.array(alone))]
    assert steps[0] < 0.75 * steps[1]
