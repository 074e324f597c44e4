r"""The model that ships with the package: the networks of a trained work directory in one file of half-precision numbers.

    make pretrained          trains it; the last of its commands is
    python -m multibodies_jax.prediction.pretrained --workdir=runs/pretrained

The file holds G with M hypotheses, its single-hypothesis baseline (HMR) and the prior p(X), each in the form that
prediction uses (`models.folding`), and says what they were made from. It is checked whenever it is read.
"""

import argparse
import functools
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from multibodies_jax import io, programs, untrusted
from multibodies_jax.data import sources
from multibodies_jax.models import folding, scores
from multibodies_jax.prediction import predictor
from multibodies_jax.training import inference, prior, provenance, setup, tuned

PATH = pathlib.Path(__file__).parent.parent / "embedded" / "pretrained" / "pretrained.npz"
NETWORKS = {"multibodies": "checkpoints", "hmr": "hmr"}  # Name in the file -> folder of its checkpoints.
LARGEST_BYTES = 2**28  # Of the arrays, uncompressed: more is not one of our files.
_FORMAT = 1
_TEXT = "about"


class PretrainedError(ValueError):
    """A file of weights that cannot be used; the message names it and says what to do."""


def load_pretrained(name: str = "multibodies", path: str | os.PathLike | None = None) -> predictor.Predictor:
    """The model that ships with the package: keypoints of a person in, weighted bodies out; nothing is downloaded.

    Args:
      name: `multibodies`, the M hypotheses; or `hmr`, the single-hypothesis baseline.
      path: another file that `pack` wrote; None takes the embedded one.

    Raises:
      PretrainedError: no such file, a damaged one, one of another version, or one that was trained with another body.
    """
    path = PATH if path is None else pathlib.Path(path)
    if name not in NETWORKS:
        raise PretrainedError(f"{path} has the networks {', '.join(NETWORKS)}; there is no {name!r}.")
    about, arrays = read(path)
    if wrong := tuned.problem(about["tuned"]):
        raise PretrainedError(f"{path} is damaged: {wrong}.")
    config = predictor.config_of(about["config"])
    bodies = setup.load_bodies(config)
    if about["body_fingerprint"] != bodies.files.fingerprint:
        raise PretrainedError(
            f"{path} was trained with the body {about['body']} ({about['body_fingerprint'][:8]}), and the body here is "
            f"{bodies.files.description} ({bodies.files.fingerprint[:8]}): train a model with it (`multibodies train`)."
        )
    regressor = _regressor(config, about["networks"][name], _part(arrays, name), bodies)
    density = prior.Prior(_part(arrays, "prior"), prior.flow_of(config), about["held_out_log_prob"])
    infer = functools.partial(inference.hypothesize, regressor, density)
    its = regressor.num_hypotheses, infer, density, regressor.score_head is not None
    return predictor.Predictor(config, about["tuned"], bodies, *its)


def _regressor(
    config: Any, facts: Mapping[str, Any], variables: dict[str, Any], bodies: setup.Bodies
) -> inference.Regressor:
    """A folded network and its variables, as `inference.restore` makes it of a checkpoint."""
    m = facts["num_hypotheses"]
    source: Any = setup.build_model(config, m, bodies)
    maps = sorted(name for name in variables["params"] if name.startswith("map_"))
    sizes = tuple(len(variables["params"][name]["bias"]) for name in maps)
    model = folding.Folded(source.trunk, None, sizes, m)
    head = setup.make_score_head(config, m) if scores.NAME in variables["params"] else None
    return inference.Regressor(variables, bodies, model, m, facts["images_seen"], facts["step"], None, head)


def pack(workdir: str | os.PathLike, out: str | os.PathLike = PATH) -> dict[str, Any]:
    """Writes the networks of a trained and evaluated work directory as one file.

    Args:
      workdir: of a config with the trunk `keypoints` and the paper's head without activation, which can be folded.
      out: the file, replaced when it is complete.

    Returns:
      What the file says about itself (`about`).

    Raises:
      PretrainedError: the work directory has another kind of network, or was not evaluated.
      CheckpointError: nothing was trained there, or a checkpoint is damaged.
    """
    workdir = pathlib.Path(workdir)
    config = predictor.stored_config(workdir)
    chosen = tuned.read(workdir)
    if not chosen:
        raise PretrainedError(f"{workdir} has no results.json with a temperature: run `multibodies evaluate` first.")
    bodies = setup.load_bodies(config)
    arrays, networks = {}, {}
    for name, folder in NETWORKS.items():
        regressor = inference.restore(config, workdir / folder, bodies)
        if not isinstance(regressor.model, folding.Folded) or regressor.model.modes is not None:
            raise PretrainedError(
                f"{workdir / folder} is no network of keypoints without activation in its head (config.model.trunk, "
                "config.model.activation): only those are packed."
            )
        arrays |= _flat(name, regressor.variables)
        networks[name] = {
            "num_hypotheses": regressor.num_hypotheses,
            "images_seen": regressor.images_seen,
            "step": regressor.step,
        }
    density = prior.load_prior(config, workdir, bodies)
    arrays |= _flat("prior", density.variables)
    about = provenance.metadata(config, bodies) | {
        "format": _FORMAT,
        "networks": networks,
        "held_out_log_prob": density.held_out_log_prob,
        "people": sources.source_name(config, "synthetic_poses"),
        "tuned": chosen,
        "sha256": _digest(arrays),
    }
    # No path of the machine that trained it.
    about["config"]["data"] |= {"people": about["people"], "dir": "data"}
    about["config"]["body"]["dir"] = None
    io.write_npz(out, {**arrays, _TEXT: np.array(json.dumps(about))})
    return about


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a file of weights says about itself, and its arrays by name, after their checksum was compared.

    Raises:
      PretrainedError: no such file, or one that is damaged or of another version.
    """
    again = "reinstall the package, or make it with `make pretrained`"
    advice = f"It is damaged or no file of weights: {again}."
    try:
        arrays = untrusted.read_npz(path, advice, PretrainedError, LARGEST_BYTES)
    except FileNotFoundError as error:
        raise PretrainedError(f"There is no file of weights {path}: {again}.") from error
    text = arrays.pop(_TEXT, np.array(""))
    about = untrusted.parse_json(str(text), f"{_TEXT} of {path}", dict, advice, PretrainedError)
    version, digest = about.get("format"), about.get("sha256")
    if version != _FORMAT:
        raise PretrainedError(f"{path} has format {version}, and this version reads {_FORMAT}: {again}.")
    if digest != _digest(arrays):
        raise PretrainedError(f"{path} is damaged (its checksum differs): {again}.")
    return about, arrays


def _flat(name: str, tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree by their paths, real numbers in half precision."""
    flat = flax.traverse_util.flatten_dict(dict(tree), sep="/")
    values = {f"{name}/{path}": np.asarray(value) for path, value in flat.items()}
    return {path: x.astype(np.float16) if x.dtype.kind == "f" else x for path, x in values.items()}


def _part(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, Any]:
    """The tree of one network, real numbers in single precision, on the device."""
    prefix = f"{name}/"
    flat = {path.removeprefix(prefix): x for path, x in arrays.items() if path.startswith(prefix)}
    single = {path: x.astype(np.float32) if x.dtype.kind == "f" else x for path, x in flat.items()}
    return jax.device_put(flax.traverse_util.unflatten_dict(single, sep="/"))


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of the names, types, shapes and contents of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        x = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {x.dtype.str} {x.shape}\n".encode())
        digest.update(x.tobytes())
    return digest.hexdigest()


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The program: packs a work directory; returns 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m multibodies_jax.prediction.pretrained", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--workdir", required=True, help="a trained and evaluated work directory")
    parser.add_argument("--out", default=str(PATH), help="the file to write (default: the embedded one)")
    values = parser.parse_args(programs.start(argv))
    try:
        about = pack(values.workdir, values.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = pathlib.Path(values.out).stat().st_size / 1e6
    print(f"{values.out}: {size:.1f} MB, sha256 of its arrays {about['sha256'][:12]}, body {about['body']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
