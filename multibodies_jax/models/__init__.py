"""Networks that predict sets of bodies, by name."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from multibodies_jax.models.hmr import HMR
from multibodies_jax.models.keypoints import KeypointTrunk
from multibodies_jax.models.resnet import ResNet50, ResNetSmall

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def _single(**fields: Any) -> HMR:
    return HMR(**{**fields, "num_hypotheses": 1})


MODELS: Mapping[str, Callable[..., nn.Module]] = {"multibodies": HMR, "hmr": _single}
TRUNKS = ("resnet50", "resnet_small", "keypoints")
HEADS = ("paper",)


def get(name: str, **fields: Any) -> nn.Module:
    """The model `name` with its module fields; every model maps `(batch, train)` to states (B, M, 157).

    Raises:
      ValueError: no such model, with the choices.
    """
    return _choose("model.name", name, MODELS)(**fields)


def get_trunk(
    name: str, crop_size: int, width: int, keypoint_width: int, keypoint_blocks: int, dtype: str
) -> nn.Module:
    """The trunk `name` for crops of `crop_size` pixels; fields that it lacks are ignored.

    Raises:
      ValueError: no such trunk or type, with the choices, or crops that the trunk cannot take.
    """
    trunk_dtype = _choose("model.dtype", dtype, DTYPES)
    _choose("model.trunk", name, dict.fromkeys(TRUNKS))
    if name == "keypoints":
        return KeypointTrunk(width=keypoint_width, blocks=keypoint_blocks)
    multiple = 32 if name == "resnet50" else 16
    if crop_size < multiple or crop_size % multiple:
        raise ValueError(f"model.crop_size of {name} must be a multiple of {multiple} pixels, got {crop_size}.")
    return ResNet50(dtype=trunk_dtype) if name == "resnet50" else ResNetSmall(width=width, dtype=trunk_dtype)


def build(
    *,
    mean_state: Float[np.ndarray, "157"],
    name: str = "multibodies",
    trunk: str = "resnet50",
    head: str = "paper",
    crop_size: int = 224,
    width: int = 16,
    keypoint_width: int = 1024,
    keypoint_blocks: int = 3,
    dtype: str = "float32",
    **fields: Any,
) -> nn.Module:
    """The model of a config: `build(mean_state=..., **config.model)`.

    Args:
      mean_state: the mean body and camera (144 rot6d, 10 betas, 3 camera) from which every hypothesis starts.
      name, trunk, head: which model, trunk and head.
      crop_size, width, keypoint_width, keypoint_blocks, dtype: as in `get_trunk`.
      **fields: of the model: num_hypotheses, iterations, hidden, dropout, activation, init_noise.

    Raises:
      ValueError: a name that does not exist, with the choices; see also `get_trunk`.
    """
    _choose("model.name", name, MODELS)
    _choose("model.head", head, dict.fromkeys(HEADS))
    return get(
        name,
        trunk=get_trunk(trunk, crop_size, width, keypoint_width, keypoint_blocks, dtype),
        mean_state=tuple(np.asarray(mean_state, float).tolist()),
        **fields,
    )


def _choose(field: str, name: str, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise ValueError(f"Unknown {field} {name!r}; choose one of {', '.join(choices)}.")
    return choices[name]
