"""The authors' network in evaluation, as `models.folding` has it: no batch norms, one affine map for the head."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from multibodies_jax.models import folding
from multibodies_jax.released import network


def fold(model: nn.Module, variables: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """As `models.folding.fold`, which also folds what is no `network.Released`: the single hypothesis of stage one."""
    if not isinstance(model, network.Released) or model.settings.activation != "none":
        return folding.fold(model, variables)
    params, stats = variables["params"], variables["batch_stats"]
    trunk, folded_trunk = folding.fold_trunk(model.trunk, params["trunk"], stats.get("trunk", {}))
    sizes, maps = folding.fold_maps(params["head"], dataclasses.replace(model.settings, num_hypotheses=1))
    modes = network.Modes(model.settings.num_hypotheses, 0.0, False, model.dtype, folded=True)
    folded_modes = _by_mode(folding.fold_norms(params["modes"], stats["modes"]))
    folded_modes = folding.fewer_products(folded_modes, model.dtype)
    module = folding.Folded(trunk, modes, sizes, model.settings.num_hypotheses)
    return module, {"params": {"trunk": folded_trunk, "modes": folded_modes, **maps}}


def _by_mode(modes: dict[str, Any]) -> dict[str, Any]:
    """Folded `modes` with the kernel and bias of each hypothesis together."""
    last = modes["layer5_2"]
    kernel = last["conv3"]["kernel"].reshape(network.WIDTH, -1, network.CHANNELS)
    by_mode = {
        "conv3": {"kernel": np.ascontiguousarray(kernel.transpose(1, 2, 0))},
        "bn3": {"bias": last["bn3"]["bias"].reshape(-1, network.CHANNELS)},
    }
    return modes | {"layer5_2": last | by_mode}
