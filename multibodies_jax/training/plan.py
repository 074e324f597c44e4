"""A dry plan of a training on many devices: what a batch is on each, what memory a step needs, and how long it takes.

    multibodies plan --devices=64 --config=configs/multibodies.py [--compiled]

Nothing is read, computed or trained: the step is traced with shapes alone. Speed is never computed: it is one of the
figures of `measured.json`, where exactly this was measured, or the plan says that it was not.
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
from multibodies_jax.data import sources, virtual_views
from multibodies_jax.models import build
from multibodies_jax.training import initialization, loop, optimizer, setup, train_step, training_data

MEASURED = pathlib.Path(__file__).parent / "measured.json"
"""Images per second of whole training steps on one device, from the data of docs/benchmarks.md; fields are those of `Measured`."""

MIB = 2**20

_LOOPS = ("scan", "while")  # Instructions whose results exist while the program inside them runs.

# Fields that decide the speed of every stage as they are; `settings` has the others.
_FIELDS = (
    *("model.trunk", "model.crop_size", "model.width", "model.hidden", "model.activation", "model.dtype"),
    *("loss.reading", "loss.vertex_stride", "loss.vertex_set", "freeze_statistics"),
    *("data.augment", "data.occlusion", "data.crop", "train.accumulate"),
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """The speed of one stage of a training on one device.

    Attributes:
      settings: all that decide the speed beside the batch, by name, as the function `settings` has them.
      batch: images in a step.
      images_per_second: in training.
      card: the device.
      versions: of what computes, or "versions not recorded".
      commit: of this repository.
      figures: the data of docs/benchmarks.md that have the figure, docs/results/data/benchmarks/FIGURES.csv.
    """

    settings: Mapping[str, Any]
    batch: int
    images_per_second: float
    card: str
    versions: str
    commit: str
    figures: str


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
    """Describes the prior and every stage of a training in words and numbers.

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
    lines = [f"{number} devices, config.train.accumulate = {config.train.accumulate}", *_prior(config)]
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
    lines += ["", f"Memory is per device. {how}", *(f"{what} come on top." for what in _on_top(config).values())]
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
      The fields to set; empty where every stage fits by the count of `memory`, the device tells no limit, or it is not known
      how much comes on top: images that this process did not read, cached features, labels.
    """
    limit = limit or (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if not limit:
        return ""
    number, bodies, told = devices.everywhere().size, setup.load_bodies(config), {}
    known = {
        "people": lambda: size((sources.load_people(config, "train"), bodies.j24)),
        "images": training_data.held_bytes,
    }
    more = [known[kind]() if kind in known else 0 for kind in _on_top(config)]
    if not all(more):  # Images that were not read yet have 0 bytes, too.
        return ""
    free = limit - sum(more)
    for stage in loop.stages(config, workdir):
        whole = share = loop.per_device(config, stage, number)
        while share > 1 and memory(config, bodies, stage, share).total > free:
            share //= 2
        if memory(config, bodies, stage, share).total > free:
            return ""  # Not even one example fits by this count, which is mostly above what a compiled step takes.
        if share < whole:
            field = loop.batch_field(stage)
            told[field] = min(share * config.train.accumulate * number, told.get(field, stage.batch))
    if not told:
        return ""
    fields = " ".join(f"--{field}={batch}" for field, batch in told.items())
    return f"By the count of `multibodies plan`, the training fits in {limit / MIB:.0f} MiB with {fields} and another --workdir."


def _on_top(config: Any) -> dict[str, str]:
    """What every device needs beside `memory`, which traces no data and no fits: by kind, and in words."""
    kept = {}
    if default.optional(config, "data.cached_passes"):
        kept["features"] = "The features of the images, which config.data.cached_passes keeps on every device,"
    elif config.data.sets is None:
        kept["people"] = "The people of config.data.people, who stay on every device with a body,"
    elif default.optional(config, "data.resident"):
        kept["images"] = "The images of config.data.sets, which config.data.resident keeps on every device,"
    if build.NETWORKS[config.model.name].targets is not None:
        kept["labels"] = "The labels that this network keeps of every example, and what it needs to fit them,"
    return kept


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


def settings(config: Any, stage: loop.Stage) -> dict[str, Any]:
    """What decides the speed of a stage beside its batch and the device, under the names of the fields of the config.

    Fields that only say whether something is done (a loss, an average, where examples come from) are True or False, and
    what a stage does not have is as if it were switched off: with one hypothesis most networks are HMR.
    """
    M = stage.num_hypotheses
    network = setup.network(config, M)
    is_own = network is build.NETWORKS[config.model.name]
    own = network.own(config) or {}
    return {
        "model.name": config.model.name if is_own else "hmr",
        "model.head": "paper" if M == 1 or network.single else config.model.head,
        "model.num_hypotheses": M,
        "model.scores": setup.score_head(config, M) is not None,
        **{path: default.optional(config, path) for path in _FIELDS},
        "loss.mode0": bool(config.loss.mode0 and M > 1 and not network.exchangeable),
        "loss.vertices": bool(config.loss.vertices),
        "freeze": setup.freeze(config, M) or None,
        "data.sets": config.data.sets is not None,
        "data.cached_passes": bool(default.optional(config, "data.cached_passes")),
        "data.resident": bool(default.optional(config, "data.resident")),
        "optim.ema": bool(config.optim.ema),
        **{f"{network.config_part}.{name}": value for name, value in own.items()},
    }


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


def _prior(config: Any) -> list[str]:
    """What is known of the training of the prior, in lines; none where no prior is trained."""
    if not config.flow.steps:
        return []
    adopted = ", unless the one of config.init was trained alike" if config.init else ""
    return [
        "",
        f"prior: {config.flow.steps} steps of {config.flow.batch} skeletons{adopted}",
        "  Every process trains the same prior, before the stages, on one of its devices: more devices do not shorten it.",
        "  Its memory is not counted, and its speed was not measured.",
    ]


def _speeds(config: Any, stage: loop.Stage, batch: int, number: int) -> list[str]:
    """What is known of the speed of a stage, in sentences."""
    its, figures = settings(config, stage), measured()
    known = [one for one in figures if not _differences(one, its)]
    if not known:
        nearest = min((_differences(one, its) for one in figures), key=len, default=[])
        other = f" The nearest that was differs in {', '.join(nearest)}." if nearest else ""
        return [f"Images per second: not measured.{other}"]
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


def _differences(one: Measured, its: Mapping[str, Any]) -> list[str]:
    """Where what was measured differs from the settings `its`, in words."""
    names = [*its, *(name for name in one.settings if name not in its)]
    pairs = ((name, its.get(name), one.settings.get(name)) for name in names)
    return [f"{name} ({there}, here {here})" for name, here, there in pairs if here != there]


def _bytes(shaped: Any) -> int:
    """Of an array or an abstract value; a random key has 8."""
    shape, kind = np.shape(shaped), shaped.dtype
    return int(np.prod(shape, dtype=np.int64)) * (8 if jnp.issubdtype(kind, jax.dtypes.prng_key) else kind.itemsize)
