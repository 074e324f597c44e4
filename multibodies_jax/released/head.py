"""Registers the authors' mode-wise stage 4 as `config.model.head`."""

import flax.linen as nn

from multibodies_jax.models import build, resnet
from multibodies_jax.released import folding, network


def _build(
    *,
    trunk: nn.Module,
    mean_state: tuple[float, ...],
    num_hypotheses: int,
    iterations: int,
    hidden: int,
    dropout: float,
    activation: str,
    init_noise: float,
    frozen: str,
) -> network.Released:
    if not isinstance(trunk, resnet.ResNet50):
        raise ValueError(f"The authors' network reads a map of a ResNet-50, got {type(trunk).__name__}.")
    return network.Released(
        trunk=resnet.ResNet50Map(trunk.dtype),
        mean_state=mean_state,
        num_hypotheses=num_hypotheses,
        iterations=iterations,
        hidden=hidden,
        dropout=dropout,
        activation=activation,
        init_noise=init_noise,
        frozen=frozen,
        dtype=trunk.dtype,
    )


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
