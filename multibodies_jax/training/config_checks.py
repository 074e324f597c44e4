"""Checks the fields of a config before anything is built or trained."""

from collections.abc import Collection
from typing import Any

from multibodies_jax.data import augment
from multibodies_jax.hypotheses import quantize
from multibodies_jax.losses import objective
from multibodies_jax.models import build

_CHOICES = {
    "model.trunk": ("resnet50", "resnet_small", "keypoints"),
    "model.activation": ("none", "relu"),
    "model.dtype": ("float32", "bfloat16"),
    "loss.vertex_set": ("all", "regressed"),
    "quantizer.reading": quantize.QUANTIZERS,
    "quantizer.weights": ("prior", "uniform"),
    "optim.schedule": ("cosine", "constant", "step"),
    "data.occlusion": ("none", "paper"),
    "data.augment": ("none", "mild", "spin", "wide"),
    "data.crop": augment.CROPS,
    "freeze": (None, "trunk", "loaded"),
}


_POSITIVE = (
    *("train.steps", "train.batch", "train.accumulate", "train.log_every", "train.checkpoint_every"),
    *("stage1.steps", "stage1.batch", "flow.layers", "flow.steps", "flow.batch", "model.width"),
    *("quantizer.starts", "quantizer.iterations", "data.cached_passes", "optim.decay_step"),
)


def validate(config: Any) -> None:
    """Checks the fields whose values are names or bounded numbers; those of `config.eval` are in `evaluation.checks`.

    Raises:
      ValueError: a field has none of its choices, which the message lists, is out of range, or does not fit another.
    """
    check_choice(config, "model.name", build.NETWORKS)
    check_choice(config, "model.head", build.HEADS)
    check_choice(config, "loss.reading", objective.OBJECTIVES)
    for path, choices in _CHOICES.items():
        if _has(config, path):
            check_choice(config, path, choices)
    for path in _POSITIVE:
        if _has(config, path) and _field(config, path) is not None:
            check_least(config, path, 1)
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
    if config.data.crop == "spin" and config.model.trunk == "keypoints":
        raise ValueError("config.data.crop='spin' is about images: config.model.trunk='keypoints' sees none.")
    if config.data.get("contrast_stretch") and config.data.crop != "spin":
        raise ValueError("config.data.contrast_stretch is a part of SPIN's crops: it needs config.data.crop='spin'.")
    _check_network(config)
    _check_cached_passes(config)
    if config.optim.get("schedule") == "step" and config.optim.decay_step is None:
        raise ValueError(
            "config.optim.schedule='step' needs the step of the decay: config.optim.decay_step, at least 1."
        )
    if not config.optim.clip > 0:
        raise ValueError(
            f"config.optim.clip is {config.optim.clip}; the largest norm of the gradient is above 0, and inf does not clip."
        )
    if config.model.num_hypotheses is not None and config.model.num_hypotheses < 1:
        raise ValueError(
            f"config.model.num_hypotheses is {config.model.num_hypotheses}; it is 1 or more, or None: the checkpoint's."
        )


def check_choice(config: Any, path: str, choices: Collection[str | None]) -> None:
    """Refuses a field ("model.trunk") whose value is none of the choices, and lists them.

    Raises:
      ValueError: it is none of them.
    """
    if (value := _field(config, path)) not in choices:
        raise ValueError(f"config.{path} is {value!r}; choose one of {', '.join(map(repr, choices))}.")


def check_least(config: Any, path: str, least: int) -> None:
    """Refuses a field whose value is below the least one.

    Raises:
      ValueError: it is below.
    """
    if _field(config, path) < least:
        raise ValueError(f"config.{path} is {_field(config, path)}; it must be at least {least}.")


def _check_network(config: Any) -> None:
    """The model, its head and trunk fit each other, and the fields of every model's own part are in range."""
    name, head, m = config.model.name, config.model.head, config.model.num_hypotheses
    network, trunk = build.NETWORKS[name], build.HEADS[head].trunk
    if trunk not in (None, config.model.trunk):
        raise ValueError(f"config.model.head={head!r} reads a map of config.model.trunk={trunk!r}.")
    if network.build is not None and (m == 1 or head != "paper"):
        raise ValueError(
            f"config.model.name={name!r} has several hypotheses and the paper's head: set config.model.num_hypotheses "
            f"to 2 or more (it is {m}) and config.model.head='paper'."
        )
    if network.single and m != 1:
        raise ValueError(
            f"config.model.name={name!r} has one hypothesis: set config.model.num_hypotheses to 1 (it is {m})."
        )
    for other in build.NETWORKS.values():
        if other.check is not None and other.own(config) is not None:
            other.check(config)


def _check_cached_passes(config: Any) -> None:
    if config.data.get("cached_passes") and (
        config.freeze != "trunk"
        or not config.get("freeze_statistics", True)
        or not config.init
        or config.data.sets is None
    ):
        raise ValueError(
            "config.data.cached_passes keeps the features of a trunk that does not change: it needs config.freeze='trunk', "
            "config.init=WORKDIR of a trained trunk, image sets in config.data.sets, and no "
            "config.freeze_statistics=False."
        )


def _has(config: Any, path: str) -> bool:
    """Whether a config has a field: some have more than configs/default.py."""
    try:
        _field(config, path)
    except KeyError:
        return False
    return True


def _field(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config
