"""Layers on the vertices of a mesh: graph convolution, residual block, the step to the finer mesh (GraphCMR, section 3.2)."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from multibodies_jax import exact
from multibodies_jax.models import exact_layers

STARTS = ("mean", "published")
_GROUP = 8  # Channels that group norms normalise together.
_EPSILON = 1e-5


def linear_init(start: str) -> Callable[..., Array]:
    """Of a layer on channels: uniform within 1 / (in out) ("published", next to nothing), or one that keeps the variance."""
    return nn.initializers.lecun_normal() if start == "mean" else _uniform(lambda fan_in, out: 1 / (fan_in * out))


def convolution_init(start: str) -> Callable[..., Array]:
    """Of a graph convolution: uniform within 6 / sqrt(in + out) ("published", wide), or one that keeps the variance."""
    return (
        nn.initializers.lecun_normal() if start == "mean" else _uniform(lambda fan_in, out: 6 / np.sqrt(fan_in + out))
    )


def _uniform(bound: Callable[[int, int], float]) -> Callable[..., Array]:
    def init(key: Key[Array, ""], shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        most = bound(*shape)
        return jax.random.uniform(key, shape, dtype, minval=-most, maxval=most)

    return init


@jax.custom_vjp
def neighbour_sum(x: Float[Array, "B N C"], neighbours: Int[Array, "N K"]) -> Float[Array, "B N C"]:
    """The sum over each vertex and its neighbours; places that hold the vertex again do not count.

    One row is gathered after the other, which XLA joins into a single pass without (B, N, K, C) in memory. The sum is its
    own transpose, so that the gradient is a gather too, and no scatter. On CPUs examples go one by one: a loop is the one
    way to keep XLA from repeating the eleven gathers in everything that reads the result.
    """
    own = jnp.arange(neighbours.shape[0])
    repeats = jnp.sum(neighbours[:, 1:] == own[:, None], axis=1).astype(x.dtype)

    def of_one(one: Float[Array, "N C"]) -> Float[Array, "N C"]:
        total = one * (1 - repeats[:, None])
        for k in range(1, neighbours.shape[1]):
            total = total + one.at[neighbours[:, k]].get(mode="promise_in_bounds")
        return total

    return jax.lax.platform_dependent(x, cpu=functools.partial(jax.lax.map, of_one), default=jax.vmap(of_one))


def _neighbour_sum_forward(x: Array, neighbours: Array) -> tuple[Array, Array]:
    return neighbour_sum(x, neighbours), neighbours


def _neighbour_sum_backward(neighbours: Array, gradient: Array) -> tuple[Array, None]:
    return neighbour_sum(gradient, neighbours), None


neighbour_sum.defvjp(_neighbour_sum_forward, _neighbour_sum_backward)


def neighbour_mean(x: Float[Array, "B N C"], neighbours: Int[Array, "N K"]) -> Float[Array, "B N C"]:
    """The mean over each vertex and its neighbours: the product with D^-1 (A + I)."""
    own = jnp.arange(neighbours.shape[0])[:, None]
    count = 1 + jnp.sum(neighbours[:, 1:] != own, axis=1)
    return neighbour_sum(x, neighbours) / count.astype(x.dtype)[None, :, None]


def upsample(
    x: Float[Array, "B N C"], corners: Int[Array, "V 3"], weights: Float[Array, "V 3"]
) -> Float[Array, "B V C"]:
    """Values at the vertices of the fine mesh from those at the coarse one."""
    parts = [x[:, corners[:, k]] * weights[None, :, k, None] for k in range(3)]
    return parts[0] + parts[1] + parts[2]


class GraphConvolution(nn.Module):
    """y = mean over a vertex and its neighbours of x W, plus b.

    Attributes:
      features: channels that come out.
      start: of W, one of `STARTS`.
    """

    features: int
    start: str

    @nn.compact
    def __call__(self, x: Float[Array, "B N C"], neighbours: Int[Array, "N K"]) -> Float[Array, "B N C2"]:
        kernel = self.param("kernel", convolution_init(self.start), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return neighbour_mean(exact.dot(x, kernel), neighbours) + bias[None, None]


class Block(nn.Module):
    """A residual block of three layers, half as wide inside, each after a group norm and a ReLU.

    Attributes:
      features: channels that come out; where others come in the shortcut is a layer, too.
      start: of the layers, one of `STARTS`.
    """

    features: int
    start: str

    @nn.compact
    def __call__(self, x: Float[Array, "B N C"], neighbours: Int[Array, "N K"]) -> Float[Array, "B N C2"]:
        y = dense(self.features // 2, self.start, "lin1")(norm_relu(x, "pre_norm"))
        y = GraphConvolution(self.features // 2, self.start, name="conv")(norm_relu(y, "norm1"), neighbours)
        y = dense(self.features, self.start, "lin2")(norm_relu(y, "norm2"))
        if x.shape[-1] != self.features:
            x = dense(self.features, self.start, "skip_conv")(x)
        return x + y


def dense(features: int, start: str, name: str) -> nn.Module:
    """A layer on the channels of each vertex."""
    return exact_layers.Dense(features, kernel_init=linear_init(start), name=name)


def norm_relu(x: Float[Array, "B N C"], name: str) -> Float[Array, "B N C"]:
    """A group norm over 8 channels and all vertices, and a ReLU; within the compact method of the module that owns it."""
    groups = max(1, x.shape[-1] // _GROUP)
    return nn.relu(nn.GroupNorm(groups, epsilon=_EPSILON, use_fast_variance=False, name=name)(x))
