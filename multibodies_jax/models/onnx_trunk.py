"""The trunk of a folded ResNet-50 in ONNX Runtime, whose convolutions are faster than XLA's on processors.

    read, rest = onnx_trunk.take_over(model, params)       # of `folding.fold`
    states = model.apply({"params": rest}, read(inputs))   # as model.apply({"params": params}, inputs), to float32 rounding

The graph is made in memory from our own parameters; no file is read. What comes after the trunk stays in JAX.
Gain: docs/benchmarks.md.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from multibodies_jax import devices, programs
from multibodies_jax.batch import Inputs
from multibodies_jax.models import folding, resnet, winograd

INSTALL = 'pip install "onnx>=1.20" "onnxruntime>=1.23"'
PACKAGES = ("onnx", "onnxruntime")
_OPSET, _IR_VERSION = 17, 8  # Which every version of `INSTALL` reads.


def take_over(model: nn.Module, params: Mapping[str, Any]) -> tuple[Callable[[Inputs], Inputs], dict[str, Any]]:
    """Moves the trunk of a folded network to ONNX Runtime.

    Args:
      model: a `folding.Folded` with a float32 ResNet-50.
      params: its parameters.

    Returns:
      A function from inputs with an image to inputs with the `feature` of the trunk instead, and the parameters that
      are left. It runs when it is called, and cannot be a part of a jitted function.

    Raises:
      ValueError: JAX does not compute on one processor, the network has another trunk, or a package is missing.
    """
    _check(model)
    if absent := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"ONNX Runtime needs {' and '.join(absent)}, not installed here: {INSTALL} (the extra `onnx`)."
        )
    run = _session(winograd.plain(params["trunk"]), pooled=isinstance(model.trunk, resnet.ResNet50))

    def read(inputs: Inputs) -> Inputs:
        image = np.asarray(resnet.image_of(inputs))
        return inputs.replace(image=None, feature=jnp.asarray(run(None, {"image": image})[0]))

    return read, {name: tree for name, tree in params.items() if name != "trunk"}


def _check(model: nn.Module) -> None:
    """Refuses what ONNX Runtime cannot take over, or would not make faster."""
    if (platform := jax.default_backend()) != "cpu":
        raise ValueError(
            f"ONNX Runtime would run the trunk on the processor, and JAX computes on a {platform}, which is faster: leave "
            "ONNX Runtime out, or set JAX_PLATFORMS=cpu."
        )
    if (processes := jax.process_count()) > 1 or devices.count() > 1:
        raise ValueError(
            f"ONNX Runtime runs one trunk on all cores of this machine, and here are {processes} process(es) with "
            f"{devices.count()} device(s) each: take one process with one device, or leave ONNX Runtime out."
        )
    if not isinstance(model, folding.Folded):
        raise ValueError(
            f"ONNX Runtime takes over the trunk of a folded network, got {type(model).__name__}, which cannot be folded "
            "(config.model.activation is not 'none', or it is another network than ours): leave ONNX Runtime out."
        )
    trunk = model.trunk
    if not isinstance(trunk, resnet.ResNet50 | resnet.ResNet50Map):
        raise ValueError(
            f"ONNX Runtime runs ResNet-50 (config.model.trunk='resnet50'), got {type(trunk).__name__}, which would gain "
            "nothing: leave ONNX Runtime out."
        )
    if (dtype := jnp.dtype(trunk.dtype)) != jnp.float32:
        raise ValueError(
            f"ONNX Runtime runs the trunk in float32, got {dtype.name}: set config.model.dtype='float32', or leave ONNX "
            "Runtime out."
        )


def _session(trunk: Mapping[str, Any], pooled: bool) -> Callable[..., Any]:
    """The call of a session from images, uint8 (B, S, S, 3), to what `ResNet50` (`pooled`) or `ResNet50Map` gives."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = programs.cores()  # Else ONNX Runtime takes all, also in a container.
    # Threads that wait for more work would take the cores from JAX, whose turn it is then.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(_graph(trunk, pooled), options, providers=["CPUExecutionProvider"]).run


def _graph(trunk: Mapping[str, Any], pooled: bool) -> bytes:
    """The trunk as a serialized ONNX model, layer by layer as `resnet` has it; channels come first inside."""
    from onnx import TensorProto, helper

    graph = _Nodes()
    std = 255 * np.array(resnet.IMAGENET_STD, np.float32)
    x = graph.add("Cast", "image", to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.constant(255 * np.array(resnet.IMAGENET_MEAN, np.float32)))
    x = graph.add("Transpose", graph.add("Div", x, graph.constant(std)), perm=[0, 3, 1, 2])
    x = graph.add("Relu", graph.conv(x, trunk["conv1"], trunk["bn1"], 2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for name in sorted(name for name in trunk if name.startswith("layer")):
        x = _bottleneck(graph, x, trunk[name], 2 if resnet.is_strided(name) else 1)
    x = graph.add("ReduceMean", x, axes=[2, 3], keepdims=0) if pooled else graph.add("Transpose", x, perm=[0, 2, 3, 1])
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "side", "side", 3])
    result = helper.make_tensor_value_info(x, TensorProto.FLOAT, None)
    made = helper.make_graph(graph.nodes, "trunk", [image], [result], graph.constants)
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=_IR_VERSION).SerializeToString()


def _bottleneck(graph: "_Nodes", x: str, params: Mapping[str, Any], stride: int) -> str:
    """The result of a `resnet.Bottleneck`."""
    y = graph.add("Relu", graph.conv(x, params["conv1"], params["bn1"], 1))
    y = graph.add("Relu", graph.conv(y, params["conv2"], params["bn2"], stride))
    y = graph.conv(y, params["conv3"], params["bn3"], 1)
    if "downsample_0" in params:
        x = graph.conv(x, params["downsample_0"], params["downsample_1"], stride)
    return graph.add("Relu", graph.add("Add", y, x))


class _Nodes:
    """The nodes of a graph in the order of computation, and its constants; every result has a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operation of one result; returns the name of that."""
        from onnx import helper

        result = f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [result], **attributes))
        return result

    def constant(self, value: Float[np.ndarray, "..."]) -> str:
        """Adds an array; returns its name."""
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def conv(self, x: str, layer: Mapping[str, Any], norm: Mapping[str, Any], stride: int) -> str:
        """Adds a `resnet.conv` with the shift of its folded batch norm; returns the name of the result."""
        kernel = np.asarray(layer["kernel"]).transpose(3, 2, 0, 1)
        sides: Sequence[int] = kernel.shape[2:]
        pads, strides = [sides[0] // 2] * 4, [stride, stride]
        weights = self.constant(kernel), self.constant(np.asarray(norm["bias"]))
        return self.add("Conv", x, *weights, kernel_shape=sides, strides=strides, pads=pads)
