"""Sets of bodies of consecutive frames, linked so that body k stays the same explanation of the person.

Each frame has M weighted hypotheses and n representatives of its own, in an order of its own. `link` continues the n
clusters of the frame before: its centres start Lloyd's iterations on the new hypotheses, so that each cluster moves with
its explanation. Where the frame's own representatives describe its hypotheses clearly better, they take over, each in
the place of the centre that is nearest (Kuhn, 1955). `Chain` then picks, within each cluster, the hypotheses that move
most evenly with the cluster, over a window of a few frames (Viterbi, 1967).

Joints are centred on the mid-hip and in the axes of the photograph's camera, so that neither where a person stands nor
how its crop was made counts as a difference.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer
from scipy import optimize
from scipy.spatial import distance

LAG = 6
"""Frames that `Chain` looks ahead before it decides."""

_ITERATIONS = 5  # Of Lloyd's algorithm; from the frame before it converges in two or three.
_TAKE_OVER = 1.3  # The clusters continue unless the frame's own describe it this much better.
_MOTION = 4.0  # Weight of the motion relative to the centre of the cluster against the distance to the centre.


@dataclasses.dataclass(frozen=True, eq=False)
class Linked:
    """The n clusters of one frame, in the order of the frames before.

    Attributes:
      index: which hypotheses represent them, all different.
      centers: weighted mean of each cluster, metres.
      labels: the cluster of each hypothesis.
      probabilities: mass of each cluster; they sum to 1 (`Follower.push` sharpens them).
      taken_over: whether the frame's own representatives replaced clusters that no longer described it.
    """

    index: Integer[np.ndarray, "n"]
    centers: Float[np.ndarray, "n J 3"]
    labels: Integer[np.ndarray, "M"]
    probabilities: Float[np.ndarray, "n"]
    taken_over: bool


def link(
    before: Float[np.ndarray, "n J 3"] | None,
    joints: Float[np.ndarray, "M J 3"],
    weight: Float[np.ndarray, "M"],
    chosen: Integer[np.ndarray, "n"],
) -> Linked:
    """Continues the clusters of the frame before.

    Args:
      before: `Linked.centers` of the frame before; None in the first frame, whose representatives set the order.
      joints: of the hypotheses of this frame, metres.
      weight: of the hypotheses, eq (2); they sum to 1.
      chosen: the representatives that this frame has on its own, all different.
    """
    own = np.asarray(chosen)
    if before is None:
        return _describe(joints, weight, own, joints[own], False)
    own = own[optimize.linear_sum_assignment(_squared(before, joints[own]))[1]]
    centers = before
    for _ in range(_ITERATIONS):
        centers = _means(joints, weight, _squared(joints, centers).argmin(axis=1), centers)
    continued = optimize.linear_sum_assignment(_squared(centers, joints))[1]
    # Measured from representatives in both cases, so that means have no advantage over hypotheses.
    if _distortion(joints, weight, joints[continued]) <= _TAKE_OVER * _distortion(joints, weight, joints[own]):
        return _describe(joints, weight, continued, centers, False)
    return _describe(joints, weight, own, joints[own], True)


def _describe(joints, weight, index, centers, taken_over: bool) -> Linked:
    labels = _squared(joints, centers).argmin(axis=1)
    labels[index] = np.arange(len(index))  # Equal hypotheses may represent different clusters.
    probabilities = np.bincount(labels, weight, len(index))
    return Linked(index, _means(joints, weight, labels, centers), labels, probabilities, taken_over)


def _means(joints, weight, labels, otherwise):
    """Weighted mean of each cluster; where a cluster has no weight, what it was."""
    member = (labels == np.arange(len(otherwise))[:, None]) * weight
    mass = member.sum(axis=1)
    sums = np.einsum("nm,mka->nka", member, joints)
    return np.where((mass > 1e-12)[:, None, None], sums / np.maximum(mass, 1e-12)[:, None, None], otherwise)


def _distortion(joints, weight, centers) -> float:
    return float(weight @ _squared(joints, centers).min(axis=1))


def _squared(first: Float[np.ndarray, "A J 3"], second: Float[np.ndarray, "B J 3"]) -> Float[np.ndarray, "A B"]:
    """Mean squared distance of the joints, square metres."""
    flat = first.reshape(len(first), -1), second.reshape(len(second), -1)
    return distance.cdist(*flat, "sqeuclidean") / first.shape[1]


class Chain:
    """Picks a hypothesis of each cluster in each frame, `LAG` frames later; it holds the frames of its window only.

    A hypothesis costs its squared distance to the centre of its cluster, and `_MOTION` times the square of how that
    difference changes from frame to frame. What the whole cluster moves costs nothing, so that motions are not damped.
    """

    def __init__(self):
        # Of each frame and cluster the costs of the hypotheses, and of going on from one to another of the next frame.
        self._costs: collections.deque[list[Float[np.ndarray, "M"]]] = collections.deque()
        self._steps: collections.deque[list[Float[np.ndarray, "M M"]]] = collections.deque()
        self._newest: list[Float[np.ndarray, "M J 3"]] = []  # Joints relative to the centres in the newest frame.

    def __len__(self) -> int:
        """Frames in the window, not decided."""
        return len(self._costs)

    def push(self, linked: Linked, joints: Float[np.ndarray, "M J 3"]) -> None:
        """Adds the next frame.

        Args:
          linked: its clusters.
          joints: of its hypotheses; M is the same in all frames.
        """
        offsets = [joints - center for center in linked.centers]
        squared = [_squared(offset, np.zeros_like(offset[:1]))[:, 0] for offset in offsets]
        if self._costs:
            pairs = zip(self._newest, offsets, strict=True)
            self._steps.append([_MOTION * _squared(before, after) for before, after in pairs])
        self._costs.append([np.where(linked.labels == k, cost, np.inf) for k, cost in enumerate(squared)])
        self._newest = offsets

    def pop(self) -> Integer[np.ndarray, "n"]:
        """Decides the oldest frame of the window: the hypothesis of each cluster.

        Raises:
          IndexError: the window is empty.
        """
        picked = []
        for k in range(len(self._costs[0])):
            path = best_path([costs[k] for costs in self._costs], [steps[k] for steps in self._steps])
            picked.append(path[0])
        self._costs.popleft()
        if self._steps:  # The decision binds the next frame.
            for k, table in enumerate(self._steps.popleft()):
                self._costs[0][k] = self._costs[0][k] + table[picked[k]]
        return np.array(picked)


def best_path(costs: Sequence[Float[np.ndarray, "M"]], steps: Sequence[Float[np.ndarray, "M M"]]) -> list[int]:
    """The sequence of states with the lowest sum of costs (Viterbi, 1967).

    Args:
      costs: of each state at each of T times; infinite where a state is not possible, finite for one at least.
      steps: T - 1 tables: from the state in the row to the state in the column.
    """
    total, came_from = costs[0], []
    for cost, step in zip(costs[1:], steps, strict=True):
        reached = total[:, None] + step
        came_from.append(reached.argmin(axis=0))
        total = reached.min(axis=0) + cost
    path = [int(total.argmin())]
    for origin in reversed(came_from):
        path.append(int(origin[path[-1]]))
    return path[::-1]
