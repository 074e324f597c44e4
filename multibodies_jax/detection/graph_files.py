"""Reads a convolutional network from the two files of a TensorFlow.js graph model, without TensorFlow.

The JSON file lists the nodes of a graph and the weights by name, shape and type; the binary file holds the weights one
after the other. A trained network is a few kinds of layers, and what decodes its outputs (peaks, offsets) is written in
`movenet.py`; so only the nodes between an image and some named outputs are read, and every other kind of node among
them is refused. Nothing in the files is executed, and all sizes are checked before an array is made.
"""

import base64
import binascii
import dataclasses
import graphlib
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from multibodies_jax import untrusted

Kind = Literal["convolution", "depthwise", "sum", "doubling"]

_KINDS: dict[str, Kind] = {
    "Conv2D": "convolution",
    "_FusedConv2D": "convolution",
    "DepthwiseConv2dNative": "depthwise",
    "FusedDepthwiseConv2dNative": "depthwise",
    "AddV2": "sum",
    "ResizeBilinear": "doubling",
}
_FUSED = {(): "", ("BiasAdd",): "", ("BiasAdd", "Relu"): "relu", ("BiasAdd", "Relu6"): "relu6"}
_TYPES = {"float32": np.float32, "float16": np.float16, "int32": np.int32, "bool": np.bool_}
_MOST_NODES = 10_000
_MOST_AXES = 6


class GraphError(ValueError):
    """Files that are no network of the known kinds of layers; the message says which node or weight, and why."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
      kind: a convolution of all channels or of each one (depthwise), a sum, or a bilinear enlargement by two.
      inputs: names of the layers that it reads; "" is the image.
      kernel: name of the weights (height, width, inputs, outputs) or, depthwise, (height, width, channels, 1).
      bias: name of the weights (channels,), or "".
      stride: of a convolution, in both directions.
      padding: "SAME" (the output has 1 / stride of the input's size, rounded up) or "VALID".
      activation: "", "relu", or "relu6" (between 0 and 6).
    """

    kind: Kind
    inputs: tuple[str, ...]
    kernel: str = ""
    bias: str = ""
    stride: int = 1
    padding: str = "SAME"
    activation: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network from an image (batch, height, width, 3) to several outputs.

    Attributes:
      layers: by name, each after those that it reads.
      outputs: name of an output -> the layer that computes it.
      weights: float32, by name; those that the layers read.
    """

    layers: Mapping[str, Layer]
    outputs: Mapping[str, str]
    weights: Mapping[str, np.ndarray]


def read(model: bytes, weights: bytes, image: str, outputs: Mapping[str, str]) -> Network:
    """Reads the part of a graph between an image and some outputs.

    Args:
      model: content of the JSON file.
      weights: content of the binary file.
      image: name of the node that stands for the image as the first layer reads it.
      outputs: name of an output -> name of its node.

    Returns:
      The network.

    Raises:
      GraphError: the files do not fit together, or a node or weight is of no known kind.
    """
    content = _json(model)
    nodes = _nodes(content)
    arrays = _Weights(content, weights)
    layers: dict[str, Layer] = {}
    before: dict[str, tuple[str, ...]] = {}
    waiting = list(outputs.values())
    while waiting:
        name = waiting.pop()
        if name in layers:
            continue
        layer = _layer(name, nodes, image, arrays)
        layers[name], before[name] = layer, tuple(source for source in layer.inputs if source)
        waiting += before[name]
    try:
        order = tuple(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        raise GraphError(f"the graph has a cycle through the node {error.args[1][0]!r}.") from None
    used = {name for layer in layers.values() for name in (layer.kernel, layer.bias) if name}
    return Network({name: layers[name] for name in order}, dict(outputs), {name: arrays[name] for name in sorted(used)})


def _json(model: bytes) -> dict:
    return untrusted.parse_json(model, "the model file", dict, "A graph model is an object.", GraphError)


def _nodes(content: dict) -> dict[str, dict]:
    topology = content.get("modelTopology")
    entries = topology.get("node") if isinstance(topology, dict) else None
    if not isinstance(entries, list) or len(entries) > _MOST_NODES:
        raise GraphError(f"modelTopology.node has to be a list of at most {_MOST_NODES} nodes.")
    for entry in entries:
        inputs = entry.get("input", []) if isinstance(entry, dict) else None
        if not isinstance(inputs, list) or not all(isinstance(text, str) for text in (*inputs, entry.get("name"))):
            raise GraphError(f"a node is no object with a name and a list of inputs: {str(entry)[:80]}.")
    nodes = {entry["name"]: entry for entry in entries}
    if len(nodes) != len(entries):
        raise GraphError("two nodes of the graph have the same name.")
    return nodes


class _Weights:
    """The arrays of the binary file by name, decoded when they are read."""

    def __init__(self, content: dict, stored: bytes):
        self._stored = stored
        self._places: dict[str, tuple[int, type, tuple[int, ...]]] = {}
        offset = 0
        for entry in _manifest(content):
            name, dtype, shape = _entry(entry)
            self._places[name] = (offset, dtype, shape)
            offset += math.prod(shape) * np.dtype(dtype).itemsize
        if offset != len(stored):
            raise GraphError(f"the weights need {offset} bytes and the file has {len(stored)}.")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> np.ndarray:
        offset, dtype, shape = self._places[name]
        array = np.frombuffer(self._stored, dtype, math.prod(shape), offset).reshape(shape).astype(np.float32)
        if not np.all(np.isfinite(array)):
            raise GraphError(f"the weights {name!r} are not all finite.")
        return array

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name][2]


def _manifest(content: dict) -> list:
    """The entries of all groups of weights."""
    groups = content.get("weightsManifest")
    if isinstance(groups, list):
        lists = [group.get("weights") if isinstance(group, dict) else None for group in groups]
        if all(isinstance(entries, list) for entries in lists):
            return [entry for entries in lists for entry in entries or ()]
    raise GraphError("weightsManifest has to be a list of groups, each with a list of weights.")


def _entry(entry: Any) -> tuple[str, type, tuple[int, ...]]:
    """Name, type in the file, and shape of one entry of the manifest."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise GraphError(f"an entry of the manifest has no name: {str(entry)[:80]}.")
    name, shape, stored = entry["name"], entry.get("shape"), entry.get("dtype")
    if (quantization := entry.get("quantization")) is not None:
        stored = quantization.get("dtype") if isinstance(quantization, dict) else None
        if stored != "float16":  # The other types of quantization have a scale, which no file in use here has.
            raise GraphError(f"the weights {name!r} are quantized to {stored!r}; float16 is read.")
    if stored not in _TYPES:
        raise GraphError(f"the weights {name!r} have the type {stored!r}; known are {', '.join(_TYPES)}.")
    plain = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape)
    if not isinstance(shape, list) or not plain or len(shape) > _MOST_AXES:
        raise GraphError(f"the weights {name!r} have the shape {str(shape)[:80]}, which is none.")
    return name, _TYPES[stored], tuple(shape)


def _layer(name: str, nodes: dict[str, dict], image: str, weights: _Weights) -> Layer:
    """One node as a layer."""
    if name not in nodes:
        raise GraphError(f"the graph has no node {name!r}.")
    node = nodes[name]
    kind = _KINDS.get(str(node.get("op")))
    if kind is None:
        raise GraphError(f"the node {name!r} is a {node.get('op')!r}; known layers are {', '.join(_KINDS)}.")
    sources, attributes = node.get("input", []), _Attributes(node)
    if kind == "sum":
        if len(sources) != 2:
            raise GraphError(f"the sum {name!r} has {len(sources)} inputs; 2 are needed.")
        return Layer(kind, tuple(_source(text, image) for text in sources))
    if kind == "doubling":
        if len(sources) != 2 or attributes.flag("align_corners") or not attributes.flag("half_pixel_centers"):
            raise GraphError(f"the resizing {name!r} does not keep the corners of the image (half_pixel_centers).")
        return Layer(kind, (_source(sources[0], image),))
    fused = attributes.texts("fused_ops")
    if fused not in _FUSED or len(sources) != 2 + bool(fused):
        raise GraphError(f"the convolution {name!r} has {len(sources)} inputs and the fused steps {fused}.")
    kernel, bias = sources[1], sources[2] if fused else ""
    strides, padding = attributes.numbers("strides"), attributes.text("padding")
    plain = len(strides) == 4 and strides[0] == strides[3] == 1 and 1 <= strides[1] == strides[2] <= 8
    plain = plain and attributes.text("data_format") == "NHWC" and set(attributes.numbers("dilations")) <= {1}
    if not plain or padding not in ("SAME", "VALID"):
        raise GraphError(f"the convolution {name!r} has strides {strides} and padding {padding!r}, which are not read.")
    for used, axes in ((kernel, 4), (bias, 1)):
        if used and (used not in weights or len(weights.shape(used)) != axes):
            raise GraphError(f"the convolution {name!r} needs the weights {used!r} with {axes} axes.")
    shape = weights.shape(kernel)
    channels = shape[2] if kind == "depthwise" else shape[3]
    if (kind == "depthwise" and shape[3] != 1) or (bias and weights.shape(bias) != (channels,)):
        raise GraphError(f"the convolution {name!r} has a kernel {shape} and a bias {bias and weights.shape(bias)}.")
    return Layer(kind, (_source(sources[0], image),), kernel, bias, strides[1], padding, _FUSED[fused])


def _source(text: str, image: str) -> str:
    return "" if text == image else text


class _Attributes:
    """The attributes of a node, in protobuf's JSON form: {"i": "2"}, {"s": base64}, {"b": true}, {"list": {...}}."""

    def __init__(self, node: dict):
        self._values = node.get("attr", {})
        self._name = node["name"]

    def flag(self, name: str) -> bool:
        return self._field(name, "b", bool, False)

    def text(self, name: str) -> str:
        return self._decoded(self._field(name, "s", str, ""))

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._decoded(value) for value in self._list(name, "s"))

    def numbers(self, name: str) -> tuple[int, ...]:
        values = self._list(name, "i")
        try:
            return tuple(int(value) for value in values)
        except (TypeError, ValueError):
            raise GraphError(f"{name} of the node {self._name!r} has to be integers, got {str(values)[:80]}.") from None

    def _list(self, name: str, form: str) -> list:
        values = self._field(name, "list", dict, {}).get(form, [])
        if not isinstance(values, list):
            raise GraphError(f"{name} of the node {self._name!r} has to be a list, got {str(values)[:80]}.")
        return values

    def _field(self, name: str, form: str, kind: type, default: Any) -> Any:
        value = self._values.get(name, {}) if isinstance(self._values, dict) else None
        found = value.get(form, default) if isinstance(value, dict) else None
        if not isinstance(found, kind):
            raise GraphError(f"{name} of the node {self._name!r} has to be {kind.__name__}, got {str(value)[:80]}.")
        return found

    def _decoded(self, value: Any) -> str:
        try:
            return base64.b64decode(value, validate=True).decode("ascii")
        except (TypeError, ValueError, binascii.Error):
            raise GraphError(f"a text of the node {self._name!r} is not in base64: {str(value)[:80]}.") from None
