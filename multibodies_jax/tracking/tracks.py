"""Who is who: people of consecutive frames matched by the overlap of their boxes and the distance of their keypoints.

Each person is expected where the last frames' motion takes it, or else where it was, and the pairs of people expected
and people seen with the lowest total cost are matched (Kuhn, 1955, "The Hungarian method"). Someone who is not seen keeps
the number for a while.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import optimize

MOST_GAP_S = 1.0
"""A person who is not seen for longer gets a new number when seen again."""

_FEWEST_SHARED = 3  # Keypoints; with fewer the boxes alone decide.
_FARTHEST = 0.25  # Mean distance of shared keypoints in sizes of the person beyond which two are not the same,
_FARTHER_PER_S = 0.5  # and what each second without being seen adds to it.
_LEAST_OVERLAP = 0.1  # Of the boxes (intersection over union), where they alone decide.
_NEW_VELOCITY = 0.5  # Share of the last step in the velocity.
_COAST_S = 0.5  # Someone unseen is expected to go on for this long, and then to stand still.
_UNSEEN = 0.2  # Added to the cost of someone who was not seen in the last frame.
_STOPPED = 0.2  # Added where somebody is not where the motion leads but where the last frame was.
_IMPOSSIBLE = 1e6


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """A person in one frame, pixels.

    Attributes:
      keypoints: x, y, and > 0 where the joint is known; the same joints in all frames.
      box: x, y, width, height.
    """

    keypoints: Float[np.ndarray, "K 3"]
    box: Float[np.ndarray, "4"]


@dataclasses.dataclass
class _Track:
    number: int
    seen: Seen
    seconds: float
    velocity: Float[np.ndarray, "2"]  # Pixels per second.
    missed: bool = False  # In the last frame.

    def expected(self, seconds: float) -> Seen:
        """The person where the motion takes it."""
        shift = self.velocity * min(seconds - self.seconds, _COAST_S)
        keypoints, box = self.seen.keypoints.copy(), self.seen.box.copy()
        keypoints[:, :2] += shift.astype(keypoints.dtype)
        box[:2] += shift.astype(box.dtype)
        return Seen(keypoints, box)


class Tracker:
    """Numbers the people of a video, frame after frame; its state is that of the people present.

    Args:
      most_gap_s: seconds that someone may be unseen and keep the number.
    """

    def __init__(self, most_gap_s: float = MOST_GAP_S):
        self._most_gap_s = most_gap_s
        self._tracks: list[_Track] = []
        self._next = 0

    @property
    def alive(self) -> list[int]:
        """Numbers of those who are present, or may come back."""
        return [track.number for track in self._tracks]

    def update(self, seconds: float, people: Sequence[Seen]) -> list[int]:
        """Takes the people of the next frame.

        Args:
          seconds: of the frame; increasing.
          people: in any order.

        Returns:
          Their numbers, in the order of `people`; who was never seen before gets the next one, from 0.
        """
        self._tracks = [track for track in self._tracks if seconds - track.seconds <= self._most_gap_s]
        numbers = [-1] * len(people)
        matches = self._matches(seconds, people)
        for track in self._tracks:
            track.missed = True
        for row, column in matches:
            track = self._tracks[row]
            step = _displacement(track.seen, people[column]) / max(seconds - track.seconds, 1e-6)
            track.velocity = (1 - _NEW_VELOCITY) * track.velocity + _NEW_VELOCITY * step
            track.seen, track.seconds, track.missed = people[column], seconds, False
            numbers[column] = track.number
        for column, person in enumerate(people):
            if numbers[column] < 0:
                numbers[column] = self._next
                self._tracks.append(_Track(self._next, person, seconds, np.zeros(2)))
                self._next += 1
        return numbers

    def _matches(self, seconds: float, people: Sequence[Seen]) -> list[tuple[int, int]]:
        """(track, person) of each pair that belongs together."""
        if not self._tracks or not people:
            return []
        costs = np.full((len(self._tracks), len(people)), _IMPOSSIBLE)
        for row, track in enumerate(self._tracks):
            expected = track.expected(seconds)
            farthest = _FARTHEST + _FARTHER_PER_S * (seconds - track.seconds)
            for column, person in enumerate(people):
                going, standing = (_cost(place, person, farthest) for place in (expected, track.seen))
                costs[row, column] = min(going, standing + _STOPPED) + _UNSEEN * track.missed
        pairs = zip(*optimize.linear_sum_assignment(costs), strict=True)
        return [(int(row), int(column)) for row, column in pairs if costs[row, column] < _IMPOSSIBLE]


def overlap(first: Float[np.ndarray, "4"], second: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes (x, y, width, height), in [0, 1]."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(first[2:]) + np.prod(second[2:])) - shared
    return shared / total if total > 0 else 0.0


def _cost(expected: Seen, seen: Seen, farthest: float) -> float:
    """From 0, for the same place, or `_IMPOSSIBLE`."""
    apart = 1 - overlap(expected.box, seen.box)
    shared = (expected.keypoints[:, 2] > 0) & (seen.keypoints[:, 2] > 0)
    if np.count_nonzero(shared) < _FEWEST_SHARED:
        return apart if apart <= 1 - _LEAST_OVERLAP else _IMPOSSIBLE
    distance = np.linalg.norm(expected.keypoints[shared, :2] - seen.keypoints[shared, :2], axis=1).mean()
    size = max(float(expected.box[2:].max()), float(seen.box[2:].max()), 1.0)
    far = float(distance) / size
    return (apart + far / _FARTHEST) / 2 if far <= farthest else _IMPOSSIBLE


def _displacement(before: Seen, after: Seen) -> Float[np.ndarray, "2"]:
    """How far a person moved, pixels: the mean of the shared keypoints, or else the middle of the box."""
    shared = (before.keypoints[:, 2] > 0) & (after.keypoints[:, 2] > 0)
    if np.count_nonzero(shared) >= _FEWEST_SHARED:
        step = (after.keypoints[shared, :2] - before.keypoints[shared, :2]).mean(axis=0)
    else:
        step = after.box[:2] + after.box[2:] / 2 - before.box[:2] - before.box[2:] / 2
    return step.astype(np.float64)
