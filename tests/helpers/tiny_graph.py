"""Made-up TensorFlow.js graph models of a few nodes."""

import base64
import json

import numpy as np


def text(value):
    """An attribute that is a text."""
    return {"s": base64.b64encode(value.encode()).decode()}


def convolution(name, source, kernel, bias="", stride=1, padding="SAME", activation="", depthwise=False):
    """A node of the kinds that converters write."""
    fused = [word for word in ("BiasAdd" if bias else "", activation) if word]
    op = "FusedDepthwiseConv2dNative" if depthwise else "_FusedConv2D"
    if not fused:
        op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
    attributes = {
        "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        "padding": text(padding),
        "data_format": text("NHWC"),
    }
    if fused:
        attributes["fused_ops"] = {"list": {"s": [text(word)["s"] for word in fused]}}
    return {"name": name, "op": op, "input": [source, kernel, *([bias] if bias else [])], "attr": attributes}


def content():
    """Nodes, and float32 weights by name, of a network with every kind of layer: image -> out (6 x 6 -> 6 x 6)."""
    random = np.random.default_rng(0)
    shapes = {"k1": (3, 3, 3, 4), "b1": (4,), "k2": (3, 3, 4, 1), "k3": (1, 1, 4, 3), "b3": (3,)}
    arrays = {name: random.normal(size=shape).astype(np.float16).astype(np.float32) for name, shape in shapes.items()}
    flags = {"half_pixel_centers": {"b": True}, "align_corners": {"b": False}}
    nodes = [
        {"name": "input", "op": "Placeholder"},
        {"name": "image", "op": "Sub", "input": ["input", "one"]},
        *({"name": name, "op": "Const"} for name in arrays),
        convolution("first", "image", "k1", "b1", stride=2, activation="Relu6"),
        convolution("second", "first", "k2", depthwise=True),
        convolution("third", "second", "k3", "b3", padding="VALID", activation="Relu"),
        {"name": "large", "op": "ResizeBilinear", "input": ["third", "size"], "attr": flags},
        {"name": "out", "op": "AddV2", "input": ["large", "image"]},
        {"name": "unused", "op": "TopKV2", "input": ["out"]},
    ]
    return nodes, arrays


def files(nodes, arrays):
    """The JSON file and the binary file; the weights are stored as float16."""
    manifest = [
        {"name": name, "shape": list(array.shape), "dtype": "float32", "quantization": {"dtype": "float16"}}
        for name, array in arrays.items()
    ]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["x.bin"], "weights": manifest}]}
    return json.dumps(model).encode(), b"".join(array.astype(np.float16).tobytes() for array in arrays.values())
