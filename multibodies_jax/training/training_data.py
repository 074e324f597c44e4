"""The training data of a config as batches: people seen by virtual cameras, image sets, also on the device, or features."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from configs import default
from multibodies_jax import io
from multibodies_jax.batch import Batch, Inputs, batch_of, inputs_of
from multibodies_jax.body import smpl
from multibodies_jax.data import augment, fit_files, labels, pipeline, resident, sources, virtual_views
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, feature_cache, fit_order, initialization, setup

FEATURE_BATCH = 100  # Images per pass of a trunk that only reads.


class Data(flax.struct.PyTreeNode):
    """Where batches come from.

    Attributes:
      resident: what stays on the device: all people and their body, for virtual cameras, all images, or a batch of all
        cached features; else None.
      example: two inputs, for shapes.
      batches: host rows, stacked, with `get_state` and `set_state`; None where everything is resident.
      prepare: (batch or `resident`, key) -> the batch of one step; part of the jitted step.
    """

    resident: Any
    example: Inputs
    batches: Any = flax.struct.field(pytree_node=False)
    prepare: Callable[[Any, Array], Batch] = flax.struct.field(pytree_node=False)


def open_data(
    config: Any, bodies: setup.Bodies, batch_size: int, seed: int, source: initialization.Source | None = None
) -> Data:
    """Opens the training data of a config.

    They are people seen by virtual cameras, a mixture of image sets, which `data.resident` keeps on the device, or, with
    `data.cached_passes`, what a trunk makes of that mixture: the one of the stage's `source` or, without, a published one.
    """
    if default.optional(config, "data.cached_passes"):
        return _cached(config, bodies, batch_size, source)
    if config.data.sets is None:
        return virtual(config, bodies, batch_size, *sources.load_people(config, "train"))
    if default.optional(config, "data.resident"):
        return _resident(config, batch_size)
    return stored_data(config, batch_size, seed)


def virtual(
    config: Any,
    bodies: setup.Bodies,
    batch_size: int,
    poses: Float[np.ndarray, "N 24 3"],
    betas: Float[np.ndarray, "N 10"],
) -> Data:
    """Views of people by virtual cameras, others in every step.

    Args:
      config: of the experiment.
      bodies: the body.
      batch_size: examples of a step.
      poses: axis-angles of all people, radians.
      betas: their shapes.
    """
    # The body is an argument of the step as well: as a constant of its program it would be compiled with it.
    people = {"poses": jnp.asarray(poses), "betas": jnp.asarray(betas), "body": bodies.j24}
    views = batch_size // config.train.accumulate

    def view(people: dict, key: Array) -> Batch:
        k_pick, k_view = jax.random.split(key)
        index = jax.random.randint(k_pick, (views,), 0, len(people["poses"]))
        keys = jax.random.split(k_view, views)
        other = jax.random.randint(jax.random.fold_in(k_pick, 1), (views,), 0, len(people["poses"]))
        return virtual_views.synthesize(
            people["poses"][index],
            people["betas"][index],
            keys,
            people["body"],
            hide=config.data.occlusion,
            variety=virtual_views.WIDE if config.data.augment == "wide" else virtual_views.STANDARD,
            other_pose=people["poses"][other],
        )

    shapes = jax.eval_shape(view, people, jax.random.key(0))
    example = jax.tree.map(lambda s: jnp.zeros((2, *s.shape[1:]), s.dtype), shapes.inputs)
    return Data(people, example, None, view)


def set_sizes(config: Any) -> dict[str, int]:
    """The examples of each training set, by its name, in the order in which `open_sets` numbers their places."""
    names = [name.strip() for text in config.data.sets for name in text.split(",")]
    return {name: len(sources.open_source(config, name, "train")) for name in names}


def open_each(config: Any) -> list[pipeline.Source]:
    """The records of each training set (`set_sizes`), with the labels that training sees.

    3D labels are withheld from a share of the examples (`data.withheld_3d`), and fits stand in for SMPL parameters that are
    missing (`data.fits`); a network with targets of its own takes `data.fits` into its memory instead.

    Raises:
      ValueError: fits are missing, damaged, or of other sets.
    """
    share, folder = default.optional(config, "data.withheld_3d"), default.optional(config, "data.fits")
    own_targets = build.NETWORKS[config.model.name].targets is not None
    opened = []
    for name, count in set_sizes(config).items():
        source = sources.open_source(config, name, "train")
        if share:
            source = labels.Withheld(source, share)
        if folder and not own_targets:
            source = labels.WithFits(source, fit_files.read_set(pathlib.Path(folder), name, count))
        opened.append(source)
    return opened


def check_fits(config: Any, joint_model: smpl.JointModel) -> None:
    """Refuses fits of `data.fits` that are of another order than the rows of their set.

    Raises:
      ValueError: that, or fits are missing, damaged, or of other sets.
    """
    for name, count in set_sizes(config).items():
        fits = fit_files.read_set(pathlib.Path(config.data.fits), name, count)
        source = sources.open_source(config, name, "train")
        fit_order.check(name, source, fits, joint_model, config.model.crop_size)


def open_sets(config: Any) -> list[pipeline.Source]:
    """The records of `open_each`, one source for each text in `data.sets`; with their `place` where a network has targets
    of its own."""
    each = dict(zip(set_sizes(config), open_each(config), strict=True))
    if build.NETWORKS[config.model.name].targets is not None:
        ends = np.cumsum([len(source) for source in each.values()])
        each = {
            name: labels.Numbered(source, int(end) - len(source))
            for (name, source), end in zip(each.items(), ends, strict=True)
        }
    texts = [[each[name.strip()] for name in text.split(",")] for text in config.data.sets]
    return [parts[0] if len(parts) == 1 else pipeline.Concatenated(parts) for parts in texts]


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
            strength=_strength(config),
            crop=default.optional(config, "data.crop"),
            contrast_stretch=default.optional(config, "data.contrast_stretch"),
            finished=False,
        )

    opened = open_sets(config)
    batches = pipeline.train_batches(
        opened,
        config.data.weights,
        batch_size // jax.process_count(),
        seed,
        make_example,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        finish=augment.finish,
    )
    example = inputs_of(augment.finish(pipeline.collate([make_example(opened[0][0], np.random.default_rng(0))] * 2)))
    return Data(None, jax.tree.map(jnp.asarray, example), batches, lambda batch, key: batch)


def _resident(config: Any, batch_size: int) -> Data:
    """Image sets that stay on the device, augmented there."""
    settings = resident.Settings(
        config.model.crop_size, config.data.occlusion, _strength(config), augment=config.data.augment != "none"
    )
    names = tuple(sources.source_name(config, one.strip()) for name in config.data.sets for one in name.split(","))
    held = (str(config.data.dir), tuple(config.data.sets), names, tuple(config.data.weights), settings)
    held += (default.optional(config, "data.withheld_3d"), default.optional(config, "data.fits"))
    if held not in _held:  # Every stage of a training asks for the same images.
        _held.clear()
        _held[held] = resident.load(open_sets(config), config.data.weights, settings)
    stored = _held[held]
    views = batch_size // config.train.accumulate
    shapes = jax.eval_shape(lambda stored, key: resident.draw(stored, key, 2, settings), stored, jax.random.key(0))
    example = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes.inputs)
    return Data(stored, example, None, lambda stored, key: resident.draw(stored, key, views, settings))


_held: dict[tuple, resident.Stored] = {}


def held_bytes() -> int:
    """Bytes of the image sets that this process keeps on each of its devices (`config.data.resident`); 0 where none are read."""
    return sum(leaf.nbytes for stored in _held.values() for leaf in jax.tree.leaves(stored))


def _strength(config: Any) -> augment.Strength:
    return augment.SPIN if config.data.augment == "spin" else augment.MILD


def _cached(config: Any, bodies: setup.Bodies, batch_size: int, source: initialization.Source | None) -> Data:
    """Random rows of a cache of the features that a frozen trunk makes of the image sets."""
    images = functools.partial(stored_data, config, FEATURE_BATCH, config.seed)
    example = images().example
    model = setup.build_model(config, 1, bodies, source.metadata.get("mean_state") if source else None)
    if source is None:  # `config_checks.validate` asks for config.init or a trunk with published weights.
        variables = initialization.variables(config, model, 1, None, example, jax.random.key(config.seed))
    else:
        variables = jax.tree.map(jnp.asarray, source.variables)
    count = config.data.cached_passes * len(sources.open_source(config, ",".join(config.data.sets), "train"))
    trunk = {part: values.get("trunk", {}) for part, values in variables.items()}
    description = {
        "trunk": checkpoints.fingerprint(trunk),
        "sets": [sources.source_name(config, n.strip()) for text in config.data.sets for n in text.split(",")],
        "seed": config.seed,
        "rows": count,
        "data": {k: config.data[k] for k in ("weights", "occlusion", "augment")}
        | {
            "crop": default.optional(config, "data.crop"),
            "contrast_stretch": default.optional(config, "data.contrast_stretch"),
        },
        "model": {k: config.model[k] for k in ("trunk", "crop_size", "dtype")}
        | {"width": build.trunk_width(config.model.trunk, config.model.width)},
    }
    changed = {name: default.optional(config, f"data.{name}") for name in ("withheld_3d", "fits")}
    description["data"] |= {name: value for name, value in changed.items() if value}
    if build.NETWORKS[config.model.name].targets is not None:
        description["data"]["origin"] = True
    description = json.loads(json.dumps(description))
    digest = io.sha256(json.dumps(description, sort_keys=True).encode())[:16]
    apply = jax.jit(lambda variables, inputs: model.apply(variables, inputs, method="read"))
    folder = pathlib.Path(config.data.dir) / "features" / digest
    rows = feature_cache.open_cache(
        folder,
        description,
        count,
        lambda: images().batches,
        lambda rows: apply(variables, inputs_of(rows)),
    )
    size = batch_size // config.train.accumulate

    def draw(every: Batch, key: Array) -> Batch:
        index = jax.random.randint(key, (size,), 0, count)
        return jax.tree.map(lambda values: values[index], every)

    return Data(jax.tree.map(jnp.asarray, batch_of(rows)), example, None, draw)


def to_devices(rows: pipeline.Rows, split: NamedSharding) -> Batch:
    """This process' share of a batch as a part of the global one."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(split, x), batch_of(rows))
