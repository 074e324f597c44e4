"""A trained model as a function: a photograph, an image or keypoints in, a set of weighted bodies out.

model = multibodies_jax.load_pretrained()           # or multibodies_jax.load("runs/demo")
people = model.predict("photo.jpg", n=5)            # people[0].probabilities, .joints, .mesh(k), .to_glb("set.glb")

hyps = model.hypotheses(keypoints=points)           # in steps: (1, M), scored by the prior
chosen = model.quantize(hyps, n=5)                  # which 5, and their probabilities
vertices = model.mesh(multibodies_jax.pick(hyps, chosen.medoid))      # (1, 5, V, 3), metres
"""

import copy
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8

from configs import default
from multibodies_jax import detection, devices, untrusted
from multibodies_jax.batch import Inputs
from multibodies_jax.body import smpl
from multibodies_jax.data import images
from multibodies_jax.export import camera
from multibodies_jax.fitting import objective
from multibodies_jax.fitting import refine as refine_lib
from multibodies_jax.geometry import cameras
from multibodies_jax.hypotheses import quantize, weight_kinds
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.hypotheses.quantize import Quantized
from multibodies_jax.models import build
from multibodies_jax.prediction import detected, prediction, prediction_file
from multibodies_jax.prediction import people as people_lib
from multibodies_jax.prediction.evidence import evidence
from multibodies_jax.training import config_checks, inference, prior, provenance, setup, tuned


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A person for whom bodies are asked.

    Attributes:
      image: the upright photograph.
      person: with known keypoints, or a box.
      name: of the photograph; with `index` it seeds all that is drawn.
      index: of the person in the photograph.
      lens: of the photograph.
    """

    image: UInt8[np.ndarray, "H W 3"]
    person: people_lib.Person
    name: str
    index: int
    lens: camera.Lens


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """A person whom the network can read: box of the crop, inputs (B = 1), and how the hypotheses are fitted."""

    asked: Asked
    person: people_lib.Person
    box: tuple[Any, float]
    inputs: Inputs
    refine: bool
    focal: float


@dataclasses.dataclass(frozen=True)
class Predictor:
    """The regressor, the prior and the quantizer of a work directory; made by `load`.

    Attributes:
      config: of the experiment.
      tuned: what evaluation chose on the validation split: `temperature`, `temperatures` by the kind of weights, and
        `fitting` if it had the row "refined"; empty before an evaluation.
      bodies: the body with its joint regressors.
      num_hypotheses: M.
      infer: inputs -> scored hypotheses (B, M); compiled at the first call.
      density: p(X), which scores hypotheses that were refined.
      has_scores: the network has a score head (`models.scores`), so that its hypotheses have learned probabilities.
    """

    config: Any
    tuned: Mapping[str, Any]
    bodies: setup.Bodies
    num_hypotheses: int
    infer: Callable[[Inputs], Hypotheses]
    density: prior.Prior
    has_scores: bool = False

    @property
    def crop_size(self) -> int:
        """Side of the crop that the network sees, in pixels; 0 for a network that sees keypoints only."""
        return 0 if self.config.model.trunk == "keypoints" else self.config.model.crop_size

    @property
    def sees_pixels(self) -> bool:
        """Whether the network reads an image; otherwise it reads 2D keypoints."""
        return self.crop_size > 0

    @property
    def needs_detector(self) -> bool:
        """Whether a detector has to find the people whom no file lists.

        A network of keypoints needs theirs. One that reads the image takes all of it for one person, unless its trunk is the
        detector's own network, so that the detector is there.
        """
        return not self.sees_pixels or build.TRUNKS[self.config.model.trunk].published is not None

    def weighted_by(self, kind: str) -> "Predictor":
        """The same model, whose hypotheses are weighted otherwise than its config says (`config.quantizer.weights`).

        Args:
          kind: one of `hypotheses.weight_kinds.KINDS`.

        Raises:
          ValueError: there is no such kind, or it needs learned scores and the model has none.
        """
        if kind not in weight_kinds.KINDS:
            raise ValueError(f"There are no weights {kind!r}: choose one of {', '.join(weight_kinds.KINDS)}.")
        if weight_kinds.reads_scores(kind) and not self.has_scores:
            raise ValueError(
                f"The weights {kind!r} need learned scores, and this model has no score head: train one with a config "
                "that has model.scores (configs/demo.py, or those built upon it), or take the weights 'prior'."
            )
        config = copy.deepcopy(self.config).unlock()
        config.quantizer.weights = kind
        return dataclasses.replace(self, config=config.lock())

    def hypotheses(
        self,
        image: Shaped[np.ndarray, "..."] | None = None,
        keypoints: Float[np.ndarray, "24 3"] | None = None,
        name: str = "",
        refined: bool = False,
    ) -> Hypotheses:
        """All M bodies of one person, scored by the prior.

        Args:
          image: the upright image, for a network that sees pixels: bytes, or floats from 0 to 1 (`images.to_bytes`).
          keypoints: J24, in pixels of the image: x, y, and 1 where the joint is known (0, 0, 0 elsewhere). Two or more
            of them place the crop; without them it is the whole image.
          name: of the person; baselines that draw their hypotheses draw them by it.
          refined: fits them to the known keypoints (`infer_refined`), as `multibodies predict` does.

        Returns:
          The hypotheses, leading axes (1, M).

        Raises:
          ValueError: what the network reads is missing.
          ImageError: the image is neither bytes nor floats from 0 to 1, (H, W, 3).
          PeopleError: the keypoints are no pixels of the image (`people.check_keypoints`, `check_inside`).
        """
        if self.sees_pixels and image is None:
            raise ValueError("This model sees pixels: give an image.")
        known = people_lib.check_keypoints(np.zeros((24, 3)) if keypoints is None else keypoints)
        if image is None:
            if np.count_nonzero(known[:, 2] > 0) < 2:
                raise ValueError("This model sees keypoints, not pixels: give two or more known keypoints.")
            people_lib.check_pixels(people_lib.Person(known))
            image = np.zeros((1, 1, 3), np.uint8)
        else:
            image = images.to_bytes(image)
            people_lib.check_inside(people_lib.Person(known), (image.shape[1], image.shape[0]))
        person = people_lib.Person(known)
        box = people_lib.box(person, (image.shape[1], image.shape[0]))
        infer = self.infer_refined if refined else self.infer
        return infer(self._see(image, person, box, name))

    def predict(
        self,
        image: str | os.PathLike | Shaped[np.ndarray, "..."],
        people: Sequence[people_lib.Person] | None = None,
        n: int = 5,
        refine: bool = True,
        focal_px: float | int | None = None,
        detector: detection.Detector | None = None,
    ) -> list[prediction.Prediction]:
        """n weighted bodies for each person of a photograph.

        Args:
          image: an image file, or an upright RGB image (H, W, 3): bytes, or floats from 0 to 1 (`images.to_bytes`).
          people: with their keypoints; None asks the detector or, where `needs_detector` is false, takes one person,
            whose box is the image.
          n: bodies per person, 1 to M.
          refine: fit the hypotheses to the visible keypoints first.
          focal_px: of the photograph, pixels; None takes EXIF's, or assumes one (`export.camera`).
          detector: None is MoveNet.

        Returns:
          One prediction per person, in the order of `people` or from left to right.

        Raises:
          ImageError: the file is no image, or the array has another shape, type or range.
          PeopleError: the detector finds no person who can be used; the message says what it saw.
          DetectorMissing: its files are not there; the message says the command that gets them.
          ValueError: n is not in 1..M, or a person has too few known keypoints.
        """
        if isinstance(image, (str, os.PathLike)):
            name = pathlib.Path(image).name
            pixels = images.load_image(image)
            lens = camera.lens_of_photo(image, focal_px)
        else:
            name, pixels = "image", images.to_bytes(image)
            lens = camera.lens(pixels.shape[1::-1], focal_px)
        if people is None:
            seen, notes = detected.find(pixels, detected.detector_for(self.needs_detector, detector))
            if not (people := seen.people):
                raise people_lib.PeopleError(f"{name}: {' '.join(notes)} Give the people with their keypoints.")
        answers = self.persons([Asked(pixels, one, name, k, lens) for k, one in enumerate(people)], n, refine)
        found = [answer for answer in answers if isinstance(answer, prediction.Prediction)]
        for answer in answers:
            if isinstance(answer, ValueError):
                raise answer
        return found

    def person(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        person: people_lib.Person,
        name: str,
        index: int,
        n: int,
        lens: camera.Lens,
        refine: bool = True,
    ) -> prediction.Prediction:
        """n weighted bodies of one person; the arguments are those of `Asked` and of `persons`.

        Raises:
          ValueError: n is not in 1..M; the person cannot be used; or the network's answer is not finite.
        """
        answer = self.persons([Asked(image, person, name, index, lens)], n, refine)[0]
        if isinstance(answer, ValueError):
            raise answer
        return answer

    def persons(self, asked: Sequence[Asked], n: int, refine: bool = True) -> list[prediction.Prediction | ValueError]:
        """n weighted bodies of each person: of as many at once as there are devices, one on each.

        Args:
          asked: people, of one photograph or of several.
          n: 1 to M.
          refine: fit the hypotheses to the known keypoints first.

        Returns:
          For each of them a prediction, or what is wrong: n is not in 1..M; the person cannot be used; or the network's
          answer is not finite. None depends on the others.
        """
        answers: list[prediction.Prediction | ValueError] = []
        for first in range(0, len(asked), devices.count()):
            together = [self._seen(one, refine) for one in asked[first : first + devices.count()]]
            found = iter(self._fitted([seen for seen in together if isinstance(seen, _Seen)]))
            for seen in together:
                answers.append(self._chosen(seen, next(found), n) if isinstance(seen, _Seen) else seen)
        return answers

    def _seen(self, asked: Asked, refine: bool) -> "_Seen | ValueError":
        """What the network reads of a person, or why the person cannot be used."""
        try:
            person = dataclasses.replace(asked.person, keypoints=people_lib.check_keypoints(asked.person.keypoints))
            size = asked.image.shape[1], asked.image.shape[0]
            people_lib.check_inside(person, size)
            box = people_lib.box(person, size)
            inputs = self._see(asked.image, person, box, f"{asked.name}/{asked.index}")
        except ValueError as error:
            return error
        refine = refine and self.config.fitting.steps > 0 and bool((person.keypoints[:, 2] > 0).any())
        focal = camera.crop_focal(asked.lens, box[1]) if refine else cameras.FOCAL
        return _Seen(asked, person, box, inputs, refine, focal)

    def _fitted(self, people: Sequence["_Seen"]) -> list[Hypotheses]:
        """The hypotheses, leading axis M, of at most as many people as there are devices, in arrays of the host."""
        if not people:
            return []
        rows = [*people, *[people[-1]] * (devices.count() - len(people))]
        inputs = rows[0].inputs
        if len(rows) > 1:
            inputs = devices.split(jax.tree.map(lambda *leaves: np.concatenate(leaves), *[row.inputs for row in rows]))
        found = self.infer(inputs)
        by_refined = {False: found}
        if any(one.refine for one in people):
            by_refined[True] = self._refined(found, inputs, np.array([row.focal for row in rows], np.float32))
        by_refined = jax.device_get(by_refined)
        return [jax.tree.map(lambda leaf, k=k: leaf[k], by_refined[one.refine]) for k, one in enumerate(people)]

    def _chosen(self, seen: "_Seen", hypotheses: Hypotheses, n: int) -> prediction.Prediction | ValueError:
        """The prediction of a person, or why there is none."""
        asked, facts = seen.asked, provenance.metadata(self.config, self.bodies)
        about = {key: facts[key] for key in ("body", "body_fingerprint", "commit")} | {
            "trained_on": self.trained_on,
            "image": asked.name,
            "image_size": np.array(asked.image.shape[1::-1]),
            "person": np.array(asked.index),
            "refined": np.array(seen.refine),
            "temperatures": np.array(json.dumps(self.temperatures(seen.refine))),
            "sharpness": np.array(json.dumps(self.sharpness(seen.refine))),
        }
        try:
            record = prediction_file.describe(hypotheses, seen.person, seen.box, about, asked.lens, seen.focal)
            record = prediction_file.choose(record, n, self.quantizer_settings(seen.refine))
        except ValueError as error:
            return error
        return prediction.Prediction(record, self.bodies.files, asked.image)

    def infer_refined(self, inputs: Inputs, focal: float = cameras.FOCAL) -> Hypotheses:
        """As `infer`, then every hypothesis is fitted to the visible keypoints (`fitting.refine`) and scored anew.

        The factors are those of `config.fitting`; what it leaves open is what evaluation chose, or else the default of
        `fitting.objective.Weights`. With `config.fitting.steps` of 0, the hypotheses are the network's.

        Args:
          inputs: of the network.
          focal: of the crop's camera, in half-sides of the crop; the refined `cam` has it, too.
        """
        hypotheses = self.infer(inputs)
        return self._refined(hypotheses, inputs, focal) if self.config.fitting.steps else hypotheses

    def _refined(self, hypotheses: Hypotheses, inputs: Inputs, focal: Float[np.ndarray, "B"] | float) -> Hypotheses:
        keypoints = inputs.evidence, inputs.kp2d_input
        return refine_lib.refine(hypotheses, *keypoints, self.bodies.j24, self.log_prob, self.fitting_settings, focal)

    @property
    def fitting_settings(self) -> refine_lib.Settings:
        """How this model's hypotheses are fitted to keypoints (`infer_refined`)."""
        chosen = self.tuned.get("fitting", {})
        given = {name: default.optional(self.config, f"fitting.{name}") for name in ("prior", "anchor")}
        factors = {name: chosen.get(name) if factor is None else factor for name, factor in given.items()}
        weights = objective.Weights(**{name: factor for name, factor in factors.items() if factor is not None})
        return refine_lib.Settings(weights, self.config.fitting.steps)

    @property
    def log_prob(self) -> jax.tree_util.Partial:
        """log p(X) as `fitting` takes it: a function with the variables of the prior."""
        return jax.tree_util.Partial(type(self.density).log_prob, self.density)

    @property
    def trained_on(self) -> str:
        """What a result says about the training data."""
        sets = self.config.data.sets
        if sets is None:
            people = self.config.data.people
            named = people.partition("/")[0] in ("synthetic_poses", "amass")  # A dataset; else a file of poses.
            return f"virtual views of {people if named else pathlib.PurePath(people).name}"
        return "synthetic people" if all(name.startswith("synthetic") for name in sets) else ", ".join(sets)

    def _see(
        self, image: UInt8[np.ndarray, "H W 3"], person: people_lib.Person, box: tuple[Any, float], name: str
    ) -> Inputs:
        """What the network reads of a person."""
        stretch = default.optional(self.config, "data.contrast_stretch")
        return evidence(image, person, box, name, self.crop_size, default.optional(self.config, "data.crop"), stretch)

    def quantize(self, hypotheses: Hypotheses, n: int, seed: int = 0, refined: bool = False) -> Quantized:
        """Chooses n representatives with their probabilities (eqs (2), (3)), with the quantizer of the config.

        Args:
          hypotheses: leading axes (B, M), scored.
          n: 1 to M.
          seed: of the quantizer's starts.
          refined: whether the hypotheses were fitted to keypoints (`infer_refined`), for which other settings were chosen.

        Raises:
          ValueError: n is not in 1..M, or the temperature is to be the one that evaluation chose and none is stored.
        """
        keys = jax.random.split(jax.random.key(seed), hypotheses.log_prior.shape[0])
        return quantize.select(hypotheses, n, keys, **self.quantizer_settings(refined))

    def mesh(self, hypotheses: Hypotheses) -> Float[Array, "*batch V 3"]:
        """The vertices of bodies, metres, in the frame of `joints24` (mid-hip centred)."""
        vertices = smpl.mesh(self.bodies.smpl, hypotheses.rotmats, hypotheses.betas)
        return vertices - hypotheses.midhip[..., None, :]

    def quantizer_settings(self, refined: bool = False) -> dict[str, Any]:
        """Settings of `quantize.select`; without a temperature in the config, the one that evaluation tuned on validation.

        Args:
          refined: takes temperature and sharpness that were chosen for refined hypotheses, if they were.

        Raises:
          ValueError: the temperature is to be tuned, and no evaluation did so.
        """
        q = self.config.quantizer
        kind = q.weights if self.num_hypotheses > 1 else "prior"
        temperature = self._temperature(kind, refined)
        if temperature is None:
            raise ValueError(
                "config.quantizer.temperature = None takes the one chosen by evaluation, and the work directory has "
                "no results.json with one: run `multibodies evaluate` first, or set a temperature."
            )
        return {
            "reading": q.reading,
            "weights": kind,
            "temperature": temperature,
            "sharpness": self.sharpness(refined).get(kind, 1.0),
            "starts": q.starts,
            "iterations": q.iterations,
        }

    def temperatures(self, refined: bool = False) -> dict[str, float]:
        """The temperature of each kind of weights for which there is one: what `weighted_by` that kind would use.

        Args:
          refined: as of `quantizer_settings`.
        """
        found = {kind: self._temperature(kind, refined) for kind in weight_kinds.KINDS}
        return {kind: temperature for kind, temperature in found.items() if temperature is not None}

    def sharpness(self, refined: bool = False) -> dict[str, float]:
        """The sharpness of probabilities under each kind of weights for which evaluation fitted one; of others it is 1.

        Where the config gives a temperature, none is used: it was fitted to clusters under the chosen one.

        Args:
          refined: as of `quantizer_settings`; what was fitted before the fit of the bodies does not hold after it.
        """
        if self.num_hypotheses == 1 or self.config.quantizer.temperature:
            return {}
        chosen = self.tuned.get("fitting", {}) if refined and self.config.fitting.steps else self.tuned
        return {kind: float(value) for kind, value in chosen.get("sharpness", {}).items()}

    def _temperature(self, kind: str, refined: bool) -> float | None:
        """The factor on the log-prior under a kind of weights; None where evaluation was to choose one and did not."""
        if self.num_hypotheses == 1:
            return 1.0  # Nothing is weighted.
        if self.config.quantizer.temperature:
            return float(self.config.quantizer.temperature)
        temperature = _temperature_of(self.tuned, kind, None)
        if refined and self.config.fitting.steps:
            temperature = _temperature_of(self.tuned.get("fitting", {}), kind, temperature)
        if temperature is None and not weight_kinds.reads_prior(kind):
            return 1.0  # Has no effect.
        return None if temperature is None else float(temperature)


def _temperature_of(chosen: Mapping[str, Any], kind: str, otherwise: float | None) -> float | None:
    """The temperature that was chosen for a kind of weights, or else the one for those of the config."""
    return chosen.get("temperatures", {}).get(kind, chosen.get("temperature", otherwise))


def load(workdir: str | os.PathLike, config: Any = None, onnx: bool = False) -> Predictor:
    """Restores what was trained in a work directory.

    Args:
      workdir: of `multibodies train`, or of `multibodies convert`.
      config: of the experiment; None takes the one stored in the work directory.
      onnx: the trunk runs in ONNX Runtime (`models.onnx_trunk`).

    Raises:
      ValueError: nothing was trained there, or with another config; results.json is damaged or out of range; or ONNX
        Runtime cannot run the trunk.
      CheckpointError: a checkpoint is damaged, of another body, or of another architecture.
    """
    workdir = pathlib.Path(workdir)
    if config is None:
        config = stored_config(workdir)
    provenance.check_workdir(config, workdir)
    bodies = setup.load_bodies(config)
    regressor = inference.restore(config, workdir / "checkpoints", bodies)
    density = prior.load_prior(config, workdir, bodies)
    read = None
    if onnx:
        regressor, read = inference.with_onnx_trunk(regressor)
    regressor, density = devices.copied((regressor, density))

    def infer(inputs: Inputs) -> Hypotheses:
        return inference.hypothesize(regressor, density, inputs if read is None else read(inputs))

    its = regressor.num_hypotheses, infer, density, regressor.score_head is not None
    return Predictor(config, tuned.read(workdir), bodies, *its)


def stored_config(workdir: pathlib.Path) -> Any:
    """The config of a work directory, of any version; fields that are not stored are at their defaults.

    Raises:
      ValueError: there is none, or a field of it has a value that it cannot have.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ValueError(f"{workdir} has no config.json: give a folder that `multibodies train` or `convert` made.")
    stored = untrusted.read_json(path, dict, f"Restore it, or train in another folder than {workdir}.", ValueError)
    try:
        return config_checks.stored(stored)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no config that a version of this program wrote ({type(error).__name__}: {error}): restore it, or "
            f"train in another folder than {workdir}."
        ) from error
