"""A prediction that is looked at and corrected: another n, joints put where they must be, and all of it undone.

session = Session(prediction.load("OUT/photo_0.npz"), multibodies_jax.load_pretrained())
session.place("left_wrist", (412.0, 230.0))      # pixels of the photograph; the set answers
session.undo(); session.set_n(3); session.save("OUT/photo_0.npz")

A placed joint is one more 2D keypoint, whether the joint is hidden, was seen elsewhere, or lies outside the image. Its
depth is not used: the prior and the other keypoints decide it. All M hypotheses are fitted anew to all keypoints, each
from where it was when the session began and pulled towards it (`fitting.refine`); they are scored by the prior and, where
the model has a score head that reads keypoints, by learned scores for all keypoints, and quantized under the weights of the
prediction. So the order in which joints are placed does not matter, and a hypothesis that cannot
follow is less probable only as far as its pose is, or as the score head foresees it.

A placed joint is certain, while a detected keypoint may be wrong. The robust term of a fit lets go of keypoints that are
far off (Geman and McClure); here it lets go `CERTAINTY` times later, and detected keypoints keep the weight that it gave
them when the session began, the median over the hypotheses.
"""

import dataclasses
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from multibodies_jax.export import camera, weighting
from multibodies_jax.fitting import objective, refine
from multibodies_jax.geometry import boxes, joints
from multibodies_jax.hypotheses.hypotheses import Hypotheses, projected_joints, zero_root_joints
from multibodies_jax.prediction import people, prediction_file
from multibodies_jax.prediction.evidence import evidence
from multibodies_jax.prediction.prediction import Prediction
from multibodies_jax.prediction.predictor import Predictor

CERTAINTY = 10.0
"""The robust term of a placed joint is half saturated at this many times the distance of a detected one."""

_SAME_PRIOR_NATS = 0.5  # Scores of one prior differ by less between devices and precisions.


class SessionError(ValueError):
    """What cannot be done with this prediction; the message says why."""


class Session:
    """A prediction, the model that can refine it, and what the user did so far.

    Attributes:
      prediction: as it is now.
      blocked: why no joint can be placed; empty where joints can be placed.
      note: that the model is not the one that made the prediction; empty where it is, as far as the scores tell.
    """

    def __init__(self, opened: Prediction, model: Predictor | None, reason: str = ""):
        """Begins with a prediction as it was read.

        Args:
          opened: with representatives.
          model: whose prior and factors of the fit are used; None allows another n only.
          reason: why there is no model.
        """
        self.prediction = opened
        self._past: list[Prediction] = []
        self._start = prediction_file.hypotheses_of(opened.record)
        self._start_keypoints = opened.record["keypoints"]
        self._start_focal = prediction_file.crop_focal(opened.record)
        lens = camera.Lens(float(opened.record["focal_px"]), str(opened.record["focal_source"]))
        self._focal = camera.crop_focal(lens, float(opened.record["box_scale"]))
        self._placed_before = opened.record["placed"] > 0
        self._model = model
        self.blocked, self.note = "", ""
        if model is None:
            self.blocked = f"Joints cannot be placed without a model. {reason}".strip()
        elif model.bodies.files.fingerprint != opened.body.fingerprint:
            self.blocked = (
                f"Joints cannot be placed: the model has the body {model.bodies.files.description}, the prediction "
                f"{opened.body.description}. Give the model's folder with --workdir=DIR."
            )
        elif (difference := self._score_difference(model)) > _SAME_PRIOR_NATS:
            self.note = (
                f"Another model made this prediction: its log p(X) differ from those of this model's prior by up to "
                f"{difference:.1f} nats. Placing a joint scores all hypotheses with this prior; --workdir=DIR takes another."
            )

    @property
    def n(self) -> int:
        """The number of bodies."""
        return self.prediction.n

    @property
    def num_hypotheses(self) -> int:
        """M."""
        return len(self.prediction.record["all_log_prior"])

    @property
    def placed(self) -> tuple[str, ...]:
        """The names of the joints that the user placed, in this session or before it."""
        marks = self.prediction.record["placed"]
        return tuple(name for name, mark in zip(joints.J24, marks, strict=True) if mark > 0)

    @property
    def steps_back(self) -> int:
        """How often `undo` can be called."""
        return len(self._past)

    def set_n(self, n: int) -> None:
        """Chooses another number of bodies from the same hypotheses.

        Raises:
          ValueError: n is not in 1..M, or the quantizer's settings in the file are damaged.
        """
        if n != self.n:
            self.prediction = self.prediction.requantize(n)

    def place(self, joint: str, pixel: Sequence[float] | Float[np.ndarray, "2"]) -> None:
        """Says where a joint is; the hypotheses are fitted, scored and quantized with it.

        Args:
          joint: a name of J24.
          pixel: x, y in the photograph; outside of it by its own size at most.

        Raises:
          SessionError: there is no model that fits (`blocked`), no such joint, or no such pixel.
        """
        if self._model is None or self.blocked:
            raise SessionError(self.blocked)
        if joint not in joints.J24:
            raise SessionError(f"There is no joint {joint!r}; the joints are {', '.join(joints.J24)}.")
        xy = np.asarray(pixel, np.float32)
        record = self.prediction.record
        size = np.asarray(record["image_size"], np.float32)
        if xy.shape != (2,) or not np.isfinite(xy).all() or (xy < -size).any() or (xy > 2 * size).any():
            raise SessionError(
                f"{joint} cannot be at {xy.tolist()}: expected x and y in pixels of the photograph, which has "
                f"{int(size[0])} x {int(size[1])}, or next to it by its own size at most."
            )
        keypoints, placed = record["keypoints"].astype(np.float32), record["placed"].astype(np.float32)
        index = joints.J24.index(joint)
        keypoints[index], placed[index] = (*xy, 1.0), 1.0
        fitted = self._fit(self._model, keypoints, placed > 0)
        answer = self._describe(fitted, keypoints, placed)
        self._past.append(self.prediction)
        self.prediction = answer

    def undo(self) -> None:
        """Takes the last placed joint back; n stays.

        Raises:
          SessionError: nothing was placed in this session.
        """
        if not self._past:
            raise SessionError("There is nothing to undo: no joint was placed in this session.")
        n = self.n
        self.prediction = self._past.pop()
        self.set_n(n)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the prediction as it is now, with the placed joints among its keypoints.

        Raises:
          OSError: it cannot be written.
        """
        self.prediction.save(path)

    def prepare(self, counts: Sequence[int]) -> None:
        """Compiles what answers need, so that the first one does not wait for it.

        Args:
          counts: numbers of bodies that will be asked for; those above M are left out.
        """
        if self._model is not None and not self.blocked:
            record = self.prediction.record
            jax.block_until_ready(self._fit(self._model, record["keypoints"], record["placed"] > 0))
        for n in counts:
            if n <= self.num_hypotheses:
                self.prediction.requantize(n)

    def pixel_of(self, point: Sequence[float] | Float[np.ndarray, "3"]) -> Float[np.ndarray, "2"]:
        """Where the photograph's camera sees a point of its frame (x right, y down, z forward, metres).

        Raises:
          SessionError: the point is not in front of the camera.
        """
        p = np.asarray(point, np.float64)
        if p.shape != (3,) or not np.isfinite(p).all() or p[2] <= 0:
            raise SessionError(f"The point {p.tolist()} is not in front of the camera.")
        record = self.prediction.record
        return (record["principal_point"] + float(record["focal_px"]) * p[:2] / p[2]).astype(np.float32)

    def _fit(self, model: Predictor, keypoints: Float[np.ndarray, "24 3"], placed: np.ndarray) -> Hypotheses:
        """The hypotheses of the start, fitted to keypoints and placed joints and scored, leading axes (1, M)."""
        settings = model.fitting_settings
        weights = settings.weights
        points = self._to_crop(keypoints)
        trust = np.where(placed, 1.0, self._trust(float(weights.sigma)))
        # With c times the sigma and c^2 times the confidence the term is the same near the keypoint, and is half
        # saturated at c times the distance.
        confidence = (keypoints[:, 2] * trust * CERTAINTY**2).astype(np.float32)
        certain = dataclasses.replace(weights, sigma=CERTAINTY * weights.sigma)
        steps = settings.steps or refine.Settings().steps  # A model that does not refine predictions has 0.
        certain = refine.Settings(certain, steps)
        keypoints_and_trust = points[None], confidence[None]
        start = self._scored(model, keypoints)
        return refine.refine(start, *keypoints_and_trust, model.bodies.j24, model.log_prob, certain, self._focal)

    def _scored(self, model: Predictor, keypoints: Float[np.ndarray, "24 3"]) -> Hypotheses:
        """The hypotheses of the start with the learned scores that the network gives them for other keypoints."""
        start = self._start
        if start.log_scores is None or not model.has_scores or model.sees_pixels:
            return start
        if model.num_hypotheses != self.num_hypotheses:
            return start
        record = self.prediction.record
        box, name = (record["box_center"], float(record["box_scale"])), f"{record['image']}/{record['person']}"
        inputs = evidence(np.zeros((1, 1, 3), np.uint8), people.Person(keypoints), box, name, 0)
        return dataclasses.replace(start, log_scores=model.infer(inputs).log_scores)

    def _trust(self, sigma: float) -> Float[np.ndarray, "24"]:
        """Weight of each keypoint of the start in the robust term, at the median of the hypotheses' distances."""
        start = self._start
        shown = projected_joints(start, self._start_focal)
        error = np.linalg.norm(np.asarray(shown[0]) - self._to_crop(self._start_keypoints), axis=2) / sigma
        return np.where(self._placed_before, 1.0, 1 / (1 + np.median(error, axis=0) ** 2 / objective.CUT) ** 2)

    def _to_crop(self, keypoints: Float[np.ndarray, "24 3"]) -> Float[np.ndarray, "24 2"]:
        """Pixels of the photograph in the crop's [-1, 1]."""
        record = self.prediction.record
        return (keypoints[:, :2] - record["box_center"]) / boxes.half_side(record["box_scale"])

    def _describe(
        self, fitted: Hypotheses, keypoints: Float[np.ndarray, "24 3"], placed: Float[np.ndarray, "24"]
    ) -> Prediction:
        """The prediction with other hypotheses of the same person."""
        record = self.prediction.record
        kept = ("image", "image_size", "person", "body", "body_fingerprint", "trained_on", "commit")
        about = {name: record[name] for name in kept} | {"placed": placed, "refined": np.array(True)}
        lens = camera.Lens(float(record["focal_px"]), str(record["focal_source"]))
        box = record["box_center"], float(record["box_scale"])
        one = jax.tree.map(lambda leaf: leaf[0], fitted)
        person = people.Person(keypoints, annotation=str(record["annotation"]))
        described = prediction_file.describe(one, person, box, about, lens, self._focal)
        settings = {name: record[name] for name in ("quantizer", "temperatures", "sharpness")}
        if not record["refined"]:
            settings = weighting.without_sharpness(settings)  # It does not hold of fitted bodies.
        chosen = prediction_file.choose_again(described | settings, self.n)
        return dataclasses.replace(self.prediction, record=chosen)

    def _score_difference(self, model: Predictor) -> float:
        """The largest difference of the stored log p(X) to those under the model's prior, nats."""
        scores = jax.jit(model.log_prob)(zero_root_joints(self._start).reshape(-1, 72))
        return float(jnp.max(jnp.abs(scores - self._start.log_prior[0])))
