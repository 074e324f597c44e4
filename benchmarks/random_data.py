"""Random numbers for programs that are timed: crops, what a network reads, and the tensors of its checkpoint."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from multibodies_jax.batch import Inputs


def crops(batch: int, side: int = 224) -> UInt8[np.ndarray, "B S S 3"]:
    """Crops of noise."""
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)


def inputs(size: int, image: np.ndarray | jax.Array | None = None) -> Inputs:
    """What networks read of `size` examples: crops (B, S, S, 3), or none, and keypoints in the middle of the crop."""
    on_device = None if image is None else jnp.asarray(image)
    return Inputs(jnp.zeros((size, 24, 2)), jnp.ones((size, 24)), jnp.zeros(size, jnp.uint32), on_device)


def generator(name: str) -> np.random.Generator:
    """Random numbers of a tensor, whose name is the seed."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def tensor(name: str, shape: tuple[int, ...], scale: float | None = None) -> Float32[np.ndarray, "*shape"]:
    """A tensor of ordinary size: factors and variances of norms of 0.5 to 1.5, all others normal.

    Args:
      name: in the checkpoint, as PyTorch names parts of layers.
      shape: (outputs, inputs, ...) of kernels.
      scale: standard deviation of the others; by default that of kernels keeps the size of what they read, and that of
        biases is 0.2.
    """
    rng = generator(name)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if scale is None:
        scale = 0.2 if len(shape) < 2 else 1.0 / np.sqrt(np.prod(shape[1:]))
    return np.float32(scale) * rng.standard_normal(shape, np.float32)
