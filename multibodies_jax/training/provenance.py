"""Binds a work directory to the config that made it, and says where results come from."""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from configs import default
from multibodies_jax import io, untrusted
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


@contextlib.contextmanager
def locked(workdir: pathlib.Path, does: str) -> Iterator[None]:
    """Holds a work directory against a second process that does the same ("training", "evaluating"), until the block ends.

    Raises:
      LockedError: another process does; the message names it.
      OSError: the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(io.lock(workdir / f"{does}.lock", wait=False))
        except io.LockedError as error:
            raise io.LockedError(
                workdir, error.holder, f"which is {does} there. Wait until it ends, end it, or choose another --workdir"
            ) from None
        yield


def check_workdir(config: Any, workdir: pathlib.Path, create: bool = False, write: bool = True) -> None:
    """Refuses a work directory that another config made; with `create`, claims an empty one for this config.

    One with converted weights binds only the fields that these decide, and takes no training. With `create`, a larger
    `train.steps` than the stored one is accepted, and stored: the training goes on. `write=False` changes no file.

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
        if write:
            io.write_json(path, json.loads(config.to_json_best_effort()))
        return
    stored = untrusted.read_json(path, dict, f"Restore it, or use another folder than {workdir}.", ValueError)
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
    if not create:  # Whether there are scores is read of the checkpoint.
        ours, theirs = ({name: x for name, x in fields.items() if name != "model.scores"} for fields in (ours, theirs))
    if converted:
        ours = {field: value for field, value in ours.items() if field in theirs}
    if ours.get("model.num_hypotheses") == theirs.get("model.num_hypotheses") == 1 and not ours.get("flow.steps"):
        ours.pop("flow.steps", None)  # One hypothesis needs no prior; earlier configs trained one all the same.
        theirs.pop("flow.steps", None)
    fields = [field for field in sorted(ours | theirs) if ours.get(field) != theirs.get(field)]
    steps = theirs.get("train.steps")
    if fields == ["train.steps"] and create and isinstance(steps, int) and ours["train.steps"] > steps:
        if write:
            io.write_json(path, json.loads(config.to_json_best_effort()))
        return
    if fields:
        different = [f"  {field}: {theirs.get(field)!r} there, {ours.get(field)!r} now" for field in fields[:10]]
        longer = f" More steps than {steps} train it on: --config.train.steps." if "train.steps" in fields else ""
        raise ValueError(
            f"{workdir} was made by another config:\n"
            + "\n".join(different)
            + f"\nUse another --workdir, set these fields back, or delete that folder.{longer}"
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
