"""Trains the prior and the regressor: the two stages of appendix D and, beside them, the single-hypothesis baseline."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import signal
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array
from tqdm import tqdm

from multibodies_jax.data import sources
from multibodies_jax.models import build
from multibodies_jax.training import (
    checkpoints,
    feature_cache,
    logs,
    multihost,
    optimizer,
    prior,
    provenance,
    setup,
    train_step,
    training_data,
)

FEATURE_BATCH = 100  # Images per pass of a trunk that only reads.


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


@dataclasses.dataclass(frozen=True)
class Source:
    """What a stage starts from: a restored checkpoint.

    Attributes:
      folder: of the checkpoint.
      variables: parameters (averaged ones where they were kept) and statistics.
      metadata: of the checkpoint.
    """

    folder: pathlib.Path
    variables: dict[str, Any]
    metadata: dict[str, Any]

    def origin(self) -> dict[str, str]:
        """So that comparisons can tell whether two runs started alike."""
        parts = [self.variables["params"], self.variables["batch_stats"]]
        return {"dir": str(self.folder), "fingerprint": checkpoints.fingerprint(parts)}


def train(config: Any, workdir: pathlib.Path) -> None:
    """Trains whatever is missing in a work directory, in order: prior, stage one, stage two, HMR baseline.

    Every part continues from its last checkpoint exactly where it stopped.

    Raises:
      ValueError: the work directory has another config, or the config does not fit its data or its `init`.
      CheckpointError: a checkpoint is damaged, of another body, or cannot be written.
      FloatingPointError: a loss is not finite.
    """
    multihost.on_first(lambda: provenance.check_workdir(config, workdir, create=True), "workdir")
    provenance.check_workdir(config, workdir)
    bodies = setup.load_bodies(config)
    plan = stages(config, workdir)
    if jax.process_count() > 1:
        multihost.on_first(lambda: sources.build_data(config), "data")
    prior.train_prior(config, workdir, bodies)
    for stage in plan:
        train_regressor(config, workdir, bodies, stage)


def stages(config: Any, workdir: pathlib.Path) -> list[Stage]:
    """Appendix D: HMR (M = 1) is trained first, then the network with M hypotheses that starts from its weights.

    Returns the trainings of a config in their order. The baseline follows the two stages: it is stage one, trained on
    for as many steps, of the same batch size and learning rate, as stage two.
    """
    if config.data.get("cached_passes") and jax.process_count() > 1:
        raise ValueError(
            f"config.data.cached_passes={config.data.cached_passes} works with one process, and there are "
            f"{jax.process_count()}: set it to 0, and every process reads its share of the images."
        )
    t, one, many, rate = config.train, config.stage1, config.model.num_hypotheses, config.optim.learning_rate
    source = source_folder(config)
    if many == 1:
        return [Stage("HMR", "checkpoints", 1, t.steps, t.batch, rate, source)]
    plan = []
    if source is None:
        source = workdir / "stage1"
        plan.append(Stage("stage 1", "stage1", 1, one.steps, one.batch, one.learning_rate, None))
    elif t.baseline and checkpoints.restore(source, {})[1]["num_hypotheses"] > 1:
        raise ValueError(
            f"config.init={config.init!r} has several hypotheses, and the HMR baseline starts from one: set --config.train.baseline=False."
        )
    plan.append(Stage(f"M = {many}", "checkpoints", many, t.steps, t.batch, rate, source))
    if t.baseline:
        plan.append(Stage("HMR", "hmr", 1, t.steps, t.batch, rate, source))
    return plan


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
    seed = config.seed + int.from_bytes(hashlib.sha256(stage.folder.encode()).digest()[:3], "little")
    key = jax.random.key(seed)
    source = _restore(config, bodies, stage.source) if stage.source else None
    data = _open_data(config, bodies, stage, source, seed)
    mean_state = source.metadata.get("mean_state") if source else None
    model = setup.build_model(config, stage.num_hypotheses, bodies, mean_state)
    variables = _initial_variables(config, model, stage, source, data.example, key)
    init = source.origin() if source else None
    trained = train_step.trained(config, stage.num_hypotheses, variables["params"])
    adam = optimizer.make_optimizer(config, trained, stage.steps, stage.learning_rate)
    state = train_step.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        ema=jax.tree.map(jnp.copy, variables["params"]) if config.optim.ema else {},
        opt_state=adam.init(variables["params"]),
    )
    seconds = -time.monotonic()
    if start:
        items, metadata, _ = checkpoints.restore(directory, {"state": state})
        checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
        state = items["state"]
        seconds += metadata.get("training_seconds", 0.0)
        if data.batches is not None:
            data.batches.set_state(metadata["data_position"])
    # Data parallel over all devices: batches are split, everything else is copied.
    split, copied = _shardings(config, stage)
    state, resident = jax.device_put((state, data.resident), copied)
    step_fn = train_step.make_train_step(config, model, bodies, adam, stage.num_hypotheses, data.prepare, split)
    step = jax.jit(step_fn, donate_argnums=0, out_shardings=copied)

    def save(state: train_step.TrainState, done: int) -> None:
        metadata = provenance.metadata(config, bodies) | {
            "num_hypotheses": stage.num_hypotheses,
            "images_seen": done * stage.batch,
            "training_seconds": seconds + time.monotonic(),
            "init": init,
            "mean_state": list(model.mean_state),
            "data_position": None if data.batches is None else data.batches.get_state(),
        }
        checkpoints.save(directory, done, {"state": state}, metadata)

    stop = _StopOnTerm()
    bar = tqdm(
        total=stage.steps, initial=start, desc=stage.title, unit="step", mininterval=1, disable=not multihost.is_first()
    )
    with logs.Logger(directory, start) as logger, bar, stop:
        pending = None  # Metrics of the step before: reading them late keeps the device busy.
        for done in range(start + 1, stage.steps + 1):
            batch = resident if data.batches is None else training_data.to_devices(next(data.batches), split)
            state, metrics = step(state, batch, key)
            if pending is not None:
                _check_finite(pending, done - 1)
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
                save(state, done)
            if stopped:
                raise KeyboardInterrupt


def _restore(config: Any, bodies: setup.Bodies, folder: pathlib.Path) -> Source:
    items, metadata, _ = checkpoints.restore(folder)
    checkpoints.check_body(metadata, bodies.files.fingerprint, config.body.allow_other)
    return Source(folder, checkpoints.variables(items["state"]), metadata)


def _open_data(config: Any, bodies: setup.Bodies, stage: Stage, source: Source | None, seed: int) -> training_data.Data:
    """The training data of a stage, as images or, with `data.cached_passes`, as features of the trunk it starts from."""
    if not config.data.get("cached_passes"):
        return training_data.open_data(config, bodies, stage.batch, seed)
    assert source is not None  # `config_checks.validate` asks for config.init.
    images = functools.partial(training_data.stored_data, config, FEATURE_BATCH, config.seed)
    example = images().example
    variables = jax.tree.map(jnp.asarray, source.variables)
    model = setup.build_model(config, 1, bodies, source.metadata.get("mean_state"))
    count = config.data.cached_passes * len(sources.open_source(config, ",".join(config.data.sets), "train"))
    trunk = {part: values.get("trunk", {}) for part, values in variables.items()}
    description = {
        "trunk": checkpoints.fingerprint(trunk),
        "sets": [sources.source_name(config, n.strip()) for text in config.data.sets for n in text.split(",")],
        "seed": config.seed,
        "rows": count,
        "data": {k: config.data[k] for k in ("weights", "occlusion", "augment", "crop")}
        | {"contrast_stretch": config.data.get("contrast_stretch", False)},
        "model": {k: config.model[k] for k in ("trunk", "crop_size", "dtype")}
        | {"width": build.trunk_width(config.model.trunk, config.model.width)},
    }
    description = json.loads(json.dumps(description))
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
    apply = jax.jit(lambda variables, batch: model.apply(variables, batch, method="read"))
    folder = pathlib.Path(config.data.dir) / "features" / digest
    rows = feature_cache.open_cache(
        folder,
        description,
        count,
        lambda: map(training_data.numeric, images().batches),
        functools.partial(apply, variables),
    )
    return training_data.cached_data(config, rows, stage.batch, example)


def _shardings(config: Any, stage: Stage) -> tuple[NamedSharding, NamedSharding]:
    """(batches split over all devices, whole copies)."""
    if stage.batch % config.train.accumulate or stage.batch // config.train.accumulate % jax.device_count():
        raise ValueError(
            f"{stage.title}: a batch of {stage.batch} in {config.train.accumulate} parts (config.train.accumulate) cannot be "
            f"split over {jax.device_count()} devices."
        )
    mesh = Mesh(np.array(jax.devices()), ("data",))
    return NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())


def _initial_variables(config: Any, model: Any, stage: Stage, source: Source | None, example: dict, key: Array):
    """Random variables, or those of the stage's source, whose single hypothesis becomes M."""
    k_init, k_expand = jax.random.split(key)
    num_hypotheses = stage.num_hypotheses
    if source is None:
        return jax.jit(lambda k: model.init({"params": k, "dropout": k}, example, train=False))(k_init)
    have = source.metadata["num_hypotheses"]
    if have not in (1, num_hypotheses):
        raise ValueError(
            f"{source.folder} has M = {have} hypotheses; M = {num_hypotheses} can start from M = 1 or from {num_hypotheses}."
        )
    variables = jax.tree.map(jnp.asarray, source.variables)
    if num_hypotheses > have:
        noise = config.model.init_noise
        names = {"name": config.model.name, "head": config.model.head}
        variables = build.expand(variables, num_hypotheses, noise, k_expand, **names)
    init = functools.partial(model.init, {"params": k_init, "dropout": k_init}, example, train=False)
    expected = jax.eval_shape(init)
    if set(expected["params"]) > set(variables["params"]):  # Layers that no source has.
        variables["params"] = {**jax.jit(init)()["params"], **variables["params"]}
    checkpoints.check_match(source.folder, variables["params"], expected["params"])
    return variables


def _check_finite(metrics: dict, step: int) -> None:
    bad = [name for name, value in jax.device_get(metrics).items() if not np.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"step {step}: {', '.join(sorted(bad))} not finite. The last checkpoint is from before; "
            "lower config.optim.learning_rate, or set config.optim.clip."
        )


class _StopOnTerm:
    """While active, SIGTERM asks the loop to save and stop instead of killing it.

    With several processes JAX takes the signal, so that all stop at one step (`multihost.asked_to_stop`).
    """

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "_StopOnTerm":
        alone = jax.process_count() == 1 and _in_main_thread()
        self._before = signal.signal(signal.SIGTERM, self._request) if alone else None
        return self

    def _request(self, *_) -> None:
        self.requested = True

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
