"""Trained networks in one file of half-precision numbers: those that ship with the package, which need no work directory.

A file has G with M hypotheses, its single-hypothesis baseline (HMR) and the prior p(X), each in the form that prediction and
evaluation use (`models.folding`), and says what they were made from. It is checked whenever it is read. `prediction.pretrained`
makes one of a work directory.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from multibodies_jax import io, untrusted
from multibodies_jax.models import folded_flow, folding, scores
from multibodies_jax.training import config_rules, config_versions, inference, prior, setup, tuned

PATH = pathlib.Path(__file__).parent.parent / "embedded" / "pretrained" / "pretrained.npz"
NETWORKS = {"multibodies": "checkpoints", "hmr": "hmr"}  # Name in the file -> folder of its checkpoints.
PRIOR = "prior"
LARGEST_BYTES = 2**28  # Of the arrays, uncompressed: more is not one of our files.
_FORMAT = 1
_TEXT = "about"
_DECIDED = ("model.", "flow.layers", "flow.width")  # Fields of the config that weights decide.
_NOT_READ = ("model.scores", "model.dropout", "model.init_noise", "model.name", "model.num_hypotheses")


class PackedError(ValueError):
    """A file of weights that cannot be used; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class Packed:
    """A file of weights that was read and checked.

    Attributes:
      path: of the file.
      about: what it says about itself: `config` as JSON, `networks`, `tuned`, `body`, `commit` and more.
      arrays: by their paths, in half precision.
    """

    path: pathlib.Path
    about: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def check(self, config: Any) -> None:
        """Refuses a config of other networks than those of the file.

        Raises:
          PackedError: a field differs that the weights decide.
        """
        ours, theirs = (config_versions.modern(tree) for tree in (config.to_dict(), dict(self.about["config"])))
        fields = [name for name in theirs if name.startswith(_DECIDED) and name not in _NOT_READ]
        if different := [name for name in fields if ours.get(name) != theirs[name]]:
            told = ", ".join(f"config.{name} is {config_rules.short(ours.get(name))}" for name in different)
            there = ", ".join(config_rules.short(theirs[name]) for name in different)
            raise PackedError(
                f"{self.path} has other networks: {told}, and there {there}. Take the config of its training."
            )

    def regressor(self, name: str, config: Any, bodies: setup.Bodies) -> inference.Regressor:
        """A network of the file, as `inference.restore` makes it of a checkpoint.

        Args:
          name: of `NETWORKS`.
          config: of its training, or another one that `check` takes.
          bodies: with which it was trained.

        Raises:
          PackedError: there is no such network, or the body is another one.
        """
        if name not in NETWORKS:
            raise PackedError(f"{self.path} has the networks {', '.join(NETWORKS)}; there is no {name!r}.")
        if self.about["body_fingerprint"] != bodies.files.fingerprint:
            raise PackedError(
                f"{self.path} was trained with the body {self.about['body']} ({self.about['body_fingerprint'][:8]}), and the "
                f"body here is {bodies.files.description} ({bodies.files.fingerprint[:8]}): train a model with it "
                "(`multibodies train`)."
            )
        facts, variables = self.about["networks"][name], self._part(name)
        m = facts["num_hypotheses"]
        source: Any = setup.build_model(config, m, bodies)
        maps = sorted(name for name in variables["params"] if name.startswith("map_"))
        sizes = tuple(len(variables["params"][name]["bias"]) for name in maps)
        model = folding.Folded(source.trunk, None, sizes, m)
        head = setup.make_score_head(config, m) if scores.NAME in variables["params"] else None
        return inference.Regressor(variables, bodies, model, m, facts["images_seen"], facts["step"], None, head)

    def density(self) -> prior.Prior:
        """The prior p(X) of the file."""
        density, variables = folded_flow.fold(self._part(PRIOR))
        return prior.Prior(jax.device_put(variables), density, self.about["held_out_log_prob"])

    def _part(self, name: str) -> dict[str, Any]:
        """The tree of one network, real numbers in single precision, on the device."""
        prefix = f"{name}/"
        flat = {path.removeprefix(prefix): x for path, x in self.arrays.items() if path.startswith(prefix)}
        single = {path: x.astype(np.float32) if x.dtype.kind == "f" else x for path, x in flat.items()}
        return jax.device_put(flax.traverse_util.unflatten_dict(single, sep="/"))


def read(path: str | os.PathLike | None = None) -> Packed:
    """A file of weights, after its checksum was compared; None reads the embedded one.

    Raises:
      PackedError: no such file, or one that is damaged or of another version.
    """
    path = PATH if path is None else pathlib.Path(path)
    again = "reinstall the package, or make it with `make pretrained`"
    advice = f"It is damaged or no file of weights: {again}."
    try:
        arrays = untrusted.read_npz(path, advice, PackedError, LARGEST_BYTES)
    except FileNotFoundError as error:
        raise PackedError(f"There is no file of weights {path}: {again}.") from error
    text = arrays.pop(_TEXT, np.array(""))
    about = untrusted.parse_json(str(text), f"{_TEXT} of {path}", dict, advice, PackedError)
    version, digest = about.get("format"), about.get("sha256")
    if version != _FORMAT:
        raise PackedError(f"{path} has format {version}, and this version reads {_FORMAT}: {again}.")
    if digest != io.sha256_of_arrays(arrays):
        raise PackedError(f"{path} is damaged (its checksum differs): {again}.")
    if wrong := tuned.problem(about["tuned"]):
        raise PackedError(f"{path} is damaged: {wrong}.")
    return Packed(path, about, arrays)


def write(path: str | os.PathLike, about: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a file; one that is there stays as it is until the new one is complete.

    Args:
      path: of the file.
      about: of `Packed`.
      parts: the variables of the networks by their names in `NETWORKS`, and those of `PRIOR`.

    Returns:
      `about` with what the file adds: `format`, and `sha256` of its arrays.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, tree in parts.items():
        flat = flax.traverse_util.flatten_dict(dict(tree), sep="/")
        values = {f"{name}/{path}": np.asarray(value) for path, value in flat.items()}
        arrays |= {path: x.astype(np.float16) if x.dtype.kind == "f" else x for path, x in values.items()}
    told = {**about, "format": _FORMAT, "sha256": io.sha256_of_arrays(arrays)}
    return store(path, Packed(pathlib.Path(path), told, arrays))


def store(path: str | os.PathLike, file: Packed) -> dict[str, Any]:
    """Writes what `read` gives, as it is; returns its `about`. A file that is there stays until the new one is complete."""
    io.write_npz(path, {**file.arrays, _TEXT: np.array(json.dumps(file.about))})
    return dict(file.about)
