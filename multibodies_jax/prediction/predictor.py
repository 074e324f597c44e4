"""A trained work directory as a function: an image or keypoints in, a set of weighted bodies out.

model = multibodies_jax.load("runs/demo")
hyps = model.hypotheses(keypoints=points)           # (1, M), scored by the prior
chosen = model.quantize(hyps, n=5)                  # which 5, and their probabilities
vertices = model.mesh(multibodies_jax.pick(hyps, chosen.medoid))      # (1, 5, V, 3), metres
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from configs import default
from multibodies_jax.batch import Inputs
from multibodies_jax.body import smpl
from multibodies_jax.hypotheses import quantize
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.prediction import people
from multibodies_jax.prediction.evidence import evidence
from multibodies_jax.training import config_versions, inference, prior, provenance, setup


@dataclasses.dataclass(frozen=True)
class Predictor:
    """The regressor, the prior and the quantizer of a work directory; made by `load`.

    Attributes:
      config: of the experiment.
      tuned: what evaluation chose on the validation split: `temperature`; empty before an evaluation.
      bodies: the body with its joint regressors.
      num_hypotheses: M.
      infer: inputs -> scored hypotheses (B, M); compiled at the first call.
    """

    config: Any
    tuned: Mapping[str, Any]
    bodies: setup.Bodies
    num_hypotheses: int
    infer: Callable[[Inputs], Hypotheses]

    @property
    def crop_size(self) -> int:
        """Side of the crop that the network sees, in pixels; 0 for a network that sees keypoints only."""
        return 0 if self.config.model.trunk == "keypoints" else self.config.model.crop_size

    @property
    def sees_pixels(self) -> bool:
        """Whether the network reads an image; otherwise it reads 2D keypoints."""
        return self.crop_size > 0

    def hypotheses(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None = None,
        keypoints: Float[np.ndarray, "24 3"] | None = None,
        name: str = "",
    ) -> Hypotheses:
        """All M bodies of one person, scored by the prior.

        Args:
          image: the upright image, for a network that sees pixels.
          keypoints: J24, in pixels of the image: x, y, and 1 where the joint is known (0, 0, 0 elsewhere). Two or more
            of them place the crop; without them it is the whole image.
          name: of the person; baselines that draw their hypotheses draw them by it.

        Returns:
          The hypotheses, leading axes (1, M).

        Raises:
          ValueError: what the network reads is missing.
        """
        if self.sees_pixels and image is None:
            raise ValueError("This model sees pixels: give an image.")
        known = np.zeros((24, 3), np.float32) if keypoints is None else np.asarray(keypoints, np.float32)
        if image is None:
            if np.count_nonzero(known[:, 2] > 0) < 2:
                raise ValueError("This model sees keypoints, not pixels: give two or more known keypoints.")
            image = np.zeros((1, 1, 3), np.uint8)
        person = people.Person(known)
        box = people.box(person, (image.shape[1], image.shape[0]))
        inputs = evidence(
            image,
            person,
            box,
            name,
            self.crop_size,
            self.config.data.crop,
            self.config.data.get("contrast_stretch", False),
        )
        return self.infer(inputs)

    def quantize(self, hypotheses: Hypotheses, n: int, seed: int = 0) -> quantize.Quantized:
        """Chooses n representatives with their probabilities (eqs (2), (3)), with the quantizer of the config.

        Args:
          hypotheses: leading axes (B, M), scored.
          n: 1 to M.
          seed: of the quantizer's starts.

        Raises:
          ValueError: n is not in 1..M, or the temperature is to be the one that evaluation chose and none is stored.
        """
        keys = jax.random.split(jax.random.key(seed), hypotheses.log_prior.shape[0])
        return quantize.select(hypotheses, n, keys, **self.quantizer_settings())

    def mesh(self, hypotheses: Hypotheses) -> Float[Array, "*batch V 3"]:
        """The vertices of bodies, metres, in the frame of `joints24` (mid-hip centred)."""
        vertices = smpl.mesh(self.bodies.smpl, hypotheses.rotmats, hypotheses.betas)
        return vertices - hypotheses.midhip[..., None, :]

    def quantizer_settings(self) -> dict[str, Any]:
        """Settings of `quantize.select`; without a temperature in the config, the one that evaluation tuned on validation.

        Raises:
          ValueError: the temperature is to be tuned, and no evaluation did so.
        """
        q = self.config.quantizer
        temperature = q.temperature
        if self.num_hypotheses == 1:
            temperature = 1.0  # Nothing is weighted.
        elif not temperature:
            temperature = self.tuned.get("temperature")
            if temperature is None:
                raise ValueError(
                    "config.quantizer.temperature = None takes the one chosen by evaluation, and the work directory has "
                    "no results.json with one: run `multibodies evaluate` first, or set a temperature."
                )
        return {
            "reading": q.reading,
            "weights": q.weights,
            "temperature": float(temperature),
            "starts": q.starts,
            "iterations": q.iterations,
        }


def load(workdir: str | os.PathLike, config: Any = None) -> Predictor:
    """Restores what was trained in a work directory.

    Args:
      workdir: of `multibodies train`, or of `multibodies convert`.
      config: of the experiment; None takes the one stored in the work directory.

    Raises:
      ValueError: nothing was trained there, or with another config.
      CheckpointError: a checkpoint is damaged, of another body, or of another architecture.
    """
    workdir = pathlib.Path(workdir)
    if config is None:
        config = stored_config(workdir)
    provenance.check_workdir(config, workdir)
    bodies = setup.load_bodies(config)
    regressor = inference.restore(config, workdir / "checkpoints", bodies)
    density = prior.load_prior(config, workdir, bodies)
    infer = functools.partial(inference.hypothesize, regressor, density)
    return Predictor(config, tuned(workdir), bodies, regressor.num_hypotheses, infer)


def tuned(workdir: pathlib.Path) -> dict[str, Any]:
    """What the evaluation of a work directory chose on the validation split; empty before an evaluation."""
    path = workdir / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    return {name: results[name] for name in ("temperature",) if results.get(name) is not None}


def stored_config(workdir: pathlib.Path) -> Any:
    """The config of a work directory, of any version; fields that are not stored are at their defaults.

    Raises:
      ValueError: there is none.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ValueError(f"{workdir} has no config.json: give a folder that `multibodies train` or `convert` made.")
    return config_of(json.loads(path.read_text()))


def config_of(stored: Mapping[str, Any]) -> Any:
    """The config that was stored as JSON by any version; fields that are not stored are at their defaults."""
    stored = {name: value for name, value in stored.items() if name != "converted"}  # The origin of converted weights.
    config = default.get_config().unlock()
    for field, value in config_versions.modern(stored).items():
        *parents, name = field.split(".")
        part = config
        for parent in parents:
            if parent not in part:
                part[parent] = ConfigDict()
            part = part[parent]
        part[name] = tuple(value) if isinstance(value, list) else value
    return config.lock()
