"""Networks of TensorFlow.js graph models: layers in order, weights by name, and a message for everything else."""

import json

import numpy as np
import pytest

from multibodies_jax.detection import graph_files
from tests.helpers import tiny_graph


def _read(nodes, arrays, outputs=None):
    return graph_files.read(*tiny_graph.files(nodes, arrays), "image", outputs or {"result": "out"})


def test_layers_and_weights_are_those_of_the_files():
    nodes, arrays = tiny_graph.content()
    network = _read(nodes, arrays)
    layer = graph_files.Layer
    assert dict(network.layers) == {
        "first": layer("convolution", ("",), "k1", "b1", 2, "SAME", "relu6"),
        "second": layer("depthwise", ("first",), "k2"),
        "third": layer("convolution", ("second",), "k3", "b3", 1, "VALID", "relu"),
        "large": layer("doubling", ("third",)),
        "out": layer("sum", ("large", "")),
    }
    assert list(network.layers) == ["first", "second", "third", "large", "out"]
    assert dict(network.outputs) == {"result": "out"} and set(network.weights) == set(arrays)
    for name, array in network.weights.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays[name])


def test_only_what_the_outputs_need_is_read_whatever_the_order_of_the_nodes():
    nodes, arrays = tiny_graph.content()
    network = _read(nodes[::-1], arrays, {"a": "second", "b": "first"})
    assert list(network.layers) == ["first", "second"] and set(network.weights) == {"k1", "b1", "k2"}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("third", {"op": "MatMul"}, "'third' is a 'MatMul'; known layers are"),
        ("third", {"op": ["Conv2D"]}, "known layers are"),
        ("second", {"input": ["out", "k2"]}, "has a cycle through"),
        ("second", {"input": ["nowhere", "k2"]}, "no node 'nowhere'"),
        ("second", {"input": ["first", "k9"]}, "needs the weights 'k9' with 4 axes"),
        ("second", {"input": ["first", "k1"]}, "has a kernel"),
        ("second", {"input": "first"}, "no object with a name and a list of inputs"),
        ("first", {"attr": {}}, "has 3 inputs and the fused steps"),
        ("first", {"attr": {"fused_ops": {"list": {"s": ["%%"]}}}}, "is not in base64"),
        ("first", {"attr": {"fused_ops": {"list": 3}}}, "has to be dict"),
        ("second", {"attr": {"strides": {"list": {"i": ["x"]}}}}, "has to be integers"),
        ("second", {"attr": {"strides": {"list": {"i": [1, 2, 1, 1]}}}}, r"strides \(1, 2, 1, 1\)"),
        ("large", {"attr": {"align_corners": {"b": True}}}, "does not keep the corners"),
        ("out", {"input": ["large"]}, "has 1 inputs; 2 are needed"),
        ("unused", {"name": "out"}, "same name"),
    ],
)
def test_a_graph_of_another_kind_is_refused(name, changes, message):
    nodes, arrays = tiny_graph.content()
    next(node for node in nodes if node["name"] == name).update(changes)
    with pytest.raises(graph_files.GraphError, match=message):
        _read(nodes, arrays)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shape", [3, 3, 3, 5], "and the file has"),
        ("shape", [-3, 3, 3, 4], "which is none"),
        ("shape", [2**40, 2**40], "and the file has"),
        ("shape", "3", "which is none"),
        ("dtype", "complex64", "'complex64'; known are"),
        ("quantization", {"dtype": "uint8", "scale": 1}, "'uint8'; float16 is read"),
        ("name", 3, "has no name"),
    ],
)
def test_a_manifest_of_another_kind_is_refused_before_an_array_is_made(key, value, message):
    model, weights = tiny_graph.files(*tiny_graph.content())
    content = json.loads(model)
    entry = content["weightsManifest"][0]["weights"][0]
    entry[key] = value
    if key == "dtype":
        del entry["quantization"]
    with pytest.raises(graph_files.GraphError, match=message):
        graph_files.read(json.dumps(content).encode(), weights, "image", {"result": "out"})


@pytest.mark.parametrize("model", [b"", b"[]", b"{}", b'{"modelTopology": {"node": []}}', b"[" * 100_000])
def test_what_is_no_graph_model_is_refused(model):
    with pytest.raises(graph_files.GraphError):
        graph_files.read(model, b"", "image", {"result": "out"})


def test_weights_that_are_not_finite_are_refused():
    nodes, arrays = tiny_graph.content()
    arrays["b1"][0] = np.nan
    with pytest.raises(graph_files.GraphError, match="'b1' are not all finite"):
        _read(nodes, arrays)
