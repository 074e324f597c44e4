"""Image trunks: the paper's ResNet-50 and a small residual network for small crops.

Both take `Inputs`, read their uint8 `image` and return one float32 feature per image.
Module names follow torchvision's state dict, so that converting is renaming: `layer2.0.conv1.weight` is
`params/layer2_0/conv1/kernel` (transposed to height, width, in, out), `layer2.0.downsample.{0,1}` are
`layer2_0/downsample_{0,1}`, `bn.{weight,bias}` are `params/bn/{scale,bias}`, and `bn.running_{mean,var}` are
`batch_stats/bn/{mean,var}`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from multibodies_jax.batch import Inputs
from multibodies_jax.models import winograd

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EPSILON = 1e-5
"""Added to the variance by every batch norm."""

conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")


class ResNet50(nn.Module):
    """ResNet-50 v1 with the stride on the 3x3 convolutions (He et al., 2016; as torchvision and SPIN have it).

    Padding is explicit and symmetric as in PyTorch: "SAME" would shift every strided layer by half a pixel.

    Attributes:
      dtype: of the convolutions; parameters, batch statistics and the feature stay float32.
      folded: evaluation only, with the batch norms in the convolutions (`folding.fold_norms`).
    """

    dtype: Any = jnp.float32
    folded: bool = False

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B 2048"]:
        """The mean of the last feature map of the image (B, S, S, 3), at any S."""
        x = _resnet50(inputs, make_norm(self.folded, train, 0.9, self.dtype), self.dtype, stages=4)
        return x.astype(jnp.float32).mean(axis=(1, 2))


class ResNet50Map(nn.Module):
    """`ResNet50` without layer4 and pooling, by the same names: what the authors' mode-wise stage reads.

    Attributes:
      dtype: as in `ResNet50`, and of the map.
      folded: as in `ResNet50`.
    """

    dtype: Any = jnp.float32
    folded: bool = False

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B S1 S1 1024"]:
        """The map of the image (B, S, S, 3) after layer3, S1 = S / 16."""
        return _resnet50(inputs, make_norm(self.folded, train, 0.9, self.dtype), self.dtype, stages=3)


def _resnet50(inputs: Inputs, norm: Callable[[str], nn.Module], dtype: Any, stages: int) -> Float[Array, "B S1 S1 C"]:
    x = normalize_image(image_of(inputs)).astype(dtype)
    x = nn.relu(norm("bn1")(conv("conv1", 64, 7, 2, dtype)(x)))
    pad: Any = ((1, 1), (1, 1))  # Flax takes pairs but declares a string.
    x = nn.max_pool(x, (3, 3), (2, 2), pad)
    for stage, blocks in enumerate((3, 4, 6, 3)[:stages]):
        for block in range(blocks):
            name = f"layer{stage + 1}_{block}"
            x = Bottleneck(64 * 2**stage, 2 if is_strided(name) else 1, norm, dtype, name=name)(x)
    return x


class ResNetSmall(nn.Module):
    """Four basic residual blocks for crops of about 64 pixels; the last map is kept whole, not averaged.

    A map of a small crop is only 4x4, and what a pose needs of it is where things are.

    Attributes:
      width: channels of the first block; each block after it doubles them and halves the map.
      features: size of the feature.
      dtype: of the convolutions.
      folded: as in `ResNet50`.
    """

    width: int = 16
    features: int = 512
    dtype: Any = jnp.float32
    folded: bool = False

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B F"]:
        """The feature of the image (B, S, S, 3), S a multiple of 16."""
        norm = make_norm(self.folded, train, 0.95, self.dtype)
        x = normalize_image(image_of(inputs)).astype(self.dtype)
        x = nn.relu(norm("bn1")(conv("conv1", self.width, 5, 2, self.dtype)(x)))
        for stage in range(4):
            stride = 2 if stage > 0 else 1
            x = _Basic(self.width * 2**stage, stride, norm, self.dtype, name=f"layer{stage + 1}_0")(x)
        x = nn.Dense(self.features, dtype=self.dtype, name="dense")(x.reshape(x.shape[0], -1))
        return nn.relu(x).astype(jnp.float32)


def image_of(inputs: Inputs) -> UInt8[Array | np.ndarray, "B S S 3"]:
    """The image that a trunk reads.

    Raises:
      ValueError: there is none.
      TypeError: it is not uint8; anything else has probably been normalised already.
    """
    if inputs.image is None:
        raise ValueError("This trunk reads images, got inputs without any: take model.trunk='keypoints' for keypoints.")
    if (dtype := inputs.image.dtype) != jnp.uint8:
        raise TypeError(
            f"Expected a uint8 image with values 0 to 255, got {dtype}: pass the crop as it was read. Of floats from 0 to "
            "1 that were not normalised it is (255 * image).round().astype('uint8')."
        )
    return inputs.image


def normalize_image(image: UInt8[Array | np.ndarray, "B H W 3"]) -> Float[Array, "B H W 3"]:
    """Bytes to zero mean and unit variance per channel of ImageNet's photographs."""
    mean = jnp.array(IMAGENET_MEAN).reshape(1, 1, 1, 3)
    std = jnp.array(IMAGENET_STD).reshape(1, 1, 1, 3)
    return (jnp.asarray(image, jnp.float32) / 255.0 - mean) / std


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut, which is a convolution, too, where the shape changes.

    Attributes:
      width: channels between the convolutions; four times as many come out.
      stride: of the 3x3 convolution and of the shortcut.
      norm: name -> batch norm.
      dtype: of the convolutions.
    """

    width: int
    stride: int
    norm: Callable[[str], nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C4"]:
        y = narrow(x, self.width, self.stride, self.norm, self.dtype)
        y = self.norm("bn3")(conv("conv3", 4 * self.width, 1, 1, self.dtype)(y))
        if x.shape != y.shape:
            x = self.norm("downsample_1")(conv("downsample_0", 4 * self.width, 1, self.stride, self.dtype)(x))
        return nn.relu(x + y)


def narrow(
    x: Float[Array, "B H W C"], width: int, stride: int, norm: Callable[[str], nn.Module], dtype: Any
) -> Float[Array, "B H2 W2 C2"]:
    """The first two convolutions of a bottleneck, within the compact method of the block that owns them."""
    y = nn.relu(norm("bn1")(conv("conv1", width, 1, 1, dtype)(x)))
    return nn.relu(norm("bn2")(conv("conv2", width, 3, stride, dtype)(y)))


class _Basic(nn.Module):
    width: int
    stride: int
    norm: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C2"]:
        y = nn.relu(self.norm("bn1")(conv("conv1", self.width, 3, self.stride, self.dtype)(x)))
        y = self.norm("bn2")(conv("conv2", self.width, 3, 1, self.dtype)(y))
        if x.shape != y.shape:
            x = self.norm("downsample_1")(conv("downsample_0", self.width, 1, self.stride, self.dtype)(x))
        return nn.relu(x + y)


def conv(name: str, features: int, size: int, stride: int, dtype: Any) -> nn.Module:
    """A convolution without bias, padded as in PyTorch."""
    if size == 1:
        return Pointwise(features, stride, dtype, name=name)
    if (size, stride) == (3, 1):
        return Conv3x3(features, dtype, name=name)
    pad = size // 2
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        ((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=conv_init,
        dtype=dtype,
        name=name,
    )


class Conv3x3(nn.Module):
    """A 3x3 convolution of stride 1 without bias, by `winograd.convolve` where its kernel was transformed for that.

    Attributes:
      features: channels that come out.
      dtype: of the convolution.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C2"]:
        if winograd.is_transformed(kernel := self.get_variable("params", "kernel")):
            return winograd.convolve(x, kernel)
        kernel = self.param("kernel", conv_init, (3, 3, x.shape[-1], self.features))
        around: Any = ((1, 1), (1, 1))
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype), kernel.astype(self.dtype), (1, 1), around, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class Pointwise(nn.Module):
    """A 1x1 convolution without bias, as the product of matrices that it is.

    On CPUs XLA's convolution is slower than its product in every such layer (docs/benchmarks.md).

    Attributes:
      features: channels that come out.
      stride: of the places that are kept.
      dtype: of the product.
    """

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C2"]:
        kernel = self.param("kernel", conv_init, (1, 1, x.shape[-1], self.features))
        kept = x[:, :: self.stride, :: self.stride]
        return jnp.dot(kept.astype(self.dtype), kernel[0, 0].astype(self.dtype))


def is_strided(block: str) -> bool:
    """Whether the 3x3 convolution of a `Bottleneck` halves the map, by the name that a ResNet-50 gives the block."""
    return block.endswith("_0") and block != "layer1_0"


def make_norm(folded: bool, train: bool, momentum: float, dtype: Any) -> Callable[[str], nn.Module]:
    """name -> batch norm, in training with the batch's statistics, which its running averages follow; or its `Shift`."""
    if folded:
        return lambda name: Shift(name=name)
    return lambda name: BatchNorm(not train, momentum=momentum, epsilon=EPSILON, dtype=dtype, name=name)


class BatchNorm(nn.BatchNorm):
    """Flax's batch norm with PyTorch's running variance, which follows the unbiased variance of each batch.

    What normalises a batch in training is its biased variance, in both.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*b C"]) -> Float[Array, "*b C"]:
        follows = not self.use_running_average and not self.is_initializing()
        kept = self.momentum * self.get_variable("batch_stats", "var") if follows else 0.0
        y = super().__call__(x)
        if follows:
            biased = self.get_variable("batch_stats", "var") - kept
            self.put_variable("batch_stats", "var", kept + unbiased(biased, x.size // x.shape[-1]))
        return y


def unbiased(var: Float[Array, "C"], count: int) -> Float[Array, "C"]:
    """The variance of `count` values of a channel, whose mean was estimated, from their mean square; 0 of a single one."""
    return var * (count / max(count - 1, 1))


class Shift(nn.Module):
    """What is left of a batch norm whose factor is in the convolution before it."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return x + bias.astype(x.dtype).reshape(1, 1, 1, -1)
