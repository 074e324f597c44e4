"""A prior that another work directory has trained alike is taken over instead of being trained again."""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from multibodies_jax import io
from multibodies_jax.training import checkpoints, config_versions, logs, setup


def adopt(config: Any, source: pathlib.Path, workdir: pathlib.Path, bodies: setup.Bodies) -> None:
    """Takes the prior of `config.init` where it is finished and would be trained alike: same flow, people, body, seed."""
    step = checkpoints.latest_step(source / "prior")
    if step != config.flow.steps:
        return
    metadata = checkpoints.restore(source / "prior", {})[1]
    same = _deciding_fields(metadata.get("config") or {}) == _deciding_fields(config.to_dict())
    if same and metadata.get("body_fingerprint") == bodies.files.fingerprint:
        with io.new_folder(workdir / "prior") as folder:
            shutil.copytree(source / "prior" / str(step), folder / str(step))
            if (source / "prior" / logs.LOG).exists():
                shutil.copy(source / "prior" / logs.LOG, folder)


def _deciding_fields(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config of any version that decide what its prior learns, beside the body."""
    fields = config_versions.modern(tree)
    options = (option.partition("=") for option in (fields.get("data.options") or "").split(","))
    deciding = {name: value for name, value in fields.items() if name.startswith("flow.")}
    deciding |= {name: fields.get(name) for name in ("seed", "data.people")}
    return deciding | {
        f"option {name}": value for name, _, value in options if name in ("num_people", "pose_mix", "seed")
    }
