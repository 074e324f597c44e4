"""Layers of a network against float64 loops over pixels."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.detection import graph_files, layers
from tests.helpers import tiny_graph


def _convolved(x, kernel, stride, padding, depthwise):
    """A convolution in float64; SAME pads with zeros, the odd row below and the odd column on the right."""
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    sizes, pads = [], []
    for length, reach in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        out = -(-length // stride) if padding == "SAME" else (length - reach) // stride + 1
        total = max((out - 1) * stride + reach - length, 0)
        sizes.append(out)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    channels = kernel.shape[2] if depthwise else kernel.shape[3]
    result = np.zeros((x.shape[0], *sizes, channels))
    for i, j in itertools.product(*map(range, sizes)):
        part = x[:, i * stride : i * stride + kernel.shape[0], j * stride : j * stride + kernel.shape[1]]
        for a, b in itertools.product(*map(range, kernel.shape[:2])):
            result[:, i, j] += part[:, a, b] * kernel[a, b, :, 0] if depthwise else part[:, a, b] @ kernel[a, b]
    return result


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("reach", [1, 3])
@pytest.mark.parametrize("size", [(6, 9), (7, 4)])
def test_convolutions_equal_loops_over_pixels(padding, stride, reach, size):
    random = np.random.default_rng(1)
    x = random.normal(size=(2, *size, 5)).astype(np.float32)
    full = random.normal(size=(reach, reach, 5, 3)).astype(np.float32)
    each = random.normal(size=(reach, reach, 5, 1)).astype(np.float32)
    found = layers.convolution(jnp.asarray(x), jnp.asarray(full), stride, padding)
    np.testing.assert_allclose(found, _convolved(x, full, stride, padding, depthwise=False), rtol=1e-5, atol=1e-5)
    found = layers.depthwise(jnp.asarray(x), jnp.asarray(each), stride, padding)
    np.testing.assert_allclose(found, _convolved(x, each, stride, padding, depthwise=True), rtol=1e-5, atol=1e-5)


def test_doubling_interpolates_between_the_centres_of_pixels():
    ramp = jnp.asarray(np.arange(4.0, dtype=np.float32).reshape(1, 2, 2, 1))
    rows = np.array([0.0, 0.25, 0.75, 1.0])  # Places of the new pixels' centres, in pixels; the outer two are clamped.
    expected = 2 * rows[:, None] + rows[None]
    np.testing.assert_allclose(layers.double(ramp)[0, :, :, 0], expected, atol=1e-6)


def test_a_network_is_its_layers_one_after_the_other():
    nodes, arrays = tiny_graph.content()
    network = graph_files.read(*tiny_graph.files(nodes, arrays), "image", {"result": "out", "early": "first"})
    image = np.random.default_rng(2).normal(size=(1, 6, 6, 3)).astype(np.float32)
    first = np.clip(_convolved(image, arrays["k1"], 2, "SAME", False) + arrays["b1"], 0, 6)
    second = _convolved(first, arrays["k2"], 1, "SAME", True)
    third = np.maximum(_convolved(second, arrays["k3"], 1, "VALID", False) + arrays["b3"], 0)
    expected = np.asarray(layers.double(jnp.asarray(third, jnp.float32))) + image
    found = layers.run(network, network.weights, jnp.asarray(image))
    np.testing.assert_allclose(found["early"], first, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["result"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "message"), [((1, 6, 6, 2), "has a kernel"), ((1, 5, 5, 3), "adds")])
def test_an_image_that_does_not_fit_is_refused(shape, message):
    network = graph_files.read(*tiny_graph.files(*tiny_graph.content()), "image", {"result": "out"})
    with pytest.raises(ValueError, match=message):
        layers.run(network, network.weights, jnp.zeros(shape))
