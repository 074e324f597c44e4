"""The authors' network: a second stage 4 whose last block has a map for each hypothesis, and one regressor for all.

The trunk ends after layer3. `modes` is what their code calls layer5: torchvision's layer4 by other names, but that
`layer5_2/conv3` and `bn3` have 2048 M channels, those of a hypothesis side by side, and its shortcut is repeated for
each (`model.py` of the released code). Their slot 0, plain SPIN, is not here: it feeds no loss and no metric.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from multibodies_jax.batch import Inputs
from multibodies_jax.models import resnet, scores
from multibodies_jax.models.hmr import HeadSettings
from multibodies_jax.models.hmr_preactivated import PreactivatedHead

WIDTH, CHANNELS = 512, 2048
_MOMENTUM = 0.9
_MAPS_AT_ONCE = 100  # Of 7 x 7 pixels, 40 MB, which the second-level cache of an H100 holds.


class Released(nn.Module):
    """Predicts M bodies per image from a feature of each hypothesis.

    Attributes:
      trunk: `resnet.ResNet50Map`.
      settings: M, the spread of the hypotheses at the start (`init_noise`, see `expand`), and the fields of the head,
        which is that of `HMR` with M = 1.
      frozen: "trunk": the trunk's batch norms keep their running statistics in training; "loaded": those of `modes`
        do, too, except the last; "": none.
      dtype: of the convolutions of `modes`.
    """

    trunk: nn.Module
    settings: HeadSettings
    frozen: str = ""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B M 157"]:
        """States of all hypotheses, as `HMR` returns them; dropout differs among hypotheses."""
        its = self.settings
        modes = Modes(its.num_hypotheses, its.init_noise, self.frozen == "loaded", self.dtype, name="modes")
        head = PreactivatedHead(dataclasses.replace(its, num_hypotheses=1, init_noise=0.0), name="head")
        features = modes(self.trunk(inputs, train and not self.frozen), train)
        scores.sow_feature(self, features.mean(axis=1))
        state = head(features.reshape(-1, CHANNELS), train)
        return state.reshape(*features.shape[:2], -1)


class Modes(nn.Module):
    """layer5: from the trunk's map to one feature per hypothesis.

    Attributes:
      num_hypotheses: M.
      init_noise: as in `expand`, on random weights that are otherwise the same for all hypotheses.
      frozen: in training, only the last batch norm uses batch statistics.
      dtype: of the convolutions; statistics and features are float32.
      folded: evaluation only, with the batch norms in the convolutions and `layer5_2/conv3/kernel` (M, 2048, 512), which
        need not be moved for every image; for a single one, XLA multiplies faster with rows of 512 on CPUs
        (docs/benchmarks.md).
    """

    num_hypotheses: int
    init_noise: float
    frozen: bool
    dtype: Any
    folded: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 1024"], train: bool = False) -> Float[Array, "B M 2048"]:
        """The features, each the mean of the hypothesis' own map."""
        norm = resnet.make_norm(self.folded, train and not self.frozen, _MOMENTUM, self.dtype)
        x = resnet.Bottleneck(WIDTH, 2, norm, self.dtype, name="layer5_0")(x)
        x = resnet.Bottleneck(WIDTH, 1, norm, self.dtype, name="layer5_1")(x)
        fields = (self.num_hypotheses, self.init_noise, norm, self.dtype, self.folded)
        return ModeBottleneck(*fields, name="layer5_2")(x, train)


class ModeBottleneck(nn.Module):
    """The last bottleneck, its third convolution once per hypothesis, with the mean over the map.

    ReLU comes before the mean, so every hypothesis' map has to be computed, but no two have to exist at a time: they
    are scanned, and the backward pass computes each again. A GPU that evaluates few images makes several at once.

    Attributes:
      num_hypotheses, init_noise, dtype, folded: as in `Modes`.
      norm: name -> batch norm of the first two convolutions.
    """

    num_hypotheses: int
    init_noise: float
    norm: Callable[[str], nn.Module]
    dtype: Any
    folded: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 2048"], train: bool) -> Float[Array, "B M 2048"]:
        M, B = self.num_hypotheses, x.shape[0]
        y = resnet.narrow(x, WIDTH, 1, self.norm, self.dtype).reshape(B, -1, WIDTH)
        shortcut = x.reshape(B, -1, CHANNELS).astype(jnp.float32)
        if self.folded:
            kernel = _Parameter("kernel", (M, CHANNELS, WIDTH), nn.initializers.zeros, name="conv3")()
            bias = _Parameter("bias", (M, CHANNELS), nn.initializers.zeros, name="bn3")()
            features = jax.lax.platform_dependent(
                y,
                shortcut,
                kernel,
                bias,
                cpu=folded_features,
                default=functools.partial(folded_features, at_once=max(1, _MAPS_AT_ONCE // B)),
            )
        else:
            kernel = _Parameter("kernel", (1, 1, WIDTH, CHANNELS * M), _mode_init(M, self.init_noise), name="conv3")()
            norm = _Norm(CHANNELS * M, name="bn3")
            features, mean, var = _normalised(y, shortcut, kernel, norm(), train)
            if train:
                norm.follow(mean, resnet.unbiased(var, y.shape[0] * y.shape[1]))
        return jnp.moveaxis(features, 0, 1)


def folded_features(
    y: Float[Array, "B P 512"],
    shortcut: Float[Array, "B P 2048"],
    kernel: Float[Array, "M 2048 512"],
    bias: Float[Array, "M 2048"],
    at_once: int = 1,
) -> Float[Array, "M B 2048"]:
    """The features of all hypotheses, without batch norms.

    Args:
      y: what the last convolution reads.
      shortcut: what is added to the map of each hypothesis.
      kernel: of the last convolution.
      bias: of the last convolution.
      at_once: hypotheses whose maps exist at the same time. A GPU starts as many programs for many as for one; a CPU
        gains nothing.
    """

    def feature(mode: tuple[Array, Array]) -> Array:
        return _pool(_product(y, mode[0].T), mode[1], shortcut)

    return jax.lax.map(feature, (kernel, bias), batch_size=at_once if at_once > 1 else None)


def _normalised(
    y: Float[Array, "B P 512"],
    shortcut: Float[Array, "B P 2048"],
    kernel: Float[Array, "1 1 512 C"],
    norm: tuple[Float[Array, "C"], ...],
    train: bool,
) -> tuple[Float[Array, "M B 2048"], Float[Array, "C"], Float[Array, "C"]]:
    """The features of all hypotheses with the mean and variance that normalised them (`norm` is scale, bias, mean, var)."""

    def mode(xs: tuple[Array, ...]) -> tuple[Array, Array, Array]:
        kernel, scale, bias, mean, var = xs
        z = _product(y, kernel)
        if train:
            mean, var = z.mean(axis=(0, 1)), z.var(axis=(0, 1))
        factor = scale * jax.lax.rsqrt(var + resnet.EPSILON)
        return _pool(z * factor.reshape(1, 1, -1), bias - mean * factor, shortcut), mean, var

    kernels = jnp.moveaxis(kernel.reshape(WIDTH, -1, CHANNELS), 1, 0)
    step = jax.checkpoint(mode, prevent_cse=False) if train else mode
    features, mean, var = jax.lax.map(step, (kernels, *(value.reshape(-1, CHANNELS) for value in norm)))
    return features, mean.reshape(-1), var.reshape(-1)


def _product(y: Float[Array, "B P 512"], kernel: Float[Array, "512 2048"]) -> Float[Array, "B P 2048"]:
    return jnp.dot(y, kernel.astype(y.dtype)).astype(jnp.float32)


def _pool(
    z: Float[Array, "B P 2048"], bias: Float[Array, "2048"], shortcut: Float[Array, "B P 2048"]
) -> Float[Array, "B 2048"]:
    return nn.relu(z + bias.reshape(1, 1, -1) + shortcut).mean(axis=1)


def expand(variables: Mapping[str, Any], num_hypotheses: int, noise: float, key: Key[Array, ""]) -> dict:
    """Makes the variables of `Released` from those of a trained `HMR` with M = 1 on a ResNet-50 (SPIN's network).

    layer4 becomes `modes`, its last convolution and batch norm are tiled; trunk and head are taken over. Without noise
    and dropout every hypothesis equals the source. The authors add none: there, dropout alone tells hypotheses apart.

    Args:
      variables: "params" and "batch_stats" of the source.
      num_hypotheses: M.
      noise: std of what is added to `layer5_2/conv3/kernel`, `bn3/scale` and `bn3/bias`, in units of their own std
        within one hypothesis. Running statistics are tiled as they are.
      key: of the noise.

    Returns:
      "params" and "batch_stats".

    Raises:
      ValueError: the source is no single-hypothesis HMR on a ResNet-50.
    """
    _check_source(variables["params"])
    params = _split_trunk(variables["params"]["trunk"])
    last = dict(params["modes"]["layer5_2"])
    keys = jax.random.split(key, 3)
    last["conv3"] = {"kernel": _tile(last["conv3"]["kernel"], num_hypotheses, noise, keys[0])}
    last["bn3"] = {
        name: _tile(last["bn3"][name], num_hypotheses, noise, k)
        for name, k in zip(("scale", "bias"), keys[1:], strict=True)
    }
    params["modes"]["layer5_2"] = last
    stats = _split_trunk(variables["batch_stats"]["trunk"])
    last = stats["modes"]["layer5_2"]
    tiled = jax.tree.map(lambda x: jnp.tile(x, num_hypotheses), last["bn3"])
    stats["modes"]["layer5_2"] = {**last, "bn3": tiled}
    return {"params": params | {"head": variables["params"]["head"]}, "batch_stats": stats}


def _split_trunk(trunk: Mapping[str, Any]) -> dict[str, dict]:
    """A ResNet-50's tree as `trunk`, without layer4, and `modes`, layer4 by the names of layer5."""
    modes = {name.replace("layer4", "layer5"): tree for name, tree in trunk.items() if name.startswith("layer4_")}
    return {"trunk": {name: tree for name, tree in trunk.items() if not name.startswith("layer4_")}, "modes": modes}


def _tile(x: Float[Array, "*b C"], times: int, noise: float, key: Key[Array, ""]) -> Float[Array, "*b C2"]:
    """Repeats the channels, each copy with noise of its own."""
    shape = (*x.shape[:-1], x.shape[-1] * times)
    tiled = jnp.tile(x, times)
    return tiled + noise * x.std() * jax.random.normal(key, shape) if noise else tiled


def _mode_init(num_hypotheses: int, noise: float) -> Callable:
    def init(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        k_one, k_noise = jax.random.split(key)
        one = resnet.conv_init(k_one, (*shape[:-1], CHANNELS))
        return _tile(one, num_hypotheses, noise if num_hypotheses > 1 else 0.0, k_noise)

    return init


class _Parameter(nn.Module):
    """One parameter, named as in the layer that it stands for, for a product of another form."""

    leaf: str
    shape: tuple[int, ...]
    init: Callable

    @nn.compact
    def __call__(self) -> Float[Array, "..."]:
        return self.param(self.leaf, self.init, self.shape)


class _Norm(nn.Module):
    """The variables of a batch norm, named as those of `nn.BatchNorm`, which would normalise all channels at once."""

    channels: int

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.channels,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, (self.channels,))
        self.var = self.variable("batch_stats", "var", jnp.ones, (self.channels,))

    def __call__(self) -> tuple[Float[Array, "C"], Float[Array, "C"], Float[Array, "C"], Float[Array, "C"]]:
        return self.scale, self.bias, self.mean.value, self.var.value

    def follow(self, mean: Float[Array, "C"], var: Float[Array, "C"]) -> None:
        """Moves the running averages towards those of a batch."""
        if self.is_initializing():
            return
        for average, value in ((self.mean, mean), (self.var, var)):
            average.value = _MOMENTUM * average.value + (1 - _MOMENTUM) * value


def _check_source(params: Mapping[str, Any]) -> None:
    head, trunk = params.get("head", {}), params.get("trunk", {})
    columns = head["dec"]["kernel"].shape[1] if "dec" in head else None
    if columns != 157 or "layer4_2" not in trunk:
        raise ValueError(
            "model.head='released' starts from an HMR with one hypothesis on a ResNet-50 (trunk/layer4_2 and head/dec "
            f"with 157 columns), got a trunk of {sorted(trunk)} and {columns or 'no'} columns: use a model trained "
            "with model.num_hypotheses=1 and model.trunk='resnet50', or a converted SPIN checkpoint."
        )
