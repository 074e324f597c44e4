"""What a stage of training starts from: random variables (of a trunk, perhaps published ones), or those of a checkpoint,
whose one hypothesis becomes M."""

import dataclasses
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import serialization
from jaxtyping import Array, Key

from multibodies_jax.batch import Inputs
from multibodies_jax.models import build, scores
from multibodies_jax.training import checkpoints, setup


@dataclasses.dataclass(frozen=True)
class Source:
    """What a stage starts from: a restored checkpoint.

    Attributes:
      folder: of the checkpoint.
      variables: parameters (averaged ones where they were kept) and statistics.
      metadata: of the checkpoint.
      memory: of `build.Targets`, as nested dictionaries; empty without.
    """

    folder: pathlib.Path
    variables: dict[str, Any]
    metadata: dict[str, Any]
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)

    def origin(self) -> dict[str, str]:
        """So that comparisons can tell whether two runs started alike."""
        parts = [self.variables["params"], self.variables["batch_stats"]]
        return {"dir": str(self.folder), "fingerprint": checkpoints.fingerprint(parts)}

    def memory_of(self, targets: build.Targets) -> Any:
        """The memory with which a stage goes on; None where the source has none of the same targets."""
        if not self.memory or self.metadata.get("targets") != targets.about:
            return None
        return serialization.from_state_dict(targets.template(), self.memory)


def source_folder(config: Any) -> pathlib.Path | None:
    """The checkpoints that `config.init` names: the first stage of a work directory, or, without one, its only stage."""
    if not config.init:
        return None
    root = pathlib.Path(config.init)
    for folder in (root / "stage1", root / "checkpoints", root):
        if checkpoints.latest_step(folder) is not None:
            return folder
    raise FileNotFoundError(
        f"config.init={config.init!r} holds no checkpoint (looked in stage1/, checkpoints/ and the folder itself)."
    )


def restore(config: Any, bodies: setup.Bodies, folder: pathlib.Path) -> Source:
    """Restores the newest checkpoint of a folder.

    Raises:
      CheckpointError: nothing there, damaged, no network's, or of another body.
    """
    items, metadata, _ = checkpoints.restore(folder)
    checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
    checkpoints.check_parts(folder, items, ("state",))
    checkpoints.check_parts(folder, items["state"], ("params",))
    checkpoints.check_parts(folder, metadata, ("num_hypotheses",))
    state = items["state"]
    return Source(folder, checkpoints.variables(state), metadata, state.get("memory") or {})


def variables(
    config: Any, model: nn.Module, num_hypotheses: int, source: Source | None, example: Inputs, key: Key[Array, ""]
) -> dict[str, Any]:
    """The variables with which a stage of M = `num_hypotheses` starts: random ones, or those of its source (appendix D).

    A score head that the source lacks starts from random ones.

    Raises:
      ValueError: the source has another M that is not 1.
      CheckpointError: its parameters are not those of `model`.
    """
    found = _of_network(config, model, num_hypotheses, source, example, key)
    head, known = setup.score_head(config, num_hypotheses), source.variables["params"] if source else {}
    if head is None:
        return found
    start = jax.jit(functools.partial(scores.initial, head, model, example))
    own = known.get(scores.NAME)
    if source is None or own is None:
        own = start(jax.random.fold_in(key, 1))
    else:
        checkpoints.check_match(source.folder, {scores.NAME: own}, {scores.NAME: jax.eval_shape(start, key)})
    return {**found, "params": {**found["params"], scores.NAME: jax.tree.map(jnp.asarray, own)}}


def _of_network(
    config: Any, model: nn.Module, num_hypotheses: int, source: Source | None, example: Inputs, key: Key[Array, ""]
) -> dict[str, Any]:
    """The variables of the network alone."""
    k_init, k_expand = jax.random.split(key)
    if source is None:
        found = jax.jit(lambda k: model.init({"params": k, "dropout": k}, example, train=False))(k_init)
        published = build.TRUNKS[config.model.trunk].published
        return found if published is None else {**found, "params": {**found["params"], "trunk": published()}}
    have = source.metadata["num_hypotheses"]
    if have not in (1, num_hypotheses):
        raise ValueError(
            f"{source.folder} has M = {have} hypotheses; M = {num_hypotheses} can start from M = 1 or from {num_hypotheses}."
        )
    found = jax.tree.map(jnp.asarray, source.variables)
    found["params"] = {name: part for name, part in found["params"].items() if name != scores.NAME}
    if num_hypotheses > have or setup.network(config, num_hypotheses).builds(1):
        noise = config.model.init_noise
        names = {"name": config.model.name, "head": config.model.head}
        found = build.expand(found, num_hypotheses, noise, k_expand, **names)
    init = functools.partial(model.init, {"params": k_init, "dropout": k_init}, example, train=False)
    expected = jax.eval_shape(init)
    if set(expected["params"]) > set(found["params"]):  # Layers that no source has.
        fresh = jax.jit(init)()
        found = {part: {**values, **found.get(part, {})} for part, values in fresh.items()}
    checkpoints.check_match(source.folder, found["params"], expected["params"])
    return found
