"""Binds a work directory to the config that made it, and says where results come from."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from configs import default
from multibodies_jax import io
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, config_versions
from multibodies_jax.training.setup import Bodies

# Fields that may differ between the run that trained a work directory and one that uses it.
_FREE_FIELDS = (
    "eval",
    "quantizer",
    "fitting",
    "train.log_every",
    "train.checkpoint_every",
    "data.dir",
    "data.npz_dir",
    "data.image_dir",
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
    if create and config.model.num_hypotheses is None:
        raise ValueError("config.model.num_hypotheses=None takes M from a checkpoint; training needs a number.")
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
    if config.model.num_hypotheses is None:
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


def training_fields(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config (as in config.json, of any version) that decide what is trained, flat: "loss.best" -> 25.0."""
    fields = config_versions.modern(tree)
    networks = build.NETWORKS.values()
    own = {network.config_part for name, network in build.NETWORKS.items() if name == fields.get("model.name")}
    others = {network.config_part for network in networks} - {None} - own  # Parts that this model does not read.
    free = {f"{network.config_part}.{field}" for network in networks for field in network.free_fields}
    places = (*_FREE_FIELDS, *others, *free)
    return {
        name: value
        for name, value in fields.items()
        if not any(name == place or name.startswith(f"{place}.") for place in places)
    }


def default_fields(model: str) -> dict[str, Any]:
    """The `training_fields` of the default config of a model, by `config.model.name`."""
    part = build.NETWORKS[model].config_part if model in build.NETWORKS else None
    config = default.of(f"{model}:default" if part else "default")
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
