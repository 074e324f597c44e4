"""Restored networks as functions from inputs to scored hypotheses; used by evaluation and prediction."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from multibodies_jax import devices, traced
from multibodies_jax.batch import Inputs
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.models import build, onnx_trunk, scores
from multibodies_jax.training import checkpoints, prior, setup


class Regressor(flax.struct.PyTreeNode):
    """A trained network G and what it needs to answer with bodies; a pytree, so that it can be an argument of jit."""

    variables: Any
    bodies: setup.Bodies
    model: Any = flax.struct.field(pytree_node=False)
    num_hypotheses: int = flax.struct.field(pytree_node=False)
    images_seen: int = flax.struct.field(pytree_node=False)
    step: int = flax.struct.field(pytree_node=False)
    init: str | None = flax.struct.field(pytree_node=False)  # Fingerprint of what its training started from.
    score_head: scores.ScoreHead | None = flax.struct.field(pytree_node=False, default=None)

    def __call__(self, inputs: Inputs) -> hypotheses.Hypotheses:
        """Hypotheses (B, M) without their log p(X) yet; with their scores where a head was trained."""
        states, sown = self.model.apply(self.variables, inputs, train=False, mutable=["extras"])
        vertices = sown.get("extras", {}).get(hypotheses.VERTICES, (None,))[-1]
        hyps = hypotheses.decode(states, self.bodies.j24, vertices)
        if self.score_head is None:
            return hyps
        own, feature = self.variables["params"][scores.NAME], sown["extras"][scores.FEATURE][-1]
        return dataclasses.replace(hyps, log_scores=scores.score(self.score_head, own, feature, hyps, inputs))


def restore(config: Any, directory: pathlib.Path, bodies: setup.Bodies, folded: bool = True) -> Regressor:
    """Restores the regressor in a folder of checkpoints; averaged weights where they were kept.

    Args:
      config: of the experiment.
      directory: folder of the steps.
      bodies: with which it was trained.
      folded: with everything worked out once that does not depend on the image (`models.folding`), as evaluation and
        prediction use it; else the network as it was trained, with its own variables, which train on.

    Raises:
      CheckpointError: nothing there, damaged, no network's, of another body or another architecture, or with weights that are NaN.
    """
    items, metadata, step = checkpoints.restore(directory)
    checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
    checkpoints.check_parts(directory, items, ("state",))
    checkpoints.check_parts(directory, items["state"], ("params",))
    checkpoints.check_parts(directory, metadata, ("num_hypotheses", "images_seen"))
    variables = checkpoints.variables(items["state"])
    m = metadata["num_hypotheses"]
    model = setup.build_model(config, m, bodies, metadata.get("mean_state"))
    size = config.model.crop_size
    image = jnp.zeros((1, size, size, 3), jnp.uint8)
    example = Inputs(jnp.zeros((1, 24, 2)), jnp.ones((1, 24)), jnp.zeros(1, jnp.uint32), image)
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), example))
    head = setup.make_score_head(config, m) if scores.NAME in variables["params"] else None
    if head is not None:
        start = functools.partial(scores.initial, head, model, example, jax.random.key(0))
        expected["params"] |= {scores.NAME: jax.eval_shape(start)}
    checkpoints.check_match(directory, variables["params"], expected["params"])
    stats = {"batch_stats": variables["batch_stats"]}
    checkpoints.check_match(directory, stats, {"batch_stats": expected.get("batch_stats", {})})
    checkpoints.check_finite(directory, variables)
    if folded:
        own = {name: part for name, part in variables["params"].items() if name == scores.NAME}
        model, variables = build.HEADS[config.model.head].fold(model, variables)
        variables["params"] = {**variables["params"], **own}
    init = (metadata.get("init") or {}).get("fingerprint")
    return Regressor(jax.tree.map(jnp.asarray, variables), bodies, model, m, metadata["images_seen"], step, init, head)


def with_onnx_trunk(regressor: Regressor) -> tuple[Regressor, Callable[[Inputs], Inputs]]:
    """The regressor without the parameters of its trunk, and what ONNX Runtime makes of inputs before it reads them.

    Raises:
      ValueError: as `onnx_trunk.take_over`.
    """
    read, rest = onnx_trunk.take_over(regressor.model, regressor.variables["params"])
    return regressor.replace(variables={**regressor.variables, "params": rest}), read


def score(hyps: hypotheses.Hypotheses, density: prior.Prior) -> hypotheses.Hypotheses:
    """Fills `log_prior`: log p(X) of every hypothesis at zero root (eq (4))."""
    x = hypotheses.zero_root_joints(hyps)
    return dataclasses.replace(hyps, log_prior=density.log_prob(x.reshape(*x.shape[:-2], 72)))


@functools.partial(traced.jit, per_example="inputs")
def hypothesize(regressor: Regressor, density: prior.Prior, inputs: Inputs) -> hypotheses.Hypotheses:
    """The scored hypotheses (B, M)."""
    return score(regressor(inputs), density)


@functools.partial(devices.jit, per_example="inputs")
def respond(regressor: Regressor, inputs: Inputs) -> hypotheses.Hypotheses:
    """The hypotheses (B, M), not scored."""
    return regressor(inputs)
