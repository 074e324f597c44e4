"""Binds a work directory to the config that made it, and says where results come from."""

import json
import pathlib
from typing import Any

from configs import default
from multibodies_jax import io
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints
from multibodies_jax.training.setup import Bodies

# Fields that may differ between the run that trained a work directory and one that uses it.
_FREE_FIELDS = (
    "eval",
    "quantizer",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep",
    "data.dir",
    "data.npz_dir",
    "data.image_dir",
    "data.threads",
    "body.dir",  # The fingerprint of the body guards this one.
    "body.allow_other",
)


def check_workdir(config: Any, workdir: pathlib.Path, create: bool = False) -> None:
    """Refuses a work directory that another config made; with `create`, claims an empty one for this config.

    One with converted weights binds only the fields that these decide, and takes no training.

    Raises:
      ValueError: it is another config's (the fields that differ are listed), or nothing was trained there.
    """
    path = workdir / "config.json"
    ours = training_fields(json.loads(config.to_json_best_effort()))
    if create and not config.model.num_hypotheses:
        raise ValueError("config.model.num_hypotheses=0 takes M from a checkpoint; training needs a number.")
    if not path.exists():
        if not create:
            raise ValueError(
                f"Nothing was trained in {workdir}: check --workdir, or run `multibodies train` with it first."
            )
        io.write_json(path, json.loads(config.to_json_best_effort()))
        return
    stored = json.loads(path.read_text())
    converted = stored.pop("converted", None)
    if converted and create:
        raise ValueError(
            f"{workdir} holds converted weights ({converted}): train in another --workdir, with --config.init={workdir}."
        )
    theirs = training_fields(stored)
    if not converted and (
        added := set(ours) - set(theirs)
    ):  # By a later version: what is not stored was as it is by default.
        usual = default_fields(config.model.name)
        theirs |= {field: usual[field] for field in added & set(usual)}
    if not config.model.num_hypotheses:
        ours["model.num_hypotheses"] = theirs.get("model.num_hypotheses")
    if converted:
        ours = {field: value for field, value in ours.items() if field in theirs}
    different = [
        f"  {k}: {theirs.get(k)!r} there, {ours.get(k)!r} now"
        for k in sorted(ours | theirs)
        if ours.get(k) != theirs.get(k)
    ]
    if different:
        raise ValueError(
            f"{workdir} was made by another config:\n"
            + "\n".join(different[:10])
            + "\nUse another --workdir, set these fields back, or delete that folder."
        )


def training_fields(tree: dict, prefix: str = "") -> dict[str, Any]:
    """The fields of a config (as in config.json) that decide what is trained, flat: "loss.best" -> 25.0."""
    free = {f"{its.config_part}.{field}" for its in build.NETWORKS.values() for field in its.free_fields}
    free.update(_FREE_FIELDS)
    if not prefix:  # The part of the config that only another model reads decides nothing here.
        name = tree["model"].get("name")
        own = build.NETWORKS[name].config_part if name in build.NETWORKS else None
        others = {network.config_part for network in build.NETWORKS.values()} - {own}
        tree = {part: value for part, value in tree.items() if part not in others}
    flat = {}
    for key, value in tree.items():
        path = prefix + key
        if path in free:
            continue
        flat.update(training_fields(value, path + ".") if isinstance(value, dict) else {path: value})
    return flat


def default_fields(model: str) -> dict[str, Any]:
    """The `training_fields` of configs/default.py for a model, by `config.model.name`."""
    config = default.get_config()
    config.model.name = model
    return training_fields(json.loads(config.to_json_best_effort()))


def metadata(config: Any, bodies: Bodies) -> dict[str, Any]:
    """What every checkpoint and result says about its origin."""
    return {
        "config": json.loads(config.to_json_best_effort()),
        "commit": checkpoints.git_commit(),
        "body": bodies.files.description,
        "body_fingerprint": bodies.files.fingerprint,
    }
