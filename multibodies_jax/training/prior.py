"""Trains and restores the pose prior p(X): the RealNVP of section 4.1, eq (4), on zero-root skeletons."""

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from tqdm import tqdm

from multibodies_jax.data import sources
from multibodies_jax.models import flow as flow_lib
from multibodies_jax.models import folded_flow
from multibodies_jax.training import checkpoints, logs, multihost, prior_adoption, provenance, setup, stopping

_HELD_OUT = 2000  # Validation skeletons on which the likelihood is reported.


class Prior(flax.struct.PyTreeNode):
    """A trained prior: log-density and samples of X (72 numbers: J24, mid-hip centred, identity root, metres).

    `variables` is None where there is no prior, which weighs all alike; `held_out_log_prob` is None where unknown.
    """

    variables: Any
    flow: flow_lib.Flow | folded_flow.FoldedFlow = flax.struct.field(pytree_node=False)
    held_out_log_prob: float | None = flax.struct.field(pytree_node=False)

    def log_prob(self, x: Float[Array, "*batch 72"]) -> Float[Array, "*batch"]:
        if self.variables is None:
            return jnp.zeros(x.shape[:-1])
        return jnp.asarray(self.flow.apply(self.variables, x, method="log_prob"))

    def sample(self, key: Array, num: int) -> Float[Array, "num 72"]:
        return jnp.asarray(self.flow.apply(self.variables, key, num, method="sample"))


def flow_of(config: Any) -> flow_lib.Flow:
    """The density of a config, without variables."""
    return flow_lib.Flow(layers=config.flow.layers, width=config.flow.width, dropout=config.flow.dropout)


def loss_nf(flow: flow_lib.Flow, variables: Mapping[str, Any], x: Float[Array, "N 72"], key: Array) -> Float[Array, ""]:
    """L_nf: -1/N sum_i log p(X_i), the mean negative log-likelihood of the skeletons, nats (section 4.1, eq 4).

    Args:
      flow: the density p.
      variables: of the flow.
      x: skeletons X with noise, metres.
      key: draws the dropout of the flow's networks.
    """
    log_p: Any = flow.apply(variables, x, train=True, rngs={"dropout": key}, method="log_prob")
    return -jnp.mean(log_p)


def train_prior(config: Any, workdir: pathlib.Path, bodies: setup.Bodies) -> None:
    """Maximises the mean log-likelihood of training skeletons (eq (4)); continues from the last checkpoint.

    The skeletons get Gaussian noise of `flow.noise_mm`: centred joints lie on a thin sheet of the 72 dimensions, where a
    density without noise has no finite optimum.
    """
    directory, steps = workdir / "prior", config.flow.steps
    if config.init and checkpoints.latest_step(directory) is None:
        multihost.on_first(lambda: prior_adoption.adopt(config, pathlib.Path(config.init), workdir, bodies), "prior")
    start = checkpoints.latest_step(directory) or 0
    if start >= steps:
        return
    noise = config.flow.noise_mm / 1000
    skeletons = {
        split: setup.zero_root_skeletons(bodies, *map(jnp.asarray, sources.load_people(config, split)))
        for split in ("train", "validation")
    }
    flow: Any = flow_of(config)
    key = jax.random.key(config.seed)
    variables = flow.init(key, skeletons["train"][:2], method="log_prob")
    mean, std = flow_lib.standardization(skeletons["train"])
    std = jnp.sqrt(std**2 + noise**2)
    variables = {**variables, "stats": {"mean": mean, "std": std}}
    params, fixed = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(config.flow.learning_rate, steps))
    )
    opt_state = optimizer.init(params)
    if start:
        templates = {"params": params, "fixed": fixed, "opt_state": opt_state}
        items, metadata, _ = checkpoints.restore(directory, templates)
        checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
        params, fixed, opt_state = (jax.tree.map(jnp.asarray, items[k]) for k in ("params", "fixed", "opt_state"))

    @jax.jit
    def train_step(params, opt_state, data, step):
        k_pick, k_noise, k_drop = jax.random.split(jax.random.fold_in(key, step), 3)
        x = data[jax.random.randint(k_pick, (config.flow.batch,), 0, len(data))]
        x = x + noise * jax.random.normal(k_noise, x.shape)

        loss, gradient = jax.value_and_grad(lambda params: loss_nf(flow, {"params": params, **fixed}, x, k_drop))(
            params
        )
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    held_out = skeletons["validation"][:_HELD_OUT]
    held_out = held_out + noise * jax.random.normal(jax.random.key(config.seed + 1), held_out.shape)
    evaluate = jax.jit(lambda params: jnp.mean(flow.apply({"params": params, **fixed}, held_out, method="log_prob")))

    def save(step: int) -> None:
        # Of the parameters to be saved: the last loss is of those before the last update.
        held_out_log_prob = float(evaluate(params))
        if not np.isfinite(held_out_log_prob):
            raise _not_finite("held-out log-likelihood", held_out_log_prob, step)
        metadata = provenance.metadata(config, bodies) | {
            "noise_mm": config.flow.noise_mm,
            "held_out_log_prob": held_out_log_prob,
        }
        checkpoints.save(
            directory,
            step,
            # As NumPy: every process trains the same prior on its own device, and one copy is written.
            jax.device_get({"params": params, "fixed": fixed, "opt_state": opt_state}),
            metadata,
        )

    begun, stop = time.monotonic(), stopping.StopOnTerm()
    with (
        logs.Logger(directory, start) as logger,
        stop,
        tqdm(
            total=steps, initial=start, desc="prior", unit="step", mininterval=1, disable=not multihost.is_first()
        ) as bar,
    ):
        for step in range(start, steps):
            params, opt_state, loss = train_step(params, opt_state, skeletons["train"], step)
            if step == start:
                logs.tell_first_step("prior", begun, loss)
            bar.update()
            done = step + 1
            stopped = stop.requested or multihost.asked_to_stop(done)
            saves = done % config.train.checkpoint_every == 0 or done == steps or stopped
            if done % config.train.log_every == 0 or saves:
                value = float(loss)
                if not np.isfinite(value):
                    raise _not_finite("loss", value, done)
                last = {"held_out_log_prob": float(evaluate(params))} if done == steps else {}
                logger.write(done, {"loss_nf": value} | last)
                bar.set_postfix(loss=f"{value:.1f}")
            if saves:
                save(done)
            if stopped:
                raise KeyboardInterrupt


def _not_finite(what: str, value: float, step: int) -> FloatingPointError:
    return FloatingPointError(
        f"the prior's {what} is {value} at step {step}: lower config.flow.learning_rate or raise config.flow.noise_mm."
    )


def load_prior(config: Any, workdir: pathlib.Path, bodies: setup.Bodies, folded: bool = True) -> Prior:
    """Restores the prior of a work directory, with its masks and its standardisation.

    A single hypothesis needs none: without `prior/` it gets one that weighs all alike (SPIN's weights have no prior).

    Args:
      config: of the experiment.
      workdir: with the folder `prior`.
      bodies: with which it was trained.
      folded: made faster (`models.folded_flow`), as evaluation and prediction use it; else with the variables of its training.
    """
    flow = flow_of(config)
    if config.model.num_hypotheses == 1 and checkpoints.latest_step(workdir / "prior") is None:
        return Prior(None, flow, None)
    shapes = jax.eval_shape(lambda: flow.init(jax.random.key(0), jnp.zeros((2, 72)), method="log_prob"))
    templates = {"params": shapes["params"], "fixed": {k: v for k, v in shapes.items() if k != "params"}}
    items, metadata, _ = checkpoints.restore(workdir / "prior", templates)
    checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
    checkpoints.check_parts(workdir / "prior", metadata, ("held_out_log_prob",))
    checkpoints.check_finite(workdir / "prior", items)
    variables = {"params": items["params"], **items["fixed"]}
    density, variables = folded_flow.fold(variables) if folded else (flow, variables)
    return Prior(jax.tree.map(jnp.asarray, variables), density, metadata["held_out_log_prob"])
