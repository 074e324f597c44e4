"""Evaluation with everything worked out once that does not depend on the image: one affine map, no batch norms.

Without activations the iterations of the head are an affine map of the feature, and a batch norm with running statistics
is a part of the convolution before it. On processors 3x3 convolutions take fewer products (`winograd`). All are exact: only
the rounding differs.

What it gains is measured by `python -m benchmarks.heads` (docs/benchmarks.md).
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax.batch import Inputs
from multibodies_jax.hypotheses.hypotheses import STATE_SIZE
from multibodies_jax.models import exact_layers, resnet, scores, winograd
from multibodies_jax.models.hmr import HMR, HeadSettings

_Tree = dict[str, Any]


@runtime_checkable
class Foldable(Protocol):
    """A network that knows how to fold itself."""

    def fold(self, variables: Mapping[str, Any]) -> tuple[nn.Module, _Tree]:
        """As the function `fold`."""
        ...


class Folded(nn.Module):
    """A network that `fold` made; in training there is none.

    Attributes:
      trunk: as in the source, without batch norms.
      modes: from what the trunk gives to the feature of each hypothesis, without batch norms; None: one feature.
      sizes: outputs of the layers from a feature to states.
      num_hypotheses: M.
    """

    trunk: nn.Module
    modes: nn.Module | None
    sizes: tuple[int, ...]
    num_hypotheses: int

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B M 157"]:
        """The states of the source in evaluation; "extras" gets the feature as from the source."""
        if train:
            raise ValueError("A folded network cannot be trained: train its source.")
        x = self.trunk(inputs, False) if inputs.feature is None else inputs.feature
        if self.modes is not None:
            x = self.modes(x, False)
        scores.sow_feature(self, x if self.modes is None else x.mean(axis=1))
        for index, size in enumerate(self.sizes):
            x = exact_layers.Dense(size, name=f"map_{index}")(x)
        return x.reshape(x.shape[0], self.num_hypotheses, STATE_SIZE)


def fold(model: nn.Module, variables: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A network and its variables with the states of `model` in evaluation, to float32 rounding.

    Args:
      model: an `HMR` or a `Foldable`; any other one (a subclass of `HMR`, too), and one with another activation than
        "none", whose iterations are no affine map, is returned as it is with its variables.
      variables: "params" and "batch_stats", float32.
    """
    if isinstance(model, Foldable):
        return model.fold(variables)
    if type(model) is not HMR or model.settings.activation != "none":
        return model, dict(variables)
    params, stats = variables["params"], variables.get("batch_stats") or {}
    trunk, folded_trunk = fold_trunk(model.trunk, params["trunk"], stats.get("trunk", {}))
    sizes, maps = fold_maps(params["head"], model.settings)
    return Folded(trunk, None, sizes, model.settings.num_hypotheses), {"params": {"trunk": folded_trunk, **maps}}


def fold_trunk(trunk: nn.Module, params: Mapping[str, Any], stats: Mapping[str, Any]) -> tuple[nn.Module, _Tree]:
    """A trunk without batch norms and its parameters (of a ResNet-50 with `fewer_products`); one that has none stays as it is."""
    if isinstance(trunk, resnet.ResNet50 | resnet.ResNet50Map | resnet.ResNetSmall):
        trunk = trunk.clone(folded=True, parent=None)
    folded = fold_norms(params, stats)
    if isinstance(trunk, resnet.ResNet50 | resnet.ResNet50Map):
        folded = fewer_products(folded, trunk.dtype)
    return trunk, folded


def fewer_products(blocks: Mapping[str, Any], dtype: Any) -> _Tree:
    """The parameters of `resnet.Bottleneck`s, by the names of these, for `winograd.convolve` where it takes less time: on
    processors, in float32. Other parameters stay.
    """
    if jax.default_backend() != "cpu" or jnp.dtype(dtype) != jnp.float32:
        return dict(blocks)
    return {
        name: block | {"conv2": {"kernel": winograd.transformed(block["conv2"]["kernel"])}}
        if "conv2" in block and not resnet.is_strided(name)
        else block
        for name, block in blocks.items()
    }


def fold_maps(params: Mapping[str, Any], settings: HeadSettings) -> tuple[tuple[int, ...], dict[str, _Tree]]:
    """The sizes and the parameters of the layers `map_0`, ... of `Folded` that stand for a head; see `fold_head`."""
    layers = fold_head(params, settings)
    sizes = tuple(len(layer["bias"]) for layer in layers)
    return sizes, {f"map_{index}": layer for index, layer in enumerate(layers)}


def fold_head(params: Mapping[str, Any], settings: HeadSettings) -> list[_Tree]:
    """The layers (kernel and bias) that make the stacked state of a feature, as `IterativeHead` without activation does.

    Worked out in float64. One layer, (F, 157 M), or two with the hidden width between them where those are smaller.
    """
    fc1, fc2, dec = ({k: np.asarray(v, np.float64) for k, v in params[name].items()} for name in ("fc1", "fc2", "dec"))
    start = np.tile(np.asarray(settings.mean_state, np.float64), settings.num_hypotheses)
    features, size = len(fc1["kernel"]) - len(start), len(start)
    fc1_state = fc1["kernel"][features:] / settings.num_hypotheses
    loop, loop_bias = dec["kernel"] @ fc1_state, dec["bias"] @ fc1_state
    # Affine functions of the feature: the kernel and, in the last row, the bias.
    pre = np.vstack([fc1["kernel"][:features], start @ fc1_state + fc1["bias"]])
    total = x = np.zeros_like(pre)
    for iteration in range(settings.iterations):
        if iteration > 0:
            pre = _plus(pre + x @ loop, loop_bias)
        x = _plus(pre @ fc2["kernel"], fc2["bias"])
        total = total + x
    bias = start + settings.iterations * dec["bias"]
    hidden = total.shape[1]
    if features * size <= hidden * (features + size):
        return [_layer(_plus(total @ dec["kernel"], bias))]
    return [_layer(total), _layer(np.vstack([dec["kernel"], bias]))]


def fold_norms(params: Mapping[str, Any], stats: Mapping[str, Any]) -> _Tree:
    """A tree of convolutions without batch norms: their factors in the kernels, their shifts as the norms' only bias.

    A norm follows the convolution of its name (`bn1` conv1, `downsample_1` downsample_0); what has none stays.
    """
    folded = {}
    for name, tree in params.items():
        norm = {"downsample_0": "downsample_1"}.get(name, name.replace("conv", "bn"))
        if "mean" in stats.get(norm, {}):
            scale, bias, mean, var = (np.asarray(t, np.float64) for t in _norm_values(params[norm], stats[norm]))
            factor = scale / np.sqrt(var + resnet.EPSILON)
            if name == norm:
                folded[name] = {"bias": (bias - mean * factor).astype(np.float32)}
            else:
                folded[name] = {"kernel": np.asarray(tree["kernel"]) * factor.astype(np.float32)}
        else:
            folded[name] = fold_norms(tree, stats[name]) if name in stats else tree
    return folded


def _norm_values(params: Mapping[str, Any], stats: Mapping[str, Any]) -> tuple[Any, ...]:
    return params["scale"], params["bias"], stats["mean"], stats["var"]


def _plus(affine: Float[np.ndarray, "F1 N"], bias: Float[np.ndarray, "N"]) -> Float[np.ndarray, "F1 N"]:
    return np.vstack([affine[:-1], affine[-1] + bias])


def _layer(affine: Float[np.ndarray, "F1 N"]) -> _Tree:
    return {"kernel": affine[:-1].astype(np.float32), "bias": affine[-1].astype(np.float32)}
