"""The trunk in ONNX Runtime against JAX's, and what it refuses, for which neither package is needed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax import devices
from multibodies_jax.models import build, onnx_trunk
from tests.helpers import random_network


def _folded(**fields):
    sizes: dict[str, Any] = {"crop_size": 64, "width": 4, "hidden": 16, "num_hypotheses": 3}
    model = build.build(mean_state=random_network.MEAN, **sizes | fields)
    return build.HEADS[fields.get("head", "paper")].fold(model, random_network.random_tree(model))


@pytest.mark.slow
@pytest.mark.parametrize(("head", "channels"), [("paper", 2048), ("released", 1024)])
def test_states_are_those_of_the_folded_network(head, channels):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model, variables = _folded(trunk="resnet50", head=head)
    inputs = jax.tree.map(lambda leaf: leaf[:3], random_network.IMAGE)
    assert inputs.image is not None
    inputs = inputs.replace(image=inputs.image[:, :50, :50])  # Odd maps on the way.
    expected, sown = random_network.answer(model, variables, inputs)
    read, rest = onnx_trunk.take_over(model, variables["params"])
    seen = read(jax.device_get(inputs))
    assert seen.image is None and seen.feature is not None
    assert seen.feature.shape == ((3, channels) if head == "paper" else (3, 4, 4, channels))
    assert set(rest) == set(variables["params"]) - {"trunk"}
    states, also_sown = random_network.answer(model, {"params": rest}, seen)
    scale = np.abs(expected - random_network.MEAN.reshape(1, 1, -1)).max()
    assert np.std(expected, axis=0).max() > 0.01 * scale  # It depends on the image.
    np.testing.assert_allclose(states, expected, atol=1e-5 * scale)
    np.testing.assert_allclose(also_sown["extras"]["feature"][0], sown["extras"]["feature"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("absent", [("onnxruntime",), ("onnx", "onnxruntime")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(absent, monkeypatch):
    monkeypatch.setattr(onnx_trunk.importlib.util, "find_spec", lambda name: None if name in absent else name)
    names = " and ".join(absent)
    model, variables = _folded(trunk="keypoints")
    with pytest.raises(ValueError, match=f'needs {names}, not installed here: pip install "onnx>=.* extra `onnx`'):
        onnx_trunk.take_over(model.clone(trunk=build.ResNet50(folded=True)), variables)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trunk": "keypoints"}, r"runs ResNet-50 .*got KeypointTrunk.*leave ONNX Runtime out"),
        ({"trunk": "resnet_small"}, r"runs ResNet-50 .*got ResNetSmall"),
        ({"trunk": "keypoints", "activation": "relu"}, r"a folded network, got HMR, .*config.model.activation"),
    ],
)
def test_another_network_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        onnx_trunk.take_over(*_folded(**fields))


def test_another_precision_is_refused():
    model, variables = _folded(trunk="keypoints")
    half = model.clone(trunk=build.ResNet50(jnp.bfloat16, folded=True))
    with pytest.raises(ValueError, match=r"in float32, got bfloat16: set config.model.dtype='float32'"):
        onnx_trunk.take_over(half, variables)


@pytest.mark.parametrize(
    ("where", "name", "value", "message"),
    [
        (jax, "default_backend", "gpu", r"JAX computes on a gpu, .*set JAX_PLATFORMS=cpu"),
        (jax, "process_count", 2, r"here are 2 process\(es\) with 1 device\(s\) each: take one process"),
        (devices, "count", 4, r"here are 1 process\(es\) with 4 device\(s\) each: take one process"),
    ],
)
def test_other_devices_are_refused(where, name, value, message, monkeypatch):
    model, variables = _folded(trunk="keypoints")
    monkeypatch.setattr(where, name, lambda: value)
    with pytest.raises(ValueError, match=message):
        onnx_trunk.take_over(model, variables)
