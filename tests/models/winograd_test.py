"""Winograd's form of a 3x3 convolution: the same numbers, for any size of the map and any number of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import build, folding, resnet, winograd
from tests.helpers import random_network

convolve = jax.jit(winograd.convolve)


@pytest.mark.parametrize(
    "shape", [(1, 7, 7, 5), (3, 14, 14, 4), (2, 5, 8, 3), (1, 1, 1, 2), (70, 7, 7, 4), (5, 56, 56, 2)]
)
def test_it_is_the_convolution(shape):
    """Of 70 and of 5 images the last ones are fewer than are taken at a time."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, shape[-1], 6)).astype(np.float32)
    x, axes = jnp.asarray(rng.normal(size=shape), jnp.float32), ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(
        x, jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=axes, precision="highest"
    )
    got = convolve(x, jnp.asarray(winograd.transformed(kernel)))
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_an_image_has_the_same_numbers_alone_and_among_others_to_rounding():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(70, 7, 7, 4)), jnp.float32)
    kernel = jnp.asarray(winograd.transformed(rng.normal(size=(3, 3, 4, 6)).astype(np.float32)))
    np.testing.assert_allclose(convolve(x[69:], kernel)[0], convolve(x, kernel)[69], atol=1e-5)


def test_the_kernel_comes_back():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype(np.float32)
    assert not winograd.is_transformed(kernel) and not winograd.is_transformed(None)
    assert winograd.is_transformed(winograd.transformed(kernel))
    np.testing.assert_allclose(winograd.restored(winograd.transformed(kernel)), kernel, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "platform", "expected"), [("float32", "cpu", 13), ("bfloat16", "cpu", 0), ("float32", "gpu", 0)]
)
def test_the_convolutions_of_stride_one_are_transformed_on_processors(dtype, platform, expected, monkeypatch):
    """ResNet-50 has 16 of 3x3; three halve the map. Rounded numbers would lose more by it than they do."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    trunk = build.build(mean_state=random_network.MEAN, trunk="resnet50", crop_size=32, dtype=dtype).trunk
    shapes = jax.eval_shape(trunk.init, jax.random.key(0), random_network.IMAGE)
    variables = jax.tree.map(lambda shape: np.ones(shape.shape, shape.dtype), shapes)
    _, params = folding.fold_trunk(trunk, variables["params"], variables["batch_stats"])
    found = {name for name, block in params.items() if winograd.is_transformed(block.get("conv2", {}).get("kernel"))}
    assert len(found) == expected and not any(map(resnet.is_strided, found))


def test_so_are_those_of_the_modes_of_the_released_head():
    model = build.build(
        mean_state=random_network.MEAN, trunk="resnet50", head="released", crop_size=32, num_hypotheses=2
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), random_network.IMAGE)
    variables = jax.tree.map(lambda shape: np.ones(shape.shape, shape.dtype), shapes)
    _, folded = build.HEADS["released"].fold(model, variables)
    modes = folded["params"]["modes"]
    assert {name for name in modes if winograd.is_transformed(modes[name]["conv2"]["kernel"])} == {
        "layer5_1",
        "layer5_2",
    }
