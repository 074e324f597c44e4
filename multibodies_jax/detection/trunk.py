"""A trunk that needs no training: MoveNet Thunder, whose maps are read at the joints that it finds.

A network for crops that learns where joints are from a few thousand rendered people is far from one that was trained on
photographs, and a ResNet-50 is slow on a CPU. Thunder was trained on photographs and finds the joints of rendered people
too (`benchmarks/trunk.py`). It does not learn, so that its features can be computed once (`data.cached_passes`).

The feature of one crop has, for each joint of COCO-17,

- where it was found, and where the person's centre puts it (hidden joints, too), both in [-1, 1] of the crop;
- how sure the detector is that it is there, 0 to 1;
- the channels of the finest map (a cell for every 4 x 4 pixels) and of the coarsest one (32 x 32), each standardized, at
  the place where the joint was found;

and the mean of the coarsest map.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.batch import Inputs
from multibodies_jax.detection import graph_files, layers, movenet, weights
from multibodies_jax.models import build, resnet

_FARTHEST = 2.0  # Half sides of the crop; where a joint may be said to be.
_PYRAMID = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1"
_MAPS = {"fine": f"{_PYRAMID}/re_lu_2/Relu", "coarse": f"{_PYRAMID}/conv2d/BiasAdd"}


class MoveNetTrunk(nn.Module):
    """Thunder and the reading of its maps; no gradient passes.

    Attributes:
      network: the published network, without its weights.
      shapes: name and shape of each of its weights, which are this module's parameters ("/" in names is ".").
    """

    network: graph_files.Network
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B F"]:
        """The feature of the image (B, S, S, 3), S a multiple of 32; the parameters start at zero (`published`).

        Args:
          inputs: with an image.
          train: unused, every trunk has it.
        """
        del train
        image = jnp.asarray(resnet.image_of(inputs))
        arrays = {name: self.param(_parameter(name), nn.initializers.zeros, shape) for name, shape in self.shapes}
        outputs = layers.run(self.network, arrays, movenet.normalized(image))
        return jax.lax.stop_gradient(jax.vmap(functools.partial(read_maps, size=image.shape[1]))(outputs))


def read_maps(outputs: Mapping[str, Float[Array, "..."]], size: int) -> Float[Array, "F"]:
    """The feature of one crop.

    Args:
      outputs: of Thunder, (H, W, C) each: "heatmap", "centre", "joints", "offset", and the maps "fine" and "coarse".
      size: side of the crop, pixels; the person's centre is expected in its middle.
    """
    middle = jnp.full(2, size / 2)
    batch = {name: values[None] for name, values in outputs.items()}
    found = movenet.find_joints(batch, middle)[:-1]
    places = jnp.stack([found[:, :2], movenet.rough_joints(batch, middle)])
    scaled = jnp.clip(2 * places / size - 1, -_FARTHEST, _FARTHEST)
    share = found[:, :2] / (size - movenet.CELL)  # From the first cell of the finest map to its last one.
    read = [_standardized(_at(outputs[name], share)) for name in _MAPS]
    each = jnp.concatenate([*scaled, found[:, 2:], *read], axis=1)
    return jnp.concatenate([each.reshape(-1), _standardized(outputs["coarse"].mean(axis=(0, 1)))])


def published() -> dict[str, Array]:
    """The parameters of `MoveNetTrunk`: the published weights.

    Raises:
      weights.DetectorMissing: a file is missing or damaged; the message says the command that gets it.
    """
    return {_parameter(name): jnp.asarray(values) for name, values in read_published().weights.items()}


def _at(values: Float[Array, "H W C"], share: Float[Array, "K 2"]) -> Float[Array, "K C"]:
    """A map at places, x and y from 0 (its first cell) to 1 (its last one), bilinearly; outside, as on the border.

    The first and the last cells of all maps lie on each other, as `layers.double` enlarges them.
    """
    at = jnp.clip(share[:, ::-1], 0.0, 1.0) * (jnp.asarray(values.shape[:2]) - 1)[None]
    return jax.vmap(
        lambda channel: jax.scipy.ndimage.map_coordinates(channel, list(at.T), order=1, mode="nearest"), -1, -1
    )(values)


def _standardized(values: Float[Array, "*K C"]) -> Float[Array, "*K C"]:
    """Mean 0 and variance 1 over the channels."""
    return jax.nn.standardize(values, epsilon=1e-6)


def _parameter(name: str) -> str:
    """The name of a weight among parameters, whose names have no "/"."""
    return name.removeprefix("StatefulPartitionedCall/").replace("/", ".")


@functools.cache
def read_published() -> graph_files.Network:
    """Thunder with its weights and the maps that are read."""
    return movenet.read_network(weights.folder(), "thunder", _MAPS)


def _build(*, width: int, dtype: Any) -> MoveNetTrunk:
    del width, dtype  # It is what it is.
    network = read_published()
    shapes = tuple((name, values.shape) for name, values in network.weights.items())
    return MoveNetTrunk(dataclasses.replace(network, weights={}), shapes)


build.TRUNKS.register("movenet", build.Trunk(_build, width=0, multiple=32, published=published))
