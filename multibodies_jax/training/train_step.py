"""One step of training: forward pass, losses, gradient and update, as one function that is jitted whole."""

from collections.abc import Callable
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from multibodies_jax.body import smpl
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.losses import total as losses
from multibodies_jax.models import build
from multibodies_jax.training import setup


@no_type_check  # Restoring fills it with NumPy arrays, templates with shapes.
class TrainState(flax.struct.PyTreeNode):
    """What a step changes; all of it is in the checkpoint."""

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    ema: Any  # Averaged parameters, which are evaluated; empty when `optim.ema` is 0.
    opt_state: Any


def make_train_step(config, model, bodies, optimizer, num_hypotheses, prepare, split) -> Callable:
    """Builds `train_step(state, batch, key) -> (state, metrics)`."""
    loss_fn = _make_loss(config, model, bodies, num_hypotheses, prepare, split)
    resident = config.data.sets is None or config.data.get("cached_passes")
    parts, ema = config.train.accumulate, config.optim.ema

    def train_step(state: TrainState, batch: dict, key: Array) -> tuple[TrainState, dict]:
        keys = jax.random.split(jax.random.fold_in(key, state.step), parts)

        def part(carry, xs):
            batch_stats, total, gradient = carry
            (loss, (batch_stats, metrics)), g = jax.value_and_grad(loss_fn, has_aux=True)(
                state.params, batch_stats, *xs, state.step
            )
            return (batch_stats, total + loss / parts, jax.tree.map(lambda a, b: a + b / parts, gradient, g)), metrics

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        start = (state.batch_stats, jnp.zeros(()), zeros)
        if parts == 1:  # Not through `scan`: on CPUs XLA runs convolutions inside a loop many times slower.
            (batch_stats, loss, gradient), metrics = part(start, (batch, keys[0]))
        elif resident:  # It stays whole: every part draws its own views or rows.
            (batch_stats, loss, gradient), metrics = jax.lax.scan(lambda c, k: part(c, (batch, k)), start, keys)
        else:
            shaped = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
            (batch_stats, loss, gradient), metrics = jax.lax.scan(part, start, (shaped, keys))
        metrics = {k: jnp.mean(v) for k, v in metrics.items()}
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = optax.incremental_update(params, state.ema, 1 - ema) if ema else {}
        new = TrainState(step=state.step + 1, params=params, batch_stats=batch_stats, ema=averaged, opt_state=opt_state)
        return new, metrics | {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}

    return train_step


def _make_loss(config, model, bodies, num_hypotheses, prepare, split) -> Callable:
    """Builds `loss_fn(params, batch_stats, batch, key, step) -> loss, (batch_stats, metrics)` of a micro-batch."""
    reading, network = config.loss.reading, setup.network(config, num_hypotheses)
    options = {
        "weights": {term: config.loss[term] for term in losses.TERMS},
        "reading": reading,
        "mode0": config.loss.mode0 and num_hypotheses > 1 and not network.exchangeable,
        "vertices": _centred_mesh(config, bodies),
    }
    inputs, own_config = setup.training_inputs(config, num_hypotheses, bodies), network.own(config)

    def loss_fn(params: Any, batch_stats: Any, batch: dict, key: Array, step: Array) -> tuple[Array, Any]:
        k_prepare, k_dropout = jax.random.split(key)
        batch = prepare(batch, k_prepare)
        batch = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split), batch)
        variables = {"params": _stop_frozen(config, num_hypotheses, params), "batch_stats": batch_stats}
        seen = batch | inputs(batch)
        rngs = {"dropout": k_dropout, "latent": jax.random.fold_in(key, 2)}
        out, changed = model.apply(variables, seen, train=True, rngs=rngs, mutable=["batch_stats", "extras"])
        extras = {name: values[-1] for name, values in changed.get("extras", {}).items()}
        out, own, weights = network.states_and_extra_terms(own_config, out, extras, batch, step)
        hyps = hypotheses.decode(out, bodies.j24)
        smpl_joints = (
            setup.centred_joints(bodies, batch["rotmats"], batch["betas"])[0] if reading == "released" else None
        )
        loss, terms, best = losses.total(hyps, batch, **options, smpl_joints=smpl_joints)
        loss = loss + sum(weights[term] * value for term, value in own.items())
        metrics = {f"loss_{term}": jnp.mean(value) for term, value in (terms | dict(own)).items()}
        metrics |= annotated_shares(batch)
        metrics["best_mm"] = 1000 * _best_error(hyps, batch, best)
        if out.shape[1] == num_hypotheses:  # Some baselines train one prediction, whatever M is.
            metrics["used_hypotheses"] = _perplexity(best, num_hypotheses)
        return jnp.mean(loss), (changed.get("batch_stats", {}), metrics)

    return loss_fn


def trained(config: Any, num_hypotheses: int, params: Any) -> Any:
    """Which parameters of a stage learn (`freeze`), as a tree of booleans."""
    frozen = setup.freeze(config, num_hypotheses)
    return build.trained(params, frozen, name=config.model.name, head=config.model.head)


def _stop_frozen(config: Any, num_hypotheses: int, params: Any) -> Any:
    """No gradient for what is frozen: its backward pass is not computed, and it counts in no norm."""
    learns = trained(config, num_hypotheses, params)
    return jax.tree.map(lambda learns, x: x if learns else jax.lax.stop_gradient(x), learns, params)


def _centred_mesh(config: Any, bodies: setup.Bodies) -> Callable[[Array, Array], Array]:
    """The vertices that the loss compares, `loss.vertex_set` and `loss.vertex_stride`, mid-hip centred."""
    every = np.arange(len(bodies.smpl.v_template))
    chosen = bodies.files.regressed_vertices if config.loss.get("vertex_set") == "regressed" else every
    some = smpl.subset(bodies.smpl, chosen[:: config.loss.vertex_stride])
    return lambda rotmats, betas: smpl.mesh(some, rotmats, betas) - setup.centred_joints(bodies, rotmats, betas)[1]


def annotated_shares(batch: dict) -> dict[str, Array]:
    """The share of the batch that feeds the losses on 2D keypoints, 3D joints and SMPL parameters."""
    valid = {name: jnp.any(batch[f"{name}_valid"] > 0, axis=-1) for name in ("kp2d", "joints3d")}
    return {f"annotated_{name}": jnp.mean(v) for name, v in (valid | {"smpl": batch["smpl_valid"] > 0}).items()}


def _best_error(hyps: hypotheses.Hypotheses, batch: dict, best: Array) -> Array:
    """Mean distance of valid J24 joints to the best hypothesis, metres."""
    chosen = jnp.take_along_axis(hyps.joints24, best[:, None, None, None], axis=1)[:, 0]
    valid = batch["joints3d_valid"]
    distance = jnp.linalg.norm(jnp.where(valid[..., None] > 0, chosen - batch["joints3d"], 0.0), axis=-1)
    return jnp.sum(distance * valid) / jnp.maximum(jnp.sum(valid), 1.0)


def _perplexity(best: Array, num_hypotheses: int) -> Array:
    """How many hypotheses are in use: exp of the entropy of `best` over the batch."""
    share = jnp.mean(jax.nn.one_hot(best, num_hypotheses), axis=0)
    return jnp.exp(-jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12))))
