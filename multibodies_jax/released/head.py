"""Registers the authors' mode-wise stage 4 as `config.model.head`."""

import flax.linen as nn

from multibodies_jax.models import build, hmr, resnet
from multibodies_jax.released import folding, network


def _build(*, trunk: nn.Module, settings: hmr.HeadSettings, frozen: str) -> network.Released:
    if not isinstance(trunk, resnet.ResNet50):
        raise ValueError(f"The authors' network reads a map of a ResNet-50, got {type(trunk).__name__}.")
    return network.Released(resnet.ResNet50Map(trunk.dtype), settings, frozen, trunk.dtype)


build.HEADS.register(
    "released",
    build.Head(
        build=_build,
        expand=network.expand,
        fold=folding.fold,
        own_parameters=("modes/layer5_2/conv3/", "modes/layer5_2/bn3/"),
        trunk="resnet50",
    ),
)
