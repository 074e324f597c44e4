"""Reads the configs that earlier versions wrote beside checkpoints and results in today's fields."""

import math
from collections.abc import Mapping
from typing import Any

from configs import default

# Fields whose empty value was "" or 0 and is None today.
_EMPTY = {
    **dict.fromkeys(("init", "freeze", "body.dir", "data.npz_dir", "data.image_dir", "eval.published", "eval.hmr"), ""),
    **dict.fromkeys(("model.num_hypotheses", "quantizer.temperature", "optim.ema", "optim.decay_step"), 0),
    **dict.fromkeys(("data.cached_passes", "eval.max_examples", "eval.curve"), 0),
}
# Builder options that were fields, and their defaults.
_BUILDER_OPTIONS = {"num_train": 20_000, "num_people": 50_000, "image_size": 128, "pose_mix": 1.0}
# Fields that are constants today, with the only value that they may have had for the training to be the same.
_CONSTANTS = {"body.shape_components": 10, "model.iterations": 3, "model.keypoint_blocks": 3}
_GONE = ("train.keep", "data.threads")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as one level: {"loss": {"best": 25.0}} -> {"loss.best": 25.0}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def modern(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config of any version, flat, under today's names and values.

    Optional fields at their default are left out, so that configs with and without them are equal.

    Args:
      tree: as in config.json; nested.

    Returns:
      "loss.best" -> 25.0 and so on. A constant of today that had another value keeps its old name, and therefore
      differs from every config of today.

    Raises:
      ValueError: a field that has to be changed is no number.
    """
    flat: dict[str, Any] = {
        name: None if name in _EMPTY and value == _EMPTY[name] else value for name, value in flatten(tree).items()
    }
    flat = {name: value for name, value in flat.items() if name not in _GONE and _CONSTANTS.get(name, ...) != value}
    if flat.get("optim.clip") == 0:
        flat["optim.clip"] = math.inf
    if flat.pop("data.virtual_cameras", False):
        flat["data.sets"] = None
    if file := flat.pop("data.poses", None):
        flat["data.people"] = file
    options = [
        f"{name}={value}"
        for name, usual in _BUILDER_OPTIONS.items()
        if (value := flat.pop(f"data.{name}", usual)) != usual
    ]
    if "data.options" in flat:
        flat["data.options"] = ",".join(sorted([*options, *filter(None, str(flat["data.options"]).split(","))]))
    trunk_width = flat.pop("model.keypoint_width", None)
    if trunk_width is not None:  # Then `model.width` was of the other trunks only.
        usual = 1024 if flat.get("model.trunk") == "keypoints" else 16
        width = trunk_width if flat.get("model.trunk") == "keypoints" else flat.get("model.width")
        flat["model.width"] = None if width == usual else width
    if flat.pop("loss.reduce", "mean") == "sum":  # The sum over M is M times the mean.
        weight, count = flat.get("loss.reprojection_all"), flat.get("model.num_hypotheses") or 1
        if not isinstance(weight, int | float) or not isinstance(count, int):
            raise ValueError(
                f"loss.reprojection_all is {weight!r} and model.num_hypotheses {count!r}; both are numbers."
            )
        flat["loss.reprojection_all"] = weight * count
    optional = default.optional_fields()
    return {name: value for name, value in flat.items() if optional.get(name, ...) != value}
