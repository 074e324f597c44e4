"""What one step of training is made of: data, optimiser and the jitted step itself."""

from collections.abc import Callable
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Int

from multibodies_jax.baselines import smpl_cvae, smpl_mdn
from multibodies_jax.body import smpl
from multibodies_jax.data import augment, pipeline, sources, virtual_views
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.losses import total as losses
from multibodies_jax.models import registry
from multibodies_jax.training import setup


@no_type_check  # Restoring fills it with NumPy arrays, templates with shapes.
class TrainState(flax.struct.PyTreeNode):
    """What a step changes; all of it is in the checkpoint."""

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    ema: Any  # Averaged parameters, which are evaluated; empty when `optim.ema` is 0.
    opt_state: Any


class Data(flax.struct.PyTreeNode):
    """Where batches come from.

    Attributes:
      resident: what stays on the device: all people, for virtual cameras, or all cached features; else None.
      example: a batch of two, for shapes.
      batches: host batches with `get_state` and `set_state`; None where everything is resident.
      prepare: (batch or `resident`, key) -> the batch a model sees; part of the jitted step.
    """

    resident: Any
    example: dict[str, Array]
    batches: Any = flax.struct.field(pytree_node=False)
    prepare: Callable[[Any, Array], dict[str, Array]] = flax.struct.field(pytree_node=False)


def open_data(config: Any, bodies: setup.Bodies, batch_size: int, seed: int) -> Data:
    """Opens the training data of a config: people seen by virtual cameras, or a mixture of image sets."""
    if config.data.virtual_cameras:
        return _virtual(config, bodies, batch_size)
    return stored_data(config, batch_size, seed)


def cached_data(config: Any, rows: dict[str, np.ndarray], batch_size: int, example: dict[str, Array]) -> Data:
    """Batches of random rows of a cache of features (`features.open_cache`); `example` is one of images."""
    size, count = batch_size // config.train.accumulate, len(rows["feature"])

    def draw(rows: dict, key: Array) -> dict:
        index = jax.random.randint(key, (size,), 0, count)
        return {name: values[index] for name, values in rows.items()}

    return Data({name: jnp.asarray(values) for name, values in rows.items()}, example, None, draw)


def _virtual(config: Any, bodies: setup.Bodies, batch_size: int) -> Data:
    poses, betas = sources.load_people(config, "train")
    people = {"poses": jnp.asarray(poses), "betas": jnp.asarray(betas)}
    views = batch_size // config.train.accumulate

    def view(people: dict, key: Array) -> dict:
        k_pick, k_view = jax.random.split(key)
        index = jax.random.randint(k_pick, (views,), 0, len(people["poses"]))
        keys = jax.random.split(k_view, views)
        chosen = people["poses"][index], people["betas"][index]
        return virtual_views.synthesize(*chosen, keys, bodies.j24, hide=config.data.occlusion)

    shapes = jax.eval_shape(view, people, jax.random.key(0))
    example = jax.tree.map(lambda s: jnp.zeros((2, *s.shape[1:]), s.dtype), shapes)
    return Data(people, example, None, view)


def stored_data(config: Any, batch_size: int, seed: int) -> Data:
    """Host batches of the image sets, augmented."""

    def make_example(record: augment.Record, rng: np.random.Generator) -> dict:
        return augment.training_example(
            record,
            rng,
            config.model.crop_size,
            occlusion=config.data.occlusion,
            augment=config.data.augment != "none",
            with_image=config.model.trunk != "keypoints",
            strength=augment.SPIN if config.data.augment == "spin" else augment.MILD,
            crop=config.data.crop,
            contrast_stretch=config.data.contrast_stretch,
        )

    opened = [sources.open_source(config, name, "train") for name in config.data.sets]
    batches = pipeline.train_batches(
        opened,
        config.data.weights,
        batch_size // jax.process_count(),
        seed,
        make_example,
        threads=config.data.threads,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    example = pipeline.collate([make_example(opened[0][0], np.random.default_rng(0))] * 2)
    return Data(None, jax.tree.map(jnp.asarray, numeric(example)), batches, lambda batch, key: batch)


def to_devices(batch: dict, split: NamedSharding) -> dict:
    """This process' share of a batch as a part of the global one."""
    return {k: jax.make_array_from_process_local_data(split, v) for k, v in numeric(batch).items()}


def numeric(batch: dict) -> dict:
    """A batch without its texts."""
    return {k: v for k, v in batch.items() if np.asarray(v).dtype.kind in "fiub"}


def make_optimizer(config: Any, trained: Any, steps: int, learning_rate: float) -> optax.GradientTransformation:
    """Adam with clipping, warm-up, a schedule and weight decay (`optim`).

    `optim.l2` is added to the gradient, where Adam rescales it with the rest (PyTorch's Adam, the authors' code);
    `optim.weight_decay` is not (AdamW).

    Args:
      config: of the experiment.
      trained: which parameters learn, a tree of booleans (`models.trained`); the others get no updates.
      steps: of the whole training.
      learning_rate: after the warm-up.
    """
    o = config.optim
    chain = [optax.clip_by_global_norm(o.clip)] if o.clip else []
    chain += [optax.add_decayed_weights(o.l2)] if o.l2 else []
    optimizer = optax.chain(*chain, optax.adamw(_schedule(o, steps, learning_rate), weight_decay=o.weight_decay))
    if all(jax.tree.leaves(trained)):
        return optimizer
    labels = jax.tree.map(lambda learns: "trained" if learns else "frozen", trained)
    return optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _schedule(o: Any, steps: int, learning_rate: float) -> optax.ScalarOrSchedule:
    warmup = min(o.warmup, steps // 10)
    if o.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps)
    start = optax.linear_schedule(0.0, learning_rate, warmup) if warmup else optax.constant_schedule(learning_rate)
    if o.schedule == "constant":
        return start if warmup else learning_rate
    return lambda step: jnp.where(step < o.decay_step, 1.0, 0.1) * start(step)


def make_train_step(config, model, bodies, optimizer, num_hypotheses, prepare, split) -> Callable:
    """Builds `train_step(state, batch, key) -> (state, metrics)`."""
    loss_fn = _make_loss(config, model, bodies, num_hypotheses, prepare, split)
    resident = config.data.virtual_cameras or config.data.cached_passes
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
    reading, name = config.loss.reading, config.model.name if num_hypotheses > 1 else "hmr"
    options = {
        "weights": {term: config.loss[term] for term in losses.TERMS},
        "reading": reading,
        "reduce": config.loss.reduce,
        "mode0": config.loss.mode0 and name == "multibodies",
        "vertices": _centred_mesh(config, bodies),
    }
    encoded = setup.encoded_mesh(config, bodies) if name == "smpl_cvae" else None

    def loss_fn(params: Any, batch_stats: Any, batch: dict, key: Array, step: Array) -> tuple[Array, Any]:
        k_prepare, k_dropout = jax.random.split(key)
        batch = prepare(batch, k_prepare)
        batch = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split), batch)
        variables = {"params": _stop_frozen(config, num_hypotheses, params), "batch_stats": batch_stats}
        seen = batch | ({"mesh": encoded(batch)} if encoded else {})
        rngs = {"dropout": k_dropout, "latent": jax.random.fold_in(key, 2)}
        out, changed = model.apply(variables, seen, train=True, rngs=rngs, mutable=["batch_stats", "extras"])
        out, own, weights = _own_objective(config, name, out, changed.get("extras", {}), batch, step)
        hyps = hypotheses.decode(out, bodies.j24)
        smpl_joints = (
            setup.centred_joints(bodies, batch["rotmats"], batch["betas"])[0] if reading == "released" else None
        )
        loss, terms, best = losses.total(hyps, batch, **options, smpl_joints=smpl_joints)
        loss = loss + sum(weights[term] * value for term, value in own.items())
        metrics = {f"loss_{term}": jnp.mean(value) for term, value in (terms | own).items()}
        metrics |= _annotated(batch)
        metrics["best_mm"] = 1000 * _best_error(hyps, batch, best)
        if out.shape[1] == num_hypotheses:  # SMPL-MDN and SMPL-CVAE train one prediction, whatever M is.
            metrics["used_hypotheses"] = _perplexity(best, num_hypotheses)
        return jnp.mean(loss), (changed.get("batch_stats", {}), metrics)

    return loss_fn


def _own_objective(config, name: str, states: Array, extras: dict, batch: dict, step: Array):
    """The states that the total loss takes, the terms that only this model has, and their weights."""
    extras = {key: values[-1] for key, values in extras.items()}
    if name == "smpl_mdn":
        states, nll = smpl_mdn.objective(states, extras["log_alpha"], extras["log_sigma"], batch, config.mdn.root)
        return states, {"mixture": nll}, {"mixture": config.mdn.weight}
    if name == "smpl_cvae":
        valid = batch["smpl_valid"] > 0
        kl = jnp.sum(smpl_cvae.kl_divergence(extras["mean"], extras["log_var"]), axis=1)
        weight = smpl_cvae.annealed(step, config.cvae.weight, config.cvae.anneal_steps)
        return states, {"kl": jnp.where(valid, kl, 0.0)}, {"kl": weight}
    return states, {}, {}


def trained(config: Any, num_hypotheses: int, params: Any) -> Any:
    """Which parameters of a stage learn (`freeze`), as a tree of booleans."""
    return registry.trained(params, config.model.head, setup.freeze(config, num_hypotheses))


def _stop_frozen(config: Any, num_hypotheses: int, params: Any) -> Any:
    """No gradient for what is frozen: its backward pass is not computed, and it counts in no norm."""
    learns = trained(config, num_hypotheses, params)
    return jax.tree.map(lambda learns, x: x if learns else jax.lax.stop_gradient(x), learns, params)


def _centred_mesh(config: Any, bodies: setup.Bodies) -> Callable[[Array, Array], Array]:
    """The vertices that the loss compares, `loss.vertex_set` and `loss.vertex_stride`, mid-hip centred."""
    every = np.arange(len(bodies.smpl.v_template))
    chosen = bodies.files.regressed_vertices if config.loss.vertex_set == "regressed" else every
    some = smpl.subset(bodies.smpl, chosen[:: config.loss.vertex_stride])
    return lambda rotmats, betas: smpl.mesh(some, rotmats, betas) - setup.centred_joints(bodies, rotmats, betas)[1]


def _annotated(batch: dict) -> dict[str, Array]:
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
