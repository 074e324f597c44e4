"""One person over the frames of a video: n bodies that keep their order, smoothed, with gaps bridged.

A `Follower` takes the prediction of each frame while the video is decoded and holds a few of them; what is decided goes
to disk (`tracking.spool`), about 1 kB for each body and frame. `finish` filters it.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from multibodies_jax.body import smpl
from multibodies_jax.export import scene, weighting
from multibodies_jax.geometry import joints
from multibodies_jax.hypotheses import sharpening
from multibodies_jax.tracking import linking, smoothing, spool

Record = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """The n bodies of one person over time, the most probable first.

    Attributes:
      number: of the person in the video.
      rows: a structured array of T consecutive frames, read from disk: `frame` and `seconds`; `observed`, whether the
        person was predicted there, otherwise the gap was bridged; of the n bodies `index` (which of the M hypotheses, -1 in
        a gap), `probabilities` (they sum to 1), `rotations` (24 local ones, the root's relative to the camera) and
        `root` (place of the root joint before the camera, metres); `joint_spread` and `bone_spread` of the M hypotheses
        (metres, as `scene.Person`); `keypoints` (J24, pixels; zeros in a gap).
      betas: shape of each body, the same in all frames.
      taken_over: in how many frames new explanations replaced those before (`linking.link`).
    """

    number: int
    rows: np.ndarray
    betas: Float[np.ndarray, "n S"]
    taken_over: int


class Follower:
    """Links the predictions of one person, frame after frame.

    Args:
      number: of the person.
      n: bodies.
      body: that the predictions are of.
      folder: for the temporary file.
    """

    def __init__(self, number: int, n: int, body: smpl.SmplModel, folder: pathlib.Path):
        self.number, self.observed, self.taken_over = number, 0, 0
        self._body, self._folder = body, folder
        self._row = _row_type(n, body.shapedirs.shape[2])
        self._decided = spool.Spool(self._row, folder)
        self._chain = linking.Chain()
        self._centers: Float[np.ndarray, "n 24 3"] | None = None
        # Frame, seconds, and what was predicted there, of the frames that are not decided.
        self._pending: collections.deque[tuple[int, float, tuple[Record, linking.Linked] | None]] = collections.deque()

    def push(self, frame: int, seconds: float, record: Record | None) -> None:
        """Takes the next frame.

        Args:
          frame: its number; consecutive, and the first one has a record.
          seconds: its time.
          record: the prediction, with n representatives (`prediction_file.choose`); None where there is none.
        """
        if record is None:
            self._pending.append((frame, seconds, None))
            return
        centered = np.einsum("ab,mkb->mka", record["photo_rotation"], record["all_joints24"])
        linked = linking.link(self._centers, centered, weighting.weights_of(record), record["index"])
        prob = sharpening.sharpened(linked.probabilities, weighting.sharpness_of(record))
        linked = dataclasses.replace(linked, probabilities=np.asarray(prob, np.float64))
        self._centers = linked.centers
        self._chain.push(linked, centered)
        self._pending.append((frame, seconds, (record, linked)))
        self.observed += 1
        self.taken_over += linked.taken_over
        if len(self._chain) > linking.LAG:
            self._decide()

    def finish(self) -> Sequence:
        """Decides what is left, and filters the whole: `smoothing` says how. Frames after the last prediction are dropped."""
        while len(self._chain):
            self._decide()
        self._pending.clear()
        decided = self._decided.rows()
        observed = decided["observed"]
        order = np.argsort(-decided["probabilities"][observed].mean(axis=0), kind="stable")
        betas = decided["betas"][observed].mean(axis=0)[order]
        filled = self._bridge(decided, order, betas)
        return Sequence(self.number, self._smooth(filled), betas, self.taken_over)

    def _decide(self) -> None:
        """Writes the oldest frame with a prediction, and those without one before it."""
        index = self._chain.pop()
        while True:
            frame, seconds, predicted = self._pending.popleft()
            row = np.zeros((), self._row)
            row["frame"], row["seconds"] = frame, seconds
            if predicted is not None:
                self._fill(row, *predicted, index)
            else:
                row["index"] = -1
            self._decided.append(row)
            if predicted is not None:
                return

    def _fill(self, row: np.ndarray, record: Record, linked: linking.Linked, index: np.ndarray) -> None:
        chosen = {**record, "index": index, "probabilities": linked.probabilities}
        person = scene.build([chosen], self._body).people[0]
        bodies = [person.bodies[k] for k in person.choices[len(index)].bodies]
        row["observed"] = True
        row["index"], row["probabilities"] = index, linked.probabilities
        row["rotations"] = [body.rotations for body in bodies]
        row["root"] = [body.rest_joints[0] + body.translation for body in bodies]
        row["betas"] = record["all_betas"][index]
        row["joint_spread"], row["bone_spread"] = person.joint_spread, person.bone_spread
        row["keypoints"] = record["keypoints"]

    def _bridge(self, decided: np.ndarray, order: np.ndarray, betas: np.ndarray) -> np.ndarray:
        """All frames with one shape and the final order of the bodies; gaps are interpolated."""
        filled, observed = spool.Spool(self._row, self._folder), np.array(decided["observed"])
        size = skeleton_size(self._body, betas)
        for at in range(len(decided)):
            before, after = smoothing.neighbours(observed, at)
            row = self._ordered(np.array(decided[before]), order, betas, size)
            if before != after:
                ahead = self._ordered(np.array(decided[after]), order, betas, size)
                row = _between(row, ahead, np.array(decided[at]))
            filled.append(row)
        return filled.rows()

    def _ordered(self, row: np.ndarray, order: np.ndarray, betas: np.ndarray, size: np.ndarray) -> np.ndarray:
        """A row with its bodies in the order, of the shapes and, to look the same, as far away as their size demands."""
        result = row.copy()
        for name in ("index", "probabilities", "rotations", "root", "betas"):
            result[name] = row[name][order]
        result["root"] *= (size / skeleton_size(self._body, result["betas"]))[:, None]
        result["betas"] = betas
        return result

    def _smooth(self, filled: np.ndarray) -> np.ndarray:
        smooth, seconds = spool.Spool(self._row, self._folder), np.array(filled["seconds"])
        root = filled["root"].astype(np.float64)
        # Where a body stands in the image is far more certain than how far away, so the two are filtered apart.
        depth = np.maximum(root[..., 2:], 1e-3)
        place = smoothing.smooth_values(seconds, np.concatenate([root[..., :2] / depth, np.log(depth)], axis=-1))
        probabilities = smoothing.smooth_values(
            seconds, np.array(filled["probabilities"]), smoothing.WEIGHT_WIDTH_S, degree=0
        )
        for at in range(len(filled)):
            part, row = smoothing.window(seconds, at), np.array(filled[at]).copy()
            rotations = np.array(filled[part]["rotations"])
            row["rotations"] = smoothing.smooth_rotations(seconds[part], rotations, at - part.start)
            far = np.exp(place[at, :, 2:])
            row["root"] = np.concatenate([place[at, :, :2] * far, far], axis=-1)
            row["probabilities"] = probabilities[at] / probabilities[at].sum()
            smooth.append(row)
        return smooth.rows()


def _row_type(n: int, shape_components: int) -> np.dtype[Any]:
    return np.dtype(
        [
            *(("frame", "i8"), ("seconds", "f8"), ("observed", "?"), ("index", "i4", (n,))),
            *(("probabilities", "f4", (n,)), ("rotations", "f4", (n, 24, 3, 3)), ("root", "f4", (n, 3))),
            *(("betas", "f4", (n, shape_components)), ("joint_spread", "f4", (24,)), ("bone_spread", "f4", (24,))),
            ("keypoints", "f4", (24, 3)),
        ]
    )


def _between(before: np.ndarray, after: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The row of a gap, between the last one before it and the first one after it."""
    result = at.copy()
    share = float((at["seconds"] - before["seconds"]) / (after["seconds"] - before["seconds"]))
    for name in ("probabilities", "root", "betas", "joint_spread", "bone_spread"):
        result[name] = (1 - share) * before[name] + share * after[name]
    result["rotations"] = smoothing.between_rotations(before["rotations"], after["rotations"], share)
    return result


def skeleton_size(body: smpl.SmplModel, betas: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n"]:
    """Sum of the lengths of the bones of bodies of these shapes, metres."""
    rest = np.asarray(_rest_joints(body, jnp.asarray(betas, jnp.float32)), np.float64)
    bones = rest[:, 1:] - rest[:, list(joints.SMPL_PARENTS[1:])]
    return np.linalg.norm(bones, axis=-1).sum(axis=-1)


@jax.jit
def _rest_joints(body: smpl.SmplModel, betas):
    return smpl.shape(body, betas)[1]
