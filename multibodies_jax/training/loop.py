"""Trains the prior and the regressor: the two stages of appendix D and, beside them, the single-hypothesis baseline."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from configs import default
from multibodies_jax import devices, io
from multibodies_jax.data import sources
from multibodies_jax.losses import objective
from multibodies_jax.models import build
from multibodies_jax.training import (
    checkpoints,
    initialization,
    logs,
    multihost,
    optimizer,
    prior,
    provenance,
    setup,
    stopping,
    train_step,
    training_data,
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of a regressor.

    Attributes:
      title: for the progress bar.
      folder: of its checkpoints and logs, in the work directory; also makes its data differ from other stages'.
      num_hypotheses: M; a source with M = 1 is expanded.
      steps, batch, learning_rate: of the optimiser.
      source: folder of checkpoints to start from, or None to start from random weights.
    """

    title: str
    folder: str
    num_hypotheses: int
    steps: int
    batch: int
    learning_rate: float
    source: pathlib.Path | None


def train(config: Any, workdir: pathlib.Path) -> None:
    """Trains whatever is missing in a work directory, in order: prior, stage one, stage two, HMR baseline.

    Every part continues from its last checkpoint exactly where it stopped. The image sets of all parts are opened before
    the first one trains, so that one that is missing costs no training. A larger `train.steps` than that of the run in the
    work directory trains it on.

    Raises:
      LockedError: another process trains in this work directory.
      ValueError: the work directory has another config, or the config does not fit its data or its `init`.
      CheckpointError: a checkpoint is damaged, of another body, or cannot be written.
      FloatingPointError: a loss is not finite.
      KeyboardInterrupt: SIGTERM or Ctrl+C; what was trained is saved after a SIGTERM.
    """
    with contextlib.ExitStack() as held:
        if _finished(config, workdir):
            return
        plan = stages(config, workdir)
        _check_batches(config, workdir, plan)
        multihost.on_first(lambda: _claim(config, workdir, held), "workdir")
        provenance.check_workdir(config, workdir)
        bodies = setup.load_bodies(config)
        if jax.process_count() > 1:
            multihost.on_first(lambda: sources.build_data(config), "data")
        if _missing(workdir, plan):
            its = {name: config.model[name] for name in ("crop_size", "width", "dtype")}
            build.build_trunk(name=config.model.trunk, **its)  # Its files are missed now, not after the prior.
            sources.open_first(config, dict.fromkeys(config.data.sets or (), ("train",)))
            _check_labels(config, bodies, workdir, plan)
        prior.train_prior(config, workdir, bodies)
        for stage in plan:
            train_regressor(config, workdir, bodies, stage)


def _finished(config: Any, workdir: pathlib.Path) -> bool:
    """Whether nothing is left to train, which is then said; refuses a work directory of another config."""
    if not (workdir / "config.json").exists():
        return False
    provenance.check_workdir(config, workdir, create=True, write=False)
    plan = stages(config, workdir)
    if (checkpoints.latest_step(workdir / "prior") or 0) < config.flow.steps or _missing(workdir, plan):
        return False
    if multihost.is_first():
        print(
            f"{workdir} is trained: all {config.train.steps} steps are done. --config.train.steps={2 * config.train.steps} "
            "trains it on.",
            flush=True,
        )
    return True


def _missing(workdir: pathlib.Path, plan: Sequence[Stage]) -> bool:
    """Whether a stage has steps to train."""
    return any((checkpoints.latest_step(workdir / stage.folder) or 0) < stage.steps for stage in plan)


def _check_batches(config: Any, workdir: pathlib.Path, plan: Sequence[Stage]) -> None:
    """Refuses a batch that cannot be shared, of a later stage too, before the work directory is bound to the config."""
    for stage in plan:
        if _missing(workdir, [stage]):
            per_device(config, stage, devices.everywhere().size)


def _check_labels(config: Any, bodies: setup.Bodies, workdir: pathlib.Path, plan: Sequence[Stage]) -> None:
    """Refuses fits that cannot be labels, and what a training with targets of its own could not start from."""
    if default.optional(config, "data.fits"):
        training_data.check_fits(config, bodies.j24)
    targets = setup.targets(config, bodies, workdir)
    if targets is not None and not any(checkpoints.latest_step(workdir / stage.folder) for stage in plan):
        targets.check()


def _claim(config: Any, workdir: pathlib.Path, held: contextlib.ExitStack) -> None:
    """Locks a work directory until `held` ends, and binds it to the config."""
    held.enter_context(provenance.locked(workdir, "training"))
    provenance.check_workdir(config, workdir, create=True)


def stages(config: Any, workdir: pathlib.Path) -> list[Stage]:
    """Appendix D: HMR (M = 1) is trained first, then the network with M hypotheses that starts from its weights.

    Returns the trainings of a config in their order. The baseline follows the two stages: it is stage one, trained on
    for as many steps, of the same batch size and learning rate, as stage two.
    """
    if default.optional(config, "data.cached_passes") and jax.process_count() > 1:
        raise ValueError(
            f"config.data.cached_passes={config.data.cached_passes} works with one process, and there are "
            f"{jax.process_count()}: set it to 0, and every process reads its share of the images."
        )
    t, one, many, rate = config.train, config.stage1, config.model.num_hypotheses, config.optim.learning_rate
    source = initialization.source_folder(config)
    started = 1 if source is None else _hypotheses_of(source)
    if many == 1:
        label = setup.network(config, 1).label.removesuffix(" (M = 1)")
        return [Stage(label, "checkpoints", 1, t.steps, t.batch, rate, source)]
    plan = []
    if source is None:
        source = workdir / "stage1"
        plan.append(Stage("stage 1", "stage1", 1, one.steps, one.batch, one.learning_rate, None))
    elif t.baseline and started > 1:
        raise ValueError(
            f"config.init={config.init!r} has several hypotheses, and the HMR baseline starts from one: set --config.train.baseline=False."
        )
    plan.append(Stage(f"M = {many}", "checkpoints", many, t.steps, t.batch, rate, source))
    if t.baseline:
        plan.append(Stage("HMR", "hmr", 1, t.steps, t.batch, rate, source))
    return plan


def _hypotheses_of(source: pathlib.Path) -> int:
    """M of a checkpoint to start from, which is looked at before anything is trained.

    Raises:
      CheckpointError: it is damaged, or no network's.
    """
    metadata = checkpoints.restore(source, {})[1]
    checkpoints.check_parts(source, metadata, ("num_hypotheses",))
    return metadata["num_hypotheses"]


def train_regressor(config: Any, workdir: pathlib.Path, bodies: setup.Bodies, stage: Stage) -> None:
    """Trains one stage into WORKDIR/FOLDER.

    Raises:
      FloatingPointError: a loss term is not finite; the message names the step and the term.
    """
    directory = workdir / stage.folder
    start = checkpoints.latest_step(directory) or 0
    if start >= stage.steps:
        return
    # Every stage draws its own views, order and augmentation.
    seed = config.seed + io.number_of(stage.folder, 3, "little")
    key = jax.random.key(seed)
    source = initialization.restore(config, bodies, stage.source) if stage.source else None
    data = training_data.open_data(config, bodies, stage.batch, seed, source)
    mean_state = source.metadata.get("mean_state") if source else None
    model = setup.build_model(config, stage.num_hypotheses, bodies, mean_state)
    variables = initialization.variables(config, model, stage.num_hypotheses, source, data.example, key)
    init = source.origin() if source else None
    targets = setup.targets(config, bodies, workdir)
    trained = train_step.trained(config, stage.num_hypotheses, variables["params"])
    adam = optimizer.make_optimizer(config, trained, stage.steps, stage.learning_rate)
    state = train_step.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        ema=jax.tree.map(jnp.copy, variables["params"]) if config.optim.ema else {},
        opt_state=adam.init(variables["params"]),
        memory={} if targets is None else targets.template(),
    )
    seconds = -time.monotonic()
    earlier: list[dict[str, int]] = []
    if start:
        items, metadata, _ = checkpoints.restore(directory, {"state": state})
        checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
        checkpoints.check_parts(directory, metadata, ("config", "data_position"))
        if targets is not None and metadata.get("targets") != targets.about:
            raise ValueError(
                f"{directory} has labels of {metadata.get('targets')}, and config.data.sets are {dict(targets.about)}: the "
                "sets were built anew with other examples. Build them as they were, or train in another --workdir."
            )
        state = items["state"]
        seconds += metadata.get("training_seconds", 0.0)
        earlier = _earlier_plans(config, metadata, start)
        if data.batches is not None:
            data.batches.set_state(metadata["data_position"])
    elif targets is not None:
        known = source.memory_of(targets) if source else None
        state = state.replace(memory=targets.first() if known is None else known)
    # Data parallel over all devices: batches are split, everything else is copied.
    split, copied = _shardings(config, stage)
    state, resident, loss_bodies = jax.device_put((state, data.resident, setup.loss_bodies(config, bodies)), copied)
    step_fn = train_step.make_train_step(
        config, model, bodies, adam, stage.num_hypotheses, data.prepare, split, targets
    )
    step = jax.jit(step_fn, donate_argnums=0, out_shardings=copied)

    def save(state: train_step.TrainState, done: int) -> None:
        metadata = provenance.metadata(config, bodies) | {
            "num_hypotheses": stage.num_hypotheses,
            "images_seen": done * stage.batch,
            "training_seconds": seconds + time.monotonic(),
            "extended": earlier,
            "init": init,
            "mean_state": list(model.settings.mean_state),
            "data_position": None if data.batches is None else data.batches.get_state(),
        }
        metadata |= {} if targets is None else {"targets": dict(targets.about)}
        checkpoints.save(directory, done, {"state": state}, metadata)

    begun, stop = time.monotonic(), stopping.StopOnTerm()
    bar = tqdm(
        total=stage.steps, initial=start, desc=stage.title, unit="step", mininterval=1, disable=not multihost.is_first()
    )
    with logs.Logger(directory, start) as logger, bar, stop:
        pending = None  # Metrics of the step before: reading them late keeps the device busy.
        for done in range(start + 1, stage.steps + 1):
            batch = resident if data.batches is None else training_data.to_devices(next(data.batches), split)
            state, metrics = step(state, batch, key, loss_bodies)
            if pending is not None:
                _check_finite(pending, done - 1)
            if pending is None:
                logs.tell_first_step(stage.title, begun, metrics)
            pending = metrics
            bar.update()
            stopped = stop.requested or multihost.asked_to_stop(done)
            last = done == stage.steps or stopped
            if done % config.train.log_every == 0 or last:
                values = {k: float(v) for k, v in metrics.items()}
                logger.write(done, values)
                bar.set_postfix(loss=f"{values['loss']:.3g}", best=f"{values['best_mm']:.0f} mm")
            if done % config.train.checkpoint_every == 0 or last:
                _check_finite(metrics, done)
                if targets is not None and done == stage.steps and stage.folder == "checkpoints":
                    # Before the checkpoint that ends the stage: a run that stops in between makes both again.
                    memory = jax.device_get(state.memory)
                    multihost.on_first(lambda memory=memory: targets.finish(memory), "targets")
                save(state, done)
            if stopped:
                raise KeyboardInterrupt


def _earlier_plans(config: Any, metadata: Mapping[str, Any], start: int) -> list[dict[str, int]]:
    """Where a run was trained on with more steps than planned: its schedule is not that of one run."""
    planned = (metadata["config"].get("train") or {}).get("steps", config.train.steps)
    known = metadata.get("extended", [])
    return known if planned == config.train.steps else [*known, {"at_step": start, "planned_steps": planned}]


def per_device(config: Any, stage: Stage, number: int) -> int:
    """Examples of each part of the batch (`train.accumulate`) on each of `number` devices.

    Raises:
      ValueError: they cannot be shared equally (the message says what can), or the objective needs them all at once.
    """
    parts, reading = config.train.accumulate, config.loss.reading
    if parts > 1 and reading in objective.OF_WHOLE_BATCHES:
        raise ValueError(
            f"config.train.accumulate={parts} would change the losses of config.loss.reading={reading!r}: "
            f"{objective.OF_WHOLE_BATCHES[reading]}, and parts of it have other numbers of them. Set it to 1."
        )
    if not stage.batch % (parts * number):
        return stage.batch // (parts * number)
    field = batch_field(stage)
    least = parts * number
    nearest = sorted({max(stage.batch // least, 1) * least, (stage.batch // least + 1) * least})
    counts = [count for count in range(1, stage.batch + 1) if stage.batch % (parts * count) == 0]
    numbers = f"a number of devices among {', '.join(map(str, counts))}" if counts else "config.train.accumulate=1"
    raise ValueError(
        f"{stage.title}: a batch of {stage.batch} in {parts} parts (config.train.accumulate) cannot be split over {number} "
        f"devices: set {field} to a multiple of {least} ({' or '.join(map(str, nearest))}), or take {numbers}."
    )


def batch_field(stage: Stage) -> str:
    """The field with the batch of a stage."""
    return "config.stage1.batch" if stage.folder == "stage1" else "config.train.batch"


def _shardings(config: Any, stage: Stage) -> tuple[NamedSharding, NamedSharding]:
    """(batches split over all devices, whole copies)."""
    mesh = devices.everywhere()
    per_device(config, stage, mesh.size)
    return NamedSharding(mesh, PartitionSpec(devices.EXAMPLES)), NamedSharding(mesh, PartitionSpec())


def _check_finite(metrics: dict, step: int) -> None:
    bad = [name for name, value in jax.device_get(metrics).items() if not np.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"step {step}: {', '.join(sorted(bad))} not finite. The last checkpoint is from before; "
            "lower config.optim.learning_rate, or set config.optim.clip."
        )
