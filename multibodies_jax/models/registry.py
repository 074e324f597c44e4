"""Networks that predict sets of bodies, by name."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from multibodies_jax.baselines.smpl_cvae import CVAE
from multibodies_jax.baselines.smpl_mdn import MDN
from multibodies_jax.models import hmr
from multibodies_jax.models.hmr import HMR
from multibodies_jax.models.keypoint_trunk import KeypointTrunk
from multibodies_jax.models.resnet import ResNet50, ResNet50Map, ResNetSmall
from multibodies_jax.released import network as released

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def _single(**fields: Any) -> HMR:
    return HMR(**{**fields, "num_hypotheses": 1})


MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "multibodies": HMR,
    "hmr": _single,
    "smpl_mdn": MDN,
    "smpl_cvae": CVAE,
}
TRUNKS = ("resnet50", "resnet_small", "keypoints")
HEADS = ("paper", "released")
# What the single-hypothesis source has not, or M times smaller, and learns where the rest is frozen.
_EXPANDED = {
    "paper": ("head/dec/", "alpha/", "sigma_change/", "encoder", "fuse_"),
    "released": ("modes/layer5_2/conv3/", "modes/layer5_2/bn3/"),
}


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
    own: Mapping[str, Any] | None = None,
    **fields: Any,
) -> nn.Module:
    """The model of a config: `build(mean_state=..., **config.model)`.

    With one hypothesis every model and head is HMR on a whole trunk: SPIN's network, from which all start.

    Args:
      mean_state: the mean body and camera (144 rot6d, 10 betas, 3 camera) from which every hypothesis starts.
      name, trunk, head: which model, trunk and head.
      crop_size, width, keypoint_width, keypoint_blocks, dtype: as in `get_trunk`.
      own: fields that only this model has (`mdn.MDN`, `cvae.CVAE`).
      **fields: of every model: num_hypotheses, iterations, hidden, dropout, activation, init_noise, frozen.

    Raises:
      ValueError: a name that does not exist, with the choices; the released head with another trunk than a ResNet-50;
        see also `get_trunk`.
    """
    _choose("model.name", name, MODELS)
    _choose("model.head", head, dict.fromkeys(HEADS))
    module = get_trunk(trunk, crop_size, width, keypoint_width, keypoint_blocks, dtype)
    start = tuple(np.asarray(mean_state, float).tolist())
    if fields.get("num_hypotheses") == 1:
        name, own = "hmr", {}
    if head == "released":
        if name not in ("multibodies", "hmr"):
            raise ValueError(f"model.head='released' is of model.name='multibodies', got {name!r}: use head='paper'.")
        if not isinstance(module, ResNet50):
            raise ValueError(f"model.head='released' reads a map of model.trunk='resnet50', got model.trunk={trunk!r}.")
        if name == "multibodies":
            last = DTYPES[dtype]
            return released.Released(trunk=ResNet50Map(last), mean_state=start, dtype=last, **fields)
    return get(name, trunk=module, mean_state=start, **fields, **(own or {}))


def expand(
    head: str,
    variables: Mapping[str, Any],
    num_hypotheses: int,
    noise: float,
    key: Key[Array, ""],
    name: str = "multibodies",
) -> dict[str, Any]:
    """Makes the variables of a network with M hypotheses from those of a trained HMR (appendix D).

    Layers that an HMR has not (of SMPL-CVAE, and of an SMPL-MDN that learns its weights) are left out.

    Args:
      head: "paper" (`hmr.expand_to_hypotheses`) or "released" (`released.expand`).
      variables: "params" and "batch_stats" of an `HMR` with one hypothesis.
      num_hypotheses: M.
      noise: how much hypotheses differ; at 0, and without dropout, each equals the source.
      key: of the noise.
      name: of the model; "smpl_cvae" has HMR's own head, whatever M is.

    Raises:
      ValueError: the source is no single-hypothesis HMR, or of another trunk than the head needs.
    """
    if name == "smpl_cvae":
        return dict(variables)
    if head == "released":
        return released.expand(variables, num_hypotheses, noise, key)
    return {**variables, "params": hmr.expand_to_hypotheses(variables["params"], num_hypotheses, noise, key)}


def trained(params: Mapping[str, Any], head: str, freeze: str) -> Any:
    """Which parameters learn, as a tree of booleans.

    Args:
      params: "params" of a network.
      head: which one it has.
      freeze: "" all learn; "trunk": all but the trunk; "loaded": only what `expand` made larger.
    """

    def learns(path: tuple, _: Any) -> bool:
        name = "".join(f"{entry.key}/" for entry in path)
        return name.startswith(_EXPANDED[head]) if freeze == "loaded" else not (freeze and name.startswith("trunk/"))

    return jax.tree_util.tree_map_with_path(learns, params)


def _choose(field: str, name: str, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise ValueError(f"Unknown {field} {name!r}; choose one of {', '.join(choices)}.")
    return choices[name]
