r"""The model that ships with the package: the networks of a trained work directory in one file (`training.packed`).

make pretrained          trains it; the last of its commands is
python -m multibodies_jax.prediction.pretrained --workdir=runs/pretrained

What a later evaluation of the file chose on the validation split (temperatures, sharpness, factors of the fit) goes into it with
python run.py --mode=evaluate --config=configs/eval_pretrained.py --workdir=runs/eval_pretrained
python -m multibodies_jax.prediction.pretrained --choices=runs/eval_pretrained
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from configs import pretrained as trained_by
from multibodies_jax import devices, programs, untrusted
from multibodies_jax.data import sources
from multibodies_jax.models import folding
from multibodies_jax.prediction import predictor
from multibodies_jax.training import config_checks, inference, packed, prior, provenance, setup, tuned


def load_pretrained(name: str = "multibodies", path: str | os.PathLike | None = None) -> predictor.Predictor:
    """The model that ships with the package: keypoints of a person in, weighted bodies out; nothing is downloaded.

    Args:
      name: `multibodies`, the M hypotheses; or `hmr`, the single-hypothesis baseline.
      path: another file that `pack` wrote; None takes the embedded one.

    Raises:
      PackedError: no such file, a damaged one, one of another version, or one that was trained with another body.
    """
    file = packed.read(path)
    config = config_checks.stored(file.about["config"])
    if path is None:  # They were packed before it was chosen how hypotheses are weighted (docs/method.md).
        config.quantizer.weights = trained_by.get_config().quantizer.weights
    bodies = setup.load_bodies(config)
    regressor, density = devices.copied((file.regressor(name, config, bodies), file.density()))
    infer = functools.partial(inference.hypothesize, regressor, density)
    its = regressor.num_hypotheses, infer, density, regressor.score_head is not None
    return predictor.Predictor(config, file.about["tuned"], bodies, *its)


def pack(workdir: str | os.PathLike, out: str | os.PathLike = packed.PATH) -> dict[str, Any]:
    """Writes the networks of a trained and evaluated work directory as one file.

    Args:
      workdir: of a config with the trunk `keypoints` and the paper's head without activation, which can be folded.
      out: the file, replaced when it is complete.

    Returns:
      What the file says about itself (`about`).

    Raises:
      PackedError: the work directory has another kind of network, or was not evaluated.
      CheckpointError: nothing was trained there, or a checkpoint is damaged.
    """
    workdir = pathlib.Path(workdir)
    config = predictor.stored_config(workdir)
    chosen = tuned.read(workdir)
    if not chosen:
        raise packed.PackedError(f"{workdir} has no results.json with a temperature: run `multibodies evaluate` first.")
    bodies = setup.load_bodies(config)
    parts, networks = {}, {}
    for name, folder in packed.NETWORKS.items():
        regressor = inference.restore(config, workdir / folder, bodies)
        if not isinstance(regressor.model, folding.Folded) or config.model.trunk != "keypoints":
            raise packed.PackedError(
                f"{workdir / folder} is no network of keypoints without activation in its head (config.model.trunk, "
                "config.model.activation): only those are packed."
            )
        parts[name] = regressor.variables
        networks[name] = {
            "num_hypotheses": regressor.num_hypotheses,
            "images_seen": regressor.images_seen,
            "step": regressor.step,
        }
    density = prior.load_prior(config, workdir, bodies, folded=False)
    about = provenance.metadata(config, bodies) | {
        "networks": networks,
        "held_out_log_prob": density.held_out_log_prob,
        "people": sources.source_name(config, "synthetic_poses"),
        "tuned": chosen,
    }
    # No path of the machine that trained it.
    about["config"]["data"] |= {"people": about["people"], "dir": "data"}
    about["config"]["body"]["dir"] = None
    return packed.write(out, about, parts | {packed.PRIOR: density.variables})


def take_choices(workdir: str | os.PathLike, path: str | os.PathLike = packed.PATH) -> dict[str, Any]:
    """Puts what an evaluation of a file of weights chose on the validation split into that file; its networks stay.

    Args:
      workdir: of the evaluation (`config.eval.packed`).
      path: of the file, replaced when the new one is complete.

    Returns:
      What the file says about itself (`about`).

    Raises:
      PackedError: there is no evaluation, it is of other weights, its temperature was given, or it chose less than the
        file knows.
      FileError: its results.json is damaged or was changed, or a number in it is out of range.
    """
    file, path_of_results = packed.read(path), pathlib.Path(workdir) / "results.json"
    chosen, advice = tuned.read(workdir), "evaluate the file with configs/eval_pretrained.py (config.eval.packed)"
    results = untrusted.read_json(path_of_results) if chosen else {}
    of = results.get("packed")
    if not isinstance(of, dict) or of.get("sha256") != file.about["sha256"]:
        raise packed.PackedError(
            f"{path_of_results} is no evaluation of the weights {file.about['sha256'][:12]}, which {path} has: {advice}."
        )
    lost = sorted(file.about["tuned"].keys() - chosen.keys())
    if lost or "sharpness" not in chosen:
        what = ", ".join(lost) if lost else "sharpness"
        raise packed.PackedError(
            f"{path_of_results} does not say {what}, so that it was not chosen there: {advice}, without a temperature of "
            "one's own, and with its rows."
        )
    return packed.store(path, dataclasses.replace(file, about={**file.about, "tuned": chosen}))


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The program: packs a work directory, or takes choices; returns 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m multibodies_jax.prediction.pretrained", description=(__doc__ or "").split("\n")[0]
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="a trained and evaluated work directory, to be packed")
    source.add_argument(
        "--choices", help="a work directory in which the file was evaluated: take what was chosen there"
    )
    parser.add_argument("--out", default=str(packed.PATH), help="the file to write (default: the embedded one)")
    values = parser.parse_args(programs.start(argv))
    try:
        about = pack(values.workdir, values.out) if values.workdir else take_choices(values.choices, values.out)
    except (ValueError, OSError) as error:
        print(f"error: {programs.words(error)}", file=sys.stderr)
        return 2
    size = pathlib.Path(values.out).stat().st_size / 1e6
    print(f"{values.out}: {size:.1f} MB, sha256 of its arrays {about['sha256'][:12]}, body {about['body']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
