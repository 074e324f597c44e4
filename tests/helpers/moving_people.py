"""Walkers in a made video: a detector that knows where they are, and a model whose bodies move as it is written here.

The brightness of each frame says its number (`made_videos.counted`). Hypotheses have the hidden right arm in front or
behind, in an order that changes in every frame, with noise.
"""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax import detection
from multibodies_jax.body import body_files
from multibodies_jax.geometry import joints
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.prediction import people as people_lib
from multibodies_jax.prediction import prediction, prediction_file
from tests.helpers import made_predictions, made_videos, random_body

SIZE = (320, 240)
FPS = 25.0
M = 12
ARM = joints.SMPL24.index("right_shoulder")
SWING_RAD, MODE_RAD = 0.6, 1.0
FRONT_SHARE = 0.75
SETTINGS = {"reading": "paper", "weights": "prior", "temperature": 1.0, "starts": 4, "iterations": 10}
_HEIGHT_PX = 120.0


def video(path, frames=30, **options):
    """A video of `frames` frames."""
    return made_videos.write(path, made_videos.counted(frames, SIZE), fps=FPS, **options)


@functools.cache
def files():
    """The random body as body files."""
    model, contracted = made_predictions.body()
    regressor = np.zeros((49, 60))
    regressor[-24:] = random_body.make()[1]
    empty = np.zeros(144), np.zeros(10), np.zeros(3)
    described = body_files.BodyFiles(model, regressor, np.zeros((17, 60)), *empty, None, "a random body", "0" * 64)
    return described, contracted


def place(person, frame):
    """Where the middle of a walker is, pixels: the first goes right, the second left, and they cross."""
    return np.array([60 + 6.5 * frame, 115.0] if person == 0 else [250 - 6.5 * frame, 125.0])


def swing_rad(person, seconds):
    """The angle of the arm, without its mode."""
    return SWING_RAD * np.sin(2 * np.pi * np.asarray(seconds) + person)


@dataclasses.dataclass
class Detector:
    """Knows everybody; the walkers in `hidden[frame]` are not seen."""

    hidden: dict = dataclasses.field(default_factory=dict)
    walkers: int = 2

    def __call__(self, image):
        frame = made_videos.number(image)
        found = []
        for person in range(self.walkers):
            if person not in self.hidden.get(frame, ()):
                rng = np.random.default_rng((person, 7))
                shape = rng.uniform(-0.5, 0.5, (17, 2)) * (0.4 * _HEIGHT_PX, _HEIGHT_PX)
                points = (place(person, frame) + shape).astype(np.float32)
                low, high = points.min(0), points.max(0)
                box = (*low.tolist(), *(high - low).tolist())
                found.append(detection.Detection(points, np.ones(17, np.float32), box, 0.9))
        return found[:: 1 if frame % 2 else -1]


@dataclasses.dataclass
class Model:
    """Bodies of the walker whose keypoints it gets; `broken` frames give no prediction, `seen` collects what was asked."""

    noise: float = 0.0
    scale: float = 0.9  # Of the camera.
    broken: tuple = ()
    seen: list = dataclasses.field(default_factory=list)
    num_hypotheses: int = M
    needs_detector: bool = True

    @property
    def bodies(self):
        return types.SimpleNamespace(files=files()[0])

    def persons(self, asked, n, refine):
        return [self._person(one.image, one.person, one.name, one.index, n, one.lens, refine) for one in asked]

    def _person(self, image, person, name, index, n, lens, refine):
        frame = made_videos.number(image)
        self.seen.append((frame, index))
        if frame in self.broken:
            return ValueError("this frame is broken")
        center = people_lib.box(person, SIZE)[0]
        walker = int(np.linalg.norm(center - place(0, frame)) > np.linalg.norm(center - place(1, frame)))
        rng = np.random.default_rng((frame, walker))
        front = rng.permutation(np.arange(M)) < FRONT_SHARE * M
        angle = swing_rad(walker, frame / FPS) + np.where(front, MODE_RAD, -MODE_RAD) + rng.normal(0, self.noise, M)
        state = np.concatenate([np.tile([1.0, 0, 0, 1, 0, 0], 24), np.zeros(10), [self.scale, 0.0, 0.0]])
        state = np.tile(state, (M, 1)).astype(np.float32)
        cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(M)
        state[:, 6 * ARM : 6 * ARM + 6] = np.stack([cos, -sin, sin, cos, zero, zero], axis=1)
        found = hypotheses.decode(jnp.asarray(state), files()[1])
        found = dataclasses.replace(found, log_prior=jnp.zeros(M))
        about = {
            **{"image": name, "image_size": np.array(SIZE), "person": np.array(index), "body": "a random body"},
            **{"body_fingerprint": "0" * 64, "trained_on": "nothing", "commit": "abc", "refined": np.array(refine)},
        }
        box = people_lib.box(person, SIZE)
        record = prediction_file.describe(jax.tree.map(np.asarray, found), person, box, about, lens)
        return prediction.Prediction(prediction_file.choose(record, n, SETTINGS), files()[0])


def arm_rad(rotations):
    """The angle of the arm in rotations (..., 24, 3, 3)."""
    return np.arctan2(rotations[..., ARM, 1, 0], rotations[..., ARM, 0, 0])
