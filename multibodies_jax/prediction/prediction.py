"""What was predicted for one person: n weighted bodies, as arrays, meshes, pictures and files.

people = multibodies_jax.load_pretrained().predict("photo.jpg", n=5)
people[0].probabilities, people[0].joints        # (5,), (5, 24, 3) in metres before the photograph's camera
people[0].requantize(n=3).to_glb("three.glb")
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image

from multibodies_jax.body import body_files, smpl
from multibodies_jax.data import images
from multibodies_jax.export import glb, page, scene
from multibodies_jax.prediction import export_files, overlays, prediction_file


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """n weighted bodies of one person, the most probable first, and the M hypotheses that they stand for.

    Attributes:
      record: every array (docs/interfaces.md, section 10).
      body: the body model that shapes them.
      image: the upright photograph, for pictures and pages; None where a prediction was loaded without it.
    """

    record: prediction_file.Record
    body: body_files.BodyFiles
    image: UInt8[np.ndarray, "H W 3"] | None = None

    @property
    def name(self) -> str:
        """The photograph's name and the person's number: `photo_0`."""
        return f"{pathlib.Path(str(self.record['image'])).stem}_{int(self.record['person'])}"

    @property
    def n(self) -> int:
        """The number of bodies."""
        return len(self.record["index"])

    @property
    def probabilities(self) -> Float[np.ndarray, "n"]:
        """Of each body; they sum to 1 (eq (3), under the weights of `Predictor.weighted_by`; `sharpening.sharpened`)."""
        return self.record["probabilities"]

    @property
    def joints(self) -> Float[np.ndarray, "n 24 3"]:
        """J24 before the photograph's camera (x right, y down, z forward), metres."""
        points = self.record["joints24"] + self.record["midhip"][:, None]
        turned = np.einsum("ab,nkb->nka", self.record["photo_rotation"], points)
        return (turned + self.record["photo_translation"][:, None]).astype(np.float32)

    @property
    def keypoints(self) -> Float[np.ndarray, "24 3"]:
        """The evidence: x, y in pixels of the photograph, and 1 where the joint is known; J24."""
        return self.record["keypoints"]

    @property
    def warnings(self) -> str:
        """What is implausible of the person or the bodies, in sentences; empty where nothing is."""
        return str(self.record.get("warnings", ""))

    @property
    def faces(self) -> Int[np.ndarray, "F 3"]:
        """Triangles of `mesh`."""
        return np.asarray(self.body.smpl.faces, np.int64)

    @functools.cached_property
    def spread(self) -> Float[np.ndarray, "24"]:
        """Mean distance of each joint to its mean over the M weighted hypotheses, metres: large where nothing is seen."""
        return scene.build([self.record], self.body.smpl).people[0].joint_spread

    def mesh(self, k: int = 0) -> Float[np.ndarray, "V 3"]:
        """The vertices of body k before the photograph's camera, metres.

        Raises:
          IndexError: k is not in 0..n - 1.
        """
        if not 0 <= k < self.n:
            raise IndexError(f"Body {k} of {self.n}: the most probable one is 0, the last {self.n - 1}.")
        rotmats, betas = (jnp.asarray(self.record[name][k]) for name in ("rotmats", "betas"))
        vertices = np.asarray(smpl.mesh(self.body.smpl, rotmats, betas))
        return vertices @ self.record["photo_rotation"].T + self.record["photo_translation"][k]

    def requantize(self, n: int, weights: str | None = None) -> "Prediction":
        """Another number of bodies of the same hypotheses, without the network.

        Args:
          n: 1 to M.
          weights: of the hypotheses (`hypotheses.weight_kinds.KINDS`), at their temperature if the prediction knows it
            (`weighting.kept_temperature`); None are those that the prediction has.

        Raises:
          ValueError: n is not in 1..M, there are no such weights, or they need learned scores and there are none.
        """
        return dataclasses.replace(self, record=prediction_file.choose_again(self.record, n, weights))

    def save(self, path: str | os.PathLike) -> None:
        """Writes every array as .npz (docs/interfaces.md, section 10); `load` reads it again."""
        prediction_file.save(path, self.record)

    def picture(self) -> Image.Image:
        """The photograph with the evidence, and each body over it and from the side.

        Raises:
          ValueError: the photograph is not there.
        """
        return overlays.draw(self._photograph(), self.record, self.body.smpl)

    def to_glb(self, path: str | os.PathLike, spread_colors: bool = False) -> None:
        """Writes the bodies as skinned meshes for Blender, Unity and viewers (docs/files.md).

        Args:
          path: the file.
          spread_colors: colour the vertices by their spread over all hypotheses.
        """
        glb.write(export_files.make_scene([self.record], self.body, vertex_spread=spread_colors), path, spread_colors)

    def to_html(self, path: str | os.PathLike) -> None:
        """Writes one page that needs no network: photograph, bodies to turn, a slider for n, spread.

        Raises:
          ValueError: the photograph is not there.
        """
        page.write(scene_of([self]), self._photograph(), path)

    def _photograph(self) -> UInt8[np.ndarray, "H W 3"]:
        if self.image is None:
            raise ValueError(f"{self.name} was loaded without its photograph: give load(path, image=...).")
        return self.image


def load(
    path: str | os.PathLike,
    image: Shaped[np.ndarray, "..."] | None = None,
    body: body_files.BodyFiles | None = None,
) -> Prediction:
    """Reads what `save` or `multibodies predict` wrote.

    Args:
      path: the .npz file.
      image: the upright photograph, for pictures and pages: bytes, or floats from 0 to 1 (`images.to_bytes`).
      body: that it was predicted with; None is the embedded one.

    Raises:
      PredictionError: the file cannot be used, or is of another body.
      ImageError: the photograph is neither bytes nor floats from 0 to 1, (H, W, 3).
    """
    record = prediction_file.load(path)
    body = body_files.load("") if body is None else body
    export_files.check_body(path, record, body)
    return Prediction(record, body, None if image is None else images.to_bytes(image))


def scene_of(people: Sequence[Prediction]) -> scene.Scene:
    """The people of one photograph as one scene with sets of 1 to `export_files.MOST_BODIES` bodies, as pages show it."""
    records = [person.record for person in people]
    return export_files.make_scene(
        records, people[0].body, counts=range(1, export_files.MOST_BODIES + 1), vertex_spread=True
    )
