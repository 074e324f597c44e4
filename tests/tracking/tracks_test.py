"""People keep their numbers through crossings, gaps and other orders, and strangers get new ones."""

import numpy as np
import pytest

from multibodies_jax.tracking import tracks

FIGURE = np.array([[0, 0], [-10, 30], [10, 30], [-8, 80], [8, 80], [-9, 120], [9, 120]], float)


def _person(x, y=50.0, size=1.0, known=True, noise=None):
    points = FIGURE * size + (x, y) + (0 if noise is None else noise.normal(0, 1.5, FIGURE.shape))
    low, high = points.min(0), points.max(0)
    return tracks.Seen(np.column_stack([points, np.full(len(points), known)]), np.concatenate([low, high - low]))


@pytest.mark.parametrize("missing", [(), (14, 15, 16)])
def test_two_people_who_cross_keep_their_numbers(missing):
    """One walks right, the other left; where they meet one may be hidden."""
    rng, tracker = np.random.default_rng(0), tracks.Tracker()
    for k in range(30):
        right, left = _person(20 + 8.0 * k, noise=rng), _person(260 - 8.0 * k, noise=rng)
        people = [left] if k in missing else [left, right] if k % 2 else [right, left]
        expected = [1] if k in missing else [1, 0] if k % 2 else [0, 1]
        assert tracker.update(k / 30, people) == expected


def test_whoever_is_away_for_long_is_somebody_else():
    tracker = tracks.Tracker(most_gap_s=0.5)
    assert tracker.update(0.0, [_person(20), _person(200)]) == [0, 1]
    assert tracker.update(0.1, [_person(20)]) == [0] and tracker.alive == [0, 1]
    assert tracker.update(0.5, [_person(201), _person(20)]) == [1, 0]
    assert tracker.update(1.1, []) == [] and tracker.alive == []
    assert tracker.update(1.2, [_person(20)]) == [2]


def test_a_person_far_from_all_others_is_new():
    tracker = tracks.Tracker()
    assert tracker.update(0.0, [_person(20)]) == [0]
    assert tracker.update(0.04, [_person(200), _person(24)]) == [1, 0]
    assert tracker.update(0.08, [_person(20, size=0.2, y=130)]) == [2]  # Another size in the same box.


def test_boxes_decide_where_no_keypoints_are_known():
    tracker = tracks.Tracker()
    assert tracker.update(0.0, [_person(20, known=False), _person(60, known=False)]) == [0, 1]
    assert tracker.update(0.04, [_person(57, known=False), _person(23, known=False)]) == [1, 0]
    assert tracker.update(0.08, [_person(400, known=False)]) == [2]


def test_someone_unseen_is_expected_where_the_motion_leads():
    """After ten frames behind a wall a walker is 80 px further, which is nearer to where a bystander came in."""
    tracker = tracks.Tracker()
    for k in range(10):
        assert tracker.update(k / 30, [_person(20 + 8.0 * k)]) == [0]
    assert tracker.update(20 / 30, [_person(100), _person(20 + 8.0 * 20)]) == [1, 0]


def test_someone_who_stops_while_unseen_is_the_same():
    tracker = tracks.Tracker()
    for k in range(10):
        assert tracker.update(k / 30, [_person(20 + 8.0 * k)]) == [0]
    assert tracker.update(25 / 30, [_person(20 + 8.0 * 9)]) == [0]


def test_the_state_is_that_of_the_people_present():
    tracker = tracks.Tracker(most_gap_s=0.1)
    for k in range(50):
        assert tracker.update(float(k), [_person(20), _person(200)]) == [2 * k, 2 * k + 1]
        assert tracker.alive == [2 * k, 2 * k + 1]


@pytest.mark.parametrize(
    "second, expected", [((0, 0, 10, 10), 1.0), ((5, 0, 10, 10), 1 / 3), ((20, 0, 10, 10), 0.0), ((0, 0, 0, 0), 0.0)]
)
def test_overlap_of_boxes(second, expected):
    assert tracks.overlap(np.array([0.0, 0, 10, 10]), np.array(second, float)) == pytest.approx(expected)


def test_boxes_without_area_overlap_nothing():
    assert tracks.overlap(np.zeros(4), np.zeros(4)) == 0
