"""Checks the fields of a config before anything is built or trained."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import default
from multibodies_jax import exact
from multibodies_jax.data import augment
from multibodies_jax.hypotheses import quantize, weight_kinds
from multibodies_jax.losses import objective
from multibodies_jax.models import build
from multibodies_jax.training import config_rules, config_versions, setup

_FOLDER = config_rules.OrNone(config_rules.Path())

RULES: dict[str, config_rules.Rule] = {
    # Stages add up to 2 ** 24 to the seed, and random keys hold 32 bits.
    "seed": config_rules.whole(0, 2_000_000_000),
    "init": _FOLDER,
    "freeze": config_rules.OrNone(config_rules.Choice(("trunk", "loaded"))),
    "freeze_statistics": config_rules.FLAG,
    "body.dir": _FOLDER,
    "body.allow_other": config_rules.FLAG,
    "body.shape_components": config_rules.whole(10, 10),  # Of configs of earlier versions.
    "data.dir": config_rules.Path(),
    "data.people": config_rules.Path("a dataset of people, or the path of a file or folder of poses"),
    "data.sets": config_rules.OrNone(config_rules.Several(config_rules.Text("a set's name"))),
    "data.weights": config_rules.Several(config_rules.positive()),
    "data.occlusion": config_rules.Choice(("none", "paper")),
    "data.augment": config_rules.Choice(("none", "mild", "spin", "wide")),
    "data.crop": config_rules.Choice(augment.CROPS),
    "data.options": config_rules.Path("NAME=VALUE,NAME=VALUE, or an empty text", empty=True),
    "data.contrast_stretch": config_rules.FLAG,
    "data.withheld_3d": config_rules.Number(0, 1),
    "data.fits": _FOLDER,
    "data.cached_passes": config_rules.OrNone(config_rules.whole(0, 100_000)),
    "data.resident": config_rules.FLAG,
    "data.npz_dir": _FOLDER,
    "data.image_dir": _FOLDER,
    "model.num_hypotheses": config_rules.OrNone(config_rules.whole(1, 10_000)),
    "model.activation": config_rules.Choice(("none", "relu")),
    "model.hidden": config_rules.whole(1, 65_536),
    "model.dropout": config_rules.fraction(),
    "model.scores": config_rules.FLAG,
    "model.init_noise": config_rules.Number(0, 1000),
    "model.crop_size": config_rules.whole(16, 4096),
    "model.width": config_rules.OrNone(config_rules.whole(1, 65_536)),
    "model.dtype": config_rules.Choice(tuple(exact.TRUNK_DTYPES)),
    "loss.mode0": config_rules.FLAG,
    **dict.fromkeys(
        (
            *("loss.best", "loss.pose", "loss.betas", "loss.vertices", "loss.camera"),
            *("loss.reprojection_best", "loss.reprojection_all"),
        ),
        config_rules.factor(),
    ),
    "loss.vertex_stride": config_rules.whole(1, 6890),
    "loss.vertex_set": config_rules.Choice(("all", "regressed")),
    "flow.layers": config_rules.whole(1, 1000),
    "flow.width": config_rules.whole(1, 65_536),
    "flow.dropout": config_rules.fraction(),
    "flow.noise_mm": config_rules.Number(0, 1000),
    "flow.batch": config_rules.whole(1, 1_000_000),
    "flow.steps": config_rules.whole(0),
    "flow.learning_rate": config_rules.positive(1000),
    "quantizer.reading": config_rules.Choice(tuple(quantize.QUANTIZERS)),
    "quantizer.weights": config_rules.Choice(tuple(weight_kinds.KINDS)),
    "quantizer.temperature": config_rules.OrNone(config_rules.positive()),
    "quantizer.starts": config_rules.whole(1, 10_000),
    "quantizer.iterations": config_rules.whole(1, 100_000),
    "fitting.steps": config_rules.whole(0, 100_000),
    "fitting.prior": config_rules.OrNone(config_rules.factor()),
    "fitting.lens": config_rules.Choice(("network", "image")),
    "fitting.anchor": config_rules.OrNone(config_rules.factor()),
    "optim.learning_rate": config_rules.positive(1000),
    "optim.warmup": config_rules.whole(0),
    "optim.weight_decay": config_rules.factor(),
    "optim.clip": config_rules.positive(math.inf),
    "optim.ema": config_rules.OrNone(config_rules.Number(0, 1, above=True, below=True)),
    "optim.schedule": config_rules.Choice(("cosine", "constant", "step")),
    "optim.decay_step": config_rules.OrNone(config_rules.whole()),
    "optim.l2": config_rules.factor(),
    **dict.fromkeys(("stage1.steps", "train.steps"), config_rules.whole()),
    **dict.fromkeys(("stage1.batch", "train.batch", "train.accumulate"), config_rules.whole(1, 1_000_000)),
    "stage1.learning_rate": config_rules.positive(1000),
    **dict.fromkeys(("train.log_every", "train.checkpoint_every"), config_rules.whole()),
    "train.baseline": config_rules.FLAG,
}
"""What every field may be, except those of `config.eval`, whose rules are in `evaluation.checks`, and of the networks,
trunks and losses that register themselves."""


def check_fields(config: Any) -> None:
    """Refuses what a config file gives where it is no config of this program: a field is missing, or nothing reads it.

    Raises:
      ValueError: it is no ConfigDict, lacks a field of configs/default.py, or has one that is not known.
    """
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"The config file gives {config_rules.short(config)}, and a ConfigDict was expected: begin get_config() with "
            "c = default.get_config(), as configs/demo.py does, and return c."
        )
    needed = set(config_versions.flatten(default.get_config().to_dict()))
    own = tuple(f"{network.config_part}." for network in build.NETWORKS.values() if network.config_part)
    given = set(config_versions.flatten(config.to_dict()))
    if missing := sorted(needed - given):
        raise ValueError(
            f"The config has no config.{', config.'.join(missing[:5])}{', ...' if len(missing) > 5 else ''}: begin "
            "get_config() with c = default.get_config(), as configs/demo.py does."
        )
    known = needed | set(default.optional_fields()) | set(RULES)
    if unknown := sorted(name for name in given - known if not name.startswith(own)):
        near = difflib.get_close_matches(unknown[0], known, 1)
        meant = f"; was config.{near[0]} meant?" if near else "."
        raise ValueError(f"config.{unknown[0]} is no field that anything reads{meant}")


def validate(config: Any) -> None:
    """Checks every field: first its value, then that it fits the others; `config.eval` is checked in `evaluation.checks`.

    Raises:
      ValueError: a field has a value that it cannot have, or does not fit another; the message names the field, its value
        and what is accepted.
    """
    config_rules.check(config, RULES)
    names = {"model.name": build.NETWORKS, "model.head": build.HEADS, "model.trunk": build.TRUNKS}
    names |= {"loss.reading": objective.OBJECTIVES}
    config_rules.check(config, {path: config_rules.Choice(tuple(known)) for path, known in names.items()})
    if config.data.sets is not None and len(config.data.weights) != len(config.data.sets):
        raise ValueError(
            f"config.data.weights is {config_rules.short(tuple(config.data.weights))}; accepted is one number for each of "
            f"the {len(config.data.sets)} sets of config.data.sets."
        )
    if config.train.batch % config.train.accumulate:
        raise ValueError(
            f"config.train.accumulate = {config.train.accumulate} must divide config.train.batch = {config.train.batch}."
        )
    if config.data.sets is None and config.model.trunk != "keypoints":
        raise ValueError(
            "config.data.sets=None trains on virtual views of config.data.people, which have no images: it needs "
            "config.model.trunk='keypoints'; or name image sets."
        )
    if config.data.augment == "wide" and config.data.sets is not None:
        raise ValueError(
            "config.data.augment='wide' is about virtual views: set config.data.sets=None, or choose 'mild' or 'spin' for "
            f"the image sets {config.data.sets}."
        )
    crop = default.optional(config, "data.crop")
    if crop == "spin" and config.model.trunk == "keypoints":
        raise ValueError("config.data.crop='spin' is about images: config.model.trunk='keypoints' sees none.")
    if default.optional(config, "data.contrast_stretch") and crop != "spin":
        raise ValueError("config.data.contrast_stretch is a part of SPIN's crops: it needs config.data.crop='spin'.")
    _check_network(config)
    _check_weights(config)
    _check_frozen_trunk(config)
    if default.optional(config, "data.resident") and (
        config.data.sets is None
        or config.model.trunk == "keypoints"
        or default.optional(config, "data.cached_passes")
        or crop == "spin"
    ):
        raise ValueError(
            "config.data.resident keeps image sets on the device and crops them there: it needs image sets in "
            "config.data.sets, a config.model.trunk that reads images, config.data.crop='exact' and no "
            "config.data.cached_passes."
        )
    if default.optional(config, "optim.schedule") == "step" and config.optim.decay_step is None:
        raise ValueError(
            "config.optim.schedule='step' needs the step of the decay: config.optim.decay_step, at least 1."
        )


def stored(tree: Mapping[str, Any]) -> Any:
    """The config that was stored as JSON by any version; fields that are not stored are at their defaults.

    Raises:
      ValueError: a field has a value that it cannot have (`validate`).
    """
    tree = {name: value for name, value in tree.items() if name != "converted"}  # The origin of converted weights.
    config = default.get_config().unlock()
    for field, value in config_versions.modern(tree).items():
        *parents, name = field.split(".")
        part = config
        for parent in parents:
            if parent not in part:
                part[parent] = ConfigDict()
            part = part[parent]
        part[name] = tuple(value) if isinstance(value, list) else value
    validate(config.lock())
    return config


def _check_network(config: Any) -> None:
    """The model, its head and trunk fit each other, and the fields of every model's own part are in range."""
    name, head, m = config.model.name, config.model.head, config.model.num_hypotheses
    network, trunk = build.NETWORKS[name], build.HEADS[head].trunk
    if trunk not in (None, config.model.trunk):
        raise ValueError(f"config.model.head={head!r} reads a map of config.model.trunk={trunk!r}.")
    if network.single and network.build is not None and head != "paper":
        raise ValueError(
            f"config.model.name={name!r} has a head of its own: set config.model.head='paper' (it is {head!r})."
        )
    if network.build is not None and not network.single and (m == 1 or head != "paper"):
        raise ValueError(
            f"config.model.name={name!r} has several hypotheses and the paper's head: set config.model.num_hypotheses "
            f"to 2 or more (it is {m}) and config.model.head='paper'."
        )
    if network.single and m != 1:
        raise ValueError(
            f"config.model.name={name!r} has one hypothesis: set config.model.num_hypotheses to 1 (it is {m})."
        )
    if m not in (None, 1) and not config.flow.steps:
        raise ValueError(
            f"config.flow.steps=0 trains no prior of the pose, and config.model.num_hypotheses={m} hypotheses are weighed by it: "
            "set it to 1 or more."
        )
    if network.targets is not None and (config.data.sets is None or default.optional(config, "data.resident")):
        raise ValueError(
            f"config.model.name={name!r} keeps labels of every training example: it needs image sets in config.data.sets, "
            "and config.data.resident=False."
        )
    for changed in ("data.withheld_3d", "data.fits"):
        if config.data.sets is None and default.optional(config, changed):
            raise ValueError(f"config.{changed} is about the labels of image sets, and config.data.sets is None.")
    for other in build.NETWORKS.values():
        if other.check is not None and other.own(config) is not None:
            other.check(config)


def _check_weights(config: Any) -> None:
    """Learned scores are there to weigh the hypotheses; of a checkpoint with an unknown M that is seen when it is restored."""
    m, kind = config.model.num_hypotheses, config.quantizer.weights
    if m in (None, 1) or not weight_kinds.reads_scores(kind) or setup.score_head(config, m) is not None:
        return
    raise ValueError(
        f"config.quantizer.weights={kind!r} needs learned scores, and config.model.name={config.model.name!r} has none "
        f"here: use a config with model.scores (configs/demo.py, or those built upon it), or set it to 'prior'."
    )


def _check_frozen_trunk(config: Any) -> None:
    trunk = config.model.trunk
    published = build.TRUNKS[trunk].published is not None
    if published and config.freeze != "trunk":
        raise ValueError(
            f"config.model.trunk={trunk!r} has published weights, which do not learn: it needs config.freeze='trunk', got "
            f"config.freeze={config.freeze!r}."
        )
    if default.optional(config, "data.cached_passes") and (
        config.freeze != "trunk"
        or not default.optional(config, "freeze_statistics")
        or not (config.init or published)
        or config.data.sets is None
    ):
        raise ValueError(
            "config.data.cached_passes keeps the features of a trunk that does not change: it needs config.freeze='trunk', "
            "config.init=WORKDIR of a trained trunk (or a config.model.trunk with published weights), image sets in "
            "config.data.sets, and no config.freeze_statistics=False."
        )
