"""A dry plan of a training on many devices: what a batch is on each, what memory a step needs, and how long it takes.

    multibodies plan --devices=64 --config=configs/multibodies.py [--compiled]

Nothing is read, computed or trained: the step is traced with shapes alone. Speed is never computed: it is one of the
figures of `measured.json`, where the network was measured, or the plan says that it was not.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs import default
from multibodies_jax import devices
from multibodies_jax.batch import Batch, Inputs
from multibodies_jax.data import virtual_views
from multibodies_jax.training import initialization, loop, optimizer, setup, train_step

MEASURED = pathlib.Path(__file__).parent / "measured.json"
"""Images per second of whole training steps on one device (docs/benchmarks.md); fields are those of `Measured`."""

MIB = 2**20

_LOOPS = ("scan", "while")  # Instructions whose results exist while the program inside them runs.


@dataclasses.dataclass(frozen=True)
class Measured:
    """The speed of training a network on one device.

    Attributes:
      trunk, crop_size, width, hidden, dtype: as in `config.model`.
      num_hypotheses: M.
      batch: images in a step.
      images_per_second: in training.
      card: the device.
      versions: of what computes.
      commit: of this repository.
    """

    trunk: str
    crop_size: int
    width: int | None
    hidden: int
    dtype: str
    num_hypotheses: int
    batch: int
    images_per_second: float
    card: str
    versions: str
    commit: str


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each device while a stage trains.

    Attributes:
      parts: what stays there, by name.
      step: what a step makes beside.
    """

    parts: Mapping[str, int]
    step: int

    @property
    def total(self) -> int:
        return sum(self.parts.values()) + self.step


def plan(config: Any, workdir: pathlib.Path, number: int, compiled: bool = False) -> str:
    """Describes every stage of a training in words and numbers.

    Args:
      config: of the experiment.
      workdir: whose `init` and trained parts decide the stages; need not exist.
      number: of devices, of all processes together.
      compiled: takes the memory of a step from the program that XLA makes for the device of this machine, which takes as
        long as the start of a training; otherwise it is counted on the traced step (`most_alive`).

    Raises:
      ValueError: a batch cannot be split over this number of devices (the message says which can), or the config leaves M to
        a checkpoint.
    """
    if config.model.num_hypotheses is None:
        raise ValueError("config.model.num_hypotheses=None takes M from a checkpoint; a plan needs a number.")
    stages = loop.stages(config, workdir)
    shares = [loop.per_device(config, stage, number) for stage in stages]
    bodies = setup.load_bodies(config)
    lines = [f"{number} devices, config.train.accumulate = {config.train.accumulate}"]
    for stage, share in zip(stages, shares, strict=True):
        needed = memory(config, bodies, stage, share, compiled)
        lines += [
            "",
            f"{stage.title}: {stage.steps} steps of {stage.batch} examples, {stage.steps * stage.batch} in all",
        ]
        rows = [("examples of a step on a device", str(share * config.train.accumulate)), *_told(needed)]
        width = max(len(name) for name, _ in rows)
        lines += [f"  {name:{width}}  {value:>12}" for name, value in rows]
        lines += [f"  {sentence}" for sentence in _speeds(config, stage, share * config.train.accumulate, number)]
    how = (
        f"That of a step is of the program that XLA made here, for {jax.devices()[0].device_kind}."
        if compiled
        else "That of a step counts every array from where it is made to where it is last read, as if nothing were fused: "
        "compiled programs mostly need less (--compiled compiles it for the device of this machine)."
    )
    lines += ["", f"Memory is per device. {how}"]
    if default.optional(config, "data.resident"):
        lines.append("The images of config.data.sets, which config.data.resident keeps on every device, come on top.")
    if setup.network(config, config.model.num_hypotheses or 1).targets is not None:
        lines.append("The labels that this network keeps of every example come on top.")
    return "\n".join(lines)


def memory(config: Any, bodies: setup.Bodies, stage: loop.Stage, share: int, compiled: bool = False) -> Memory:
    """What a stage needs on each device.

    Args:
      config: of the experiment.
      bodies: the body.
      stage: of the training.
      share: examples of a part of the batch (`train.accumulate`) on one device.
      compiled: see `plan`.
    """
    batch = _batch(config, bodies, share * config.train.accumulate)
    example = jax.tree.map(lambda shape: jnp.zeros((2, *shape.shape[1:]), shape.dtype), batch.inputs)
    step, arguments = traceable_step(config, bodies, stage, example, batch, lambda batch, _: batch)
    state, loss_bodies = arguments[0], arguments[-1]
    if compiled:
        analysis: Any = jax.jit(step, donate_argnums=0).lower(*arguments).compile().memory_analysis()
        needed = int(analysis.temp_size_in_bytes)
    else:
        needed = most_alive(jax.make_jaxpr(step)(*arguments).jaxpr)
    parts = {
        "parameters": state.params,
        "averaged parameters": state.ema,
        "statistics": state.batch_stats,
        "optimiser": state.opt_state,
        "body": loss_bodies,
        "batch": batch,
    }
    return Memory({name: size(tree) for name, tree in parts.items()}, needed)


def traceable_step(
    config: Any,
    bodies: setup.Bodies,
    stage: loop.Stage,
    example: Inputs,
    batch: Any,
    prepare: Callable[[Any, jax.Array], Batch],
    device: Any = None,
) -> tuple[Callable[..., Any], tuple[train_step.TrainState, Any, Any, setup.Bodies]]:
    """The step of a stage on one device, to be traced with shapes; nothing is computed.

    Args:
      config: of the experiment.
      bodies: the body.
      stage: of the training.
      example: two inputs (`training_data.Data.example`).
      batch: arrays, or shapes, of what `prepare` takes.
      prepare: as of `train_step.make_train_step`.
      device: which it is for; None is the first of this process.

    Returns:
      The step, and its arguments: the shapes of the state, `batch`, the shape of a key, and the bodies of the loss.
    """
    model = setup.build_model(config, stage.num_hypotheses, bodies)
    start = functools.partial(_start, config, model, stage, example)
    state, key = jax.eval_shape(start, jax.random.key(0)), jax.eval_shape(jax.random.key, 0)
    adam = _optimizer(config, stage, state.params)
    one = NamedSharding(
        Mesh(np.array([device or jax.local_devices()[0]]), (devices.EXAMPLES,)), PartitionSpec(devices.EXAMPLES)
    )
    step = train_step.make_train_step(config, model, bodies, adam, stage.num_hypotheses, prepare, one)
    return step, (state, batch, key, setup.loss_bodies(config, bodies))


def what_fits(config: Any, workdir: pathlib.Path, limit: int | None = None) -> str:
    """The batch of every stage that is too large for the devices of this training, halved until it fits; in a sentence.

    Args:
      config: of the experiment.
      workdir: as of `plan`.
      limit: bytes of one device; None asks the device.

    Returns:
      The fields to set; empty where every stage fits by what its step can need, or the device tells no limit.
    """
    limit = limit or (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if not limit:
        return ""
    number, bodies, told = devices.everywhere().size, setup.load_bodies(config), {}
    for stage in loop.stages(config, workdir):
        whole = share = loop.per_device(config, stage, number)
        while share > 1 and memory(config, bodies, stage, share).total > limit:
            share //= 2
        if memory(config, bodies, stage, share).total > limit:
            return ""  # Not even one example fits by this count, which is mostly above what a compiled step takes.
        if share < whole:
            field = loop.batch_field(stage)
            told[field] = min(share * config.train.accumulate * number, told.get(field, stage.batch))
    if not told:
        return ""
    fields = " ".join(f"--{field}={batch}" for field, batch in told.items())
    return f"By what its step holds at most, the training fits in {limit / MIB:.0f} MiB with {fields} and another --workdir."


def size(tree: Any) -> int:
    """Bytes of the arrays, or of the shapes, in a tree."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def most_alive(jaxpr: core.Jaxpr) -> int:
    """Bytes of the arrays that exist at once, at most, while a program runs as it is written; its arguments do not count.

    A loop has its results (what a scan stacks, and what a step of it carries to the next one) beside what its step makes.
    A compiled program mostly needs less, because XLA fuses instructions; it may need more where one of them takes working
    space of its own.
    """
    last = {
        var: place for place, line in enumerate(jaxpr.eqns) for var in line.invars if not isinstance(var, core.Literal)
    }
    last |= {var: len(jaxpr.eqns) for var in jaxpr.outvars if not isinstance(var, core.Literal)}
    alive: dict[core.Var, int] = {}
    total = most = 0
    for place, line in enumerate(jaxpr.eqns):
        inside = max((most_alive(program) for program in programs_inside(line.params)), default=0)
        made = {var: _bytes(var.aval) for var in line.outvars if var in last}
        own = sum(made.values())
        most = max(most, total + (inside + own if line.primitive.name in _LOOPS else max(inside, own)))
        alive |= made
        total += own
        for var in {var for var in line.invars if not isinstance(var, core.Literal)}:
            if last[var] == place:
                total -= alive.pop(var, 0)
    return most


def programs_inside(params: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs inside an instruction."""
    for value in params.values():
        for one in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, core.Jaxpr):
                yield one


def measured() -> list[Measured]:
    """The figures that are known."""
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))
    return [Measured(**row | {"images_per_second": float(row["images_per_second"])}) for row in rows]


def _start(config: Any, model: Any, stage: loop.Stage, example: Any, key: jax.Array) -> train_step.TrainState:
    """The state before the first step."""
    variables = initialization.variables(config, model, stage.num_hypotheses, None, example, key)
    params = variables["params"]
    return train_step.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        ema=params if config.optim.ema else {},
        opt_state=_optimizer(config, stage, params).init(params),
    )


def _optimizer(config: Any, stage: loop.Stage, params: Any) -> Any:
    trained = train_step.trained(config, stage.num_hypotheses, params)
    return optimizer.make_optimizer(config, trained, stage.steps, stage.learning_rate)


def _batch(config: Any, bodies: setup.Bodies, number: int) -> Batch:
    """The shapes of `number` training examples."""

    def views(key: jax.Array) -> Batch:
        poses, betas = jnp.zeros((number, 24, 3)), jnp.zeros((number, 10))
        return virtual_views.synthesize(poses, betas, jax.random.split(key, number), bodies.j24)

    batch = jax.eval_shape(views, jax.random.key(0))
    if config.model.trunk == "keypoints":
        return batch
    side = config.model.crop_size
    image = jax.ShapeDtypeStruct((number, side, side, 3), jnp.uint8)
    return dataclasses.replace(batch, inputs=dataclasses.replace(batch.inputs, image=image))


def _told(needed: Memory) -> list[tuple[str, str]]:
    rows = [(name, count) for name, count in needed.parts.items() if count]
    rows += [("a step, beside", needed.step), ("together", needed.total)]
    return [(name, f"{count / MIB:.1f} MiB") for name, count in rows]


def _speeds(config: Any, stage: loop.Stage, batch: int, number: int) -> list[str]:
    """What is known of the speed of a stage, in sentences."""
    its = {name: config.model[name] for name in ("trunk", "crop_size", "width", "hidden", "dtype")}
    its |= {"num_hypotheses": stage.num_hypotheses}
    known = [one for one in measured() if all(getattr(one, name) == value for name, value in its.items())]
    if not known:
        words = ", ".join(f"{name} {value}" for name, value in its.items() if value is not None)
        return [f"Images per second: not measured for this network ({words})."]
    sentences = []
    for one in known:
        origin = f"one {one.card}, {one.versions}, commit {one.commit}"
        if one.batch != batch:
            sentences.append(
                f"Images per second: not measured with {batch} on a device; {one.images_per_second:g} with {one.batch} ({origin})."
            )
            continue
        together = one.images_per_second * number
        hours = stage.steps * stage.batch / together / 3600
        several = f"; {number} times as many where devices do not wait for each other, which was not measured" * (
            number > 1
        )
        sentences.append(
            f"Images per second: {together:g}, {hours:.2f} hours ({one.images_per_second:g} measured on {origin}{several})."
        )
    return sentences


def _bytes(shaped: Any) -> int:
    """Of an array or an abstract value; a random key has 8."""
    shape, kind = np.shape(shaped), shaped.dtype
    return int(np.prod(shape, dtype=np.int64)) * (8 if jnp.issubdtype(kind, jax.dtypes.prng_key) else kind.itemsize)
