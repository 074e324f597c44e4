"""Trains the prior and the regressor: the two stages of appendix D and, beside them, the single-hypothesis baseline."""

import pathlib
import signal
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int
from tqdm import tqdm

from multibodies_jax import checkpoints, experiment, hypotheses, logs, losses, prior, smpl
from multibodies_jax.data import augment, pipeline, virtual
from multibodies_jax.models import hmr


class TrainState(flax.struct.PyTreeNode):
    """What a step changes; all of it is in the checkpoint."""

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    ema: Any  # Averaged parameters, which are evaluated; empty when `optim.ema` is 0.
    opt_state: Any


def train(config: Any, workdir: pathlib.Path) -> None:
    """Trains whatever is missing in a work directory, in order: prior, stage one, stage two, HMR baseline.

    Every part continues from its last checkpoint exactly where it stopped.
    """
    experiment.check_workdir(config, workdir)
    bodies = experiment.load_bodies(config)
    prior.train_prior(config, workdir, bodies)
    t, one, many = config.train, config.stage1, config.model.num_hypotheses
    if many == 1:
        train_regressor(
            config,
            workdir,
            bodies,
            "hmr",
            "checkpoints",
            1,
            t.steps,
            t.batch,
            config.optim.learning_rate,
            _source(config),
        )
        return
    if config.init:
        source = _source(config)
    else:
        train_regressor(config, workdir, bodies, "stage 1", "stage1", 1, one.steps, one.batch, one.learning_rate, None)
        source = workdir / "stage1"
    train_regressor(
        config,
        workdir,
        bodies,
        f"M = {many}",
        "checkpoints",
        many,
        t.steps,
        t.batch,
        config.optim.learning_rate,
        source,
    )
    if t.baseline:
        steps = -(-t.steps * t.batch // one.batch)  # As many images as stage two sees.
        train_regressor(config, workdir, bodies, "HMR", "hmr", 1, steps, one.batch, config.optim.learning_rate, source)


def _source(config: Any) -> pathlib.Path | None:
    """The checkpoint folder that `config.init` names: a work directory's own checkpoints, else its first stage."""
    if not config.init:
        return None
    root = pathlib.Path(config.init)
    for folder in (root / "stage1", root / "checkpoints", root):
        if checkpoints.latest_step(folder) is not None:
            return folder
    raise FileNotFoundError(
        f"config.init={config.init!r} holds no checkpoint (looked in stage1/, checkpoints/ and the folder itself)."
    )


def train_regressor(
    config: Any,
    workdir: pathlib.Path,
    bodies: experiment.Bodies,
    title: str,
    folder: str,
    num_hypotheses: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    source: pathlib.Path | None,
) -> None:
    """Trains one regressor into WORKDIR/FOLDER.

    Args:
      title: for the progress bar.
      num_hypotheses: M; a source with M = 1 is expanded.
      source: folder of checkpoints to start from, or None to start from random weights.

    Raises:
      FloatingPointError: a loss term is not finite; the message names the step and the term.
    """
    directory = workdir / folder
    start = checkpoints.latest_step(directory) or 0
    if start >= steps:
        return
    # Data: host batches with their position, or people on the device.
    batches, example, prepare, device_data = _data(config, bodies, batch_size)
    # Model and optimiser.
    model = experiment.build_model(config, num_hypotheses, bodies)
    key = jax.random.key(config.seed)
    variables = _initial_variables(config, model, num_hypotheses, bodies, example, key, source if start == 0 else None)
    optimizer = _optimizer(config, variables["params"], steps, learning_rate)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        ema=variables["params"] if config.optim.ema else {},
        opt_state=optimizer.init(variables["params"]),
    )
    # Restore.
    if start:
        items, metadata, _ = checkpoints.restore(directory, {"state": state})
        checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
        state = jax.tree.map(jnp.asarray, items["state"])
        if batches is not None:
            batches.set_state(metadata["data_position"])
    # Data parallel over all devices: batches are split, everything else is copied.
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split, copied = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    if batch_size // config.train.accumulate % jax.device_count():
        raise ValueError(
            f"a batch of {batch_size} in {config.train.accumulate} parts cannot be split over {jax.device_count()} devices."
        )
    state, device_data = jax.device_put((state, device_data), copied)
    step_fn = _make_train_step(config, model, bodies, optimizer, num_hypotheses, prepare, split)
    train_step = jax.jit(step_fn, donate_argnums=0, out_shardings=copied)

    def save(state: TrainState, done: int) -> None:
        metadata = experiment.metadata(config, bodies) | {
            "num_hypotheses": num_hypotheses,
            "images_seen": done * batch_size,
            "data_position": None if batches is None else batches.get_state(),
        }
        checkpoints.save(directory, done, {"state": state}, metadata, keep=config.train.keep)

    # Loop.
    stop = _StopOnTerm()
    with (
        logs.Logger(directory, start) as logger,
        tqdm(total=steps, initial=start, desc=title, unit="step", mininterval=1) as bar,
        stop,
    ):
        pending = None  # Metrics of the step before: reading them late keeps the device busy.
        for done in range(start + 1, steps + 1):
            batch = device_data if batches is None else _to_devices(next(batches), split)
            state, metrics = train_step(state, batch, key)
            if pending is not None:
                _check_finite(pending, done - 1)
            pending = metrics
            bar.update()
            last = done == steps or stop.requested
            if done % config.train.log_every == 0 or last:
                values = {k: float(v) for k, v in metrics.items()}
                logger.write(done, values)
                bar.set_postfix(loss=f"{values['loss']:.3g}", best=f"{values['best_mm']:.0f} mm")
            if done % config.train.checkpoint_every == 0 or last:
                _check_finite(metrics, done)
                save(state, done)
            if stop.requested:
                raise KeyboardInterrupt


def _data(config: Any, bodies: experiment.Bodies, batch_size: int) -> tuple[Any, dict, Callable, Any]:
    """(host batches or None, an example batch, what to do with a batch on the device, data that stays on the device)."""
    if config.data.virtual_cameras:
        poses, betas = experiment.load_people(config, "train")
        people = {"poses": jnp.asarray(poses), "betas": jnp.asarray(betas)}

        def view(people: dict, key: Array) -> dict:
            k_pick, k_view = jax.random.split(key)
            index = jax.random.randint(k_pick, (batch_size // config.train.accumulate,), 0, len(people["poses"]))
            keys = jax.random.split(k_view, len(index))
            return virtual.synthesize(
                people["poses"][index], people["betas"][index], keys, bodies.j24, hide=config.data.occlusion
            )

        example = jax.eval_shape(view, people, jax.random.key(0))
        return None, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), example), view, people
    with_image = config.model.trunk != "keypoints"

    def make_example(record: augment.Record, rng: np.random.Generator) -> dict:
        return augment.training_example(
            record,
            rng,
            config.model.crop_size,
            occlusion=config.data.occlusion,
            augment=config.data.augment != "none",
            with_image=with_image,
            strength=augment.SPIN if config.data.augment == "spin" else augment.MILD,
        )

    sources = [experiment.open_source(config, name, "train") for name in config.data.sets]
    batches = pipeline.train_batches(
        sources,
        config.data.weights,
        batch_size // jax.process_count(),
        config.seed,
        make_example,
        threads=config.data.threads,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    example = pipeline.collate([make_example(sources[0][0], np.random.default_rng(0))] * 2)
    return batches, _arrays(example), lambda batch, key: batch, None


def _to_devices(batch: dict, split: NamedSharding) -> dict:
    """This process' share of a batch as a part of the global one."""
    return {k: jax.make_array_from_process_local_data(split, v) for k, v in _arrays(batch).items()}


def _arrays(batch: dict) -> dict:
    return {k: v for k, v in batch.items() if np.asarray(v).dtype.kind in "fiub"}


def _initial_variables(config, model, num_hypotheses, bodies, example, key, source) -> dict:
    """Random variables, or those of `source`, whose single hypothesis becomes M."""
    k_init, k_expand = jax.random.split(key)
    example = jax.tree.map(lambda x: jnp.asarray(x[:2]), example)
    if source is None:
        return jax.jit(lambda k: model.init({"params": k, "dropout": k}, example, train=False))(k_init)
    items, metadata, _ = checkpoints.restore(source)
    checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
    have = metadata["num_hypotheses"]
    if have not in (1, num_hypotheses):
        raise ValueError(
            f"{source} has M = {have} hypotheses; M = {num_hypotheses} can start from M = 1 or from {num_hypotheses}."
        )
    state = jax.tree.map(jnp.asarray, items["state"])
    params = state.get("ema") or state["params"]
    if num_hypotheses > have:
        params = hmr.expand_to_hypotheses(params, num_hypotheses, config.model.init_noise, k_expand)
    variables = {"params": params, "batch_stats": state.get("batch_stats", {})}
    expected = jax.eval_shape(lambda: model.init({"params": k_init, "dropout": k_init}, example, train=False))
    checkpoints.check_match(source, variables["params"], expected["params"])
    return variables


def _optimizer(config: Any, params: Any, steps: int, learning_rate: float) -> optax.GradientTransformation:
    o = config.optim
    warmup = min(o.warmup, steps // 10 + 1)
    if o.schedule == "cosine":
        schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps)
    else:
        schedule = optax.linear_schedule(0.0, learning_rate, warmup)
    chain = [optax.clip_by_global_norm(o.clip)] if o.clip else []
    optimizer = optax.chain(*chain, optax.adamw(schedule, weight_decay=o.weight_decay))
    if config.freeze == "trunk":
        labels = {name: "frozen" if name == "trunk" else "trained" for name in params}
        optimizer = optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)
    return optimizer


def _make_train_step(config, model, bodies, optimizer, num_hypotheses, prepare, split) -> Callable:
    """Builds `train_step(state, batch, key) -> (state, metrics)`."""
    weights = {
        k: config.loss[k]
        for k in ("best", "pose", "betas", "vertices", "reprojection_best", "reprojection_all", "camera")
    }
    some = smpl.subset(bodies.smpl, np.arange(0, len(bodies.smpl.v_template), config.loss.vertex_stride))
    parts, ema = config.train.accumulate, config.optim.ema

    def centred_mesh(rotmats: Array, betas: Array) -> Array:
        midhip = jnp.mean(smpl.joints(bodies.j24, rotmats, betas)[..., 2:4, :], axis=-2, keepdims=True)
        return smpl.mesh(some, rotmats, betas) - midhip

    def loss_fn(params: Any, batch_stats: Any, batch: dict, key: Array) -> tuple[Array, Any]:
        k_prepare, k_dropout = jax.random.split(key)
        batch = prepare(batch, k_prepare)
        batch = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split), batch)
        variables = {"params": params, "batch_stats": batch_stats}
        out, changed = model.apply(variables, batch, train=True, rngs={"dropout": k_dropout}, mutable=["batch_stats"])
        hyps = hypotheses.decode(out, bodies.j24)
        loss, terms, best = losses.total(
            hyps,
            batch,
            weights,
            reading=config.loss.reading,
            reduce=config.loss.reduce,
            mode0=config.loss.mode0 and num_hypotheses > 1,
            vertices=centred_mesh,
        )
        metrics = {f"loss_{name}": jnp.mean(value) for name, value in terms.items()}
        metrics["best_mm"] = 1000 * _best_error(hyps, batch, best)
        metrics["used_hypotheses"] = _perplexity(best, num_hypotheses)
        return jnp.mean(loss), (changed.get("batch_stats", {}), metrics)

    def train_step(state: TrainState, batch: dict, key: Array) -> tuple[TrainState, dict]:
        keys = jax.random.split(jax.random.fold_in(key, state.step), parts)

        def part(carry, xs):
            batch_stats, total, gradient = carry
            (loss, (batch_stats, metrics)), g = jax.value_and_grad(loss_fn, has_aux=True)(
                state.params, batch_stats, *xs
            )
            return (batch_stats, total + loss / parts, jax.tree.map(lambda a, b: a + b / parts, gradient, g)), metrics

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        start = (state.batch_stats, jnp.zeros(()), zeros)
        if config.data.virtual_cameras:  # The people stay whole: every part draws its own views.
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


def _check_finite(metrics: dict, step: int) -> None:
    bad = [name for name, value in jax.device_get(metrics).items() if not np.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"step {step}: {', '.join(sorted(bad))} not finite. The last checkpoint is from before; "
            "lower config.optim.learning_rate, or set config.optim.clip."
        )


class _StopOnTerm:
    """While active, SIGTERM asks the loop to save and stop instead of killing it."""

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "_StopOnTerm":
        self._before = signal.signal(signal.SIGTERM, self._request) if _in_main_thread() else None
        return self

    def _request(self, *_) -> None:
        self.requested = True

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
