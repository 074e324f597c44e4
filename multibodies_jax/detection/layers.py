"""Runs a network of `graph_files` in JAX.

XLA runs a grouped convolution channel by channel on a CPU, which takes five times as long as the whole network does
here: a depthwise convolution is a sum of shifted products, and a 1 x 1 convolution is a matrix product.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from multibodies_jax import exact
from multibodies_jax.detection import graph_files

Array = np.ndarray | jax.Array


def run(
    network: graph_files.Network, weights: Mapping[str, Float[Array, "..."]], image: Float[Array, "B H W C"]
) -> dict[str, Float[jax.Array, "B h w c"]]:
    """Computes the outputs of a network.

    Args:
      network: its layers and outputs.
      weights: `network.weights` or, under `jit`, an argument with the same names, so that they are no constants of the
        compiled program.
      image: as the first layer reads it.

    Returns:
      Every output, by name.

    Raises:
      ValueError: a layer and its input do not have the same number of channels, or two summands differ in shape.
    """
    values = {"": jnp.asarray(image)}
    for name, layer in network.layers.items():
        inputs = [values[source] for source in layer.inputs]
        if layer.kind == "sum":
            if inputs[0].shape != inputs[1].shape:
                raise ValueError(f"The layer {name!r} adds {inputs[0].shape} and {inputs[1].shape}.")
            values[name] = inputs[0] + inputs[1]
        elif layer.kind == "doubling":
            values[name] = double(inputs[0])
        else:
            kernel = weights[layer.kernel]
            if kernel.shape[2] != inputs[0].shape[-1]:
                raise ValueError(f"The layer {name!r} has a kernel {kernel.shape} and an input {inputs[0].shape}.")
            convolved = depthwise if layer.kind == "depthwise" else convolution
            value = convolved(inputs[0], kernel, layer.stride, layer.padding)
            if layer.bias:
                value = value + weights[layer.bias].reshape(1, 1, 1, -1)
            values[name] = _activated(value, layer.activation)
    return {output: values[name] for output, name in network.outputs.items()}


def convolution(
    x: Float[Array, "B H W C"], kernel: Float[Array, "kh kw C D"], stride: int, padding: str
) -> Float[jax.Array, "B h w D"]:
    """A convolution of all channels; `padding` is "SAME" or "VALID"."""
    if kernel.shape[:2] == (1, 1) and stride == 1:
        return exact.einsum("bhwc,cd->bhwd", x, kernel[0, 0])
    order = ("NHWC", "HWIO", "NHWC")
    return exact.convolution(jnp.asarray(x), jnp.asarray(kernel), (stride, stride), padding, dimension_numbers=order)


def depthwise(
    x: Float[Array, "B H W C"], kernel: Float[Array, "kh kw C 1"], stride: int, padding: str
) -> Float[jax.Array, "B h w C"]:
    """A convolution of each channel with a kernel of its own; `padding` is "SAME" or "VALID"."""
    pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = ((n - k) // stride + 1 for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True))
    total = jnp.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            rows = slice(row, row + (height - 1) * stride + 1, stride)
            columns = slice(column, column + (width - 1) * stride + 1, stride)
            total = total + x[:, rows, columns] * kernel[row, column, :, 0].reshape(1, 1, 1, -1)
    return total


def double(x: Float[Array, "B H W C"]) -> Float[jax.Array, "B 2*H 2*W C"]:
    """Enlarges an image by two, bilinearly; its corners stay where they are."""
    return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear")


def _activated(x: Float[jax.Array, "B H W C"], activation: str) -> Float[jax.Array, "B H W C"]:
    if activation == "relu6":
        return jnp.clip(x, 0.0, 6.0)
    return jnp.maximum(x, 0.0) if activation == "relu" else x
