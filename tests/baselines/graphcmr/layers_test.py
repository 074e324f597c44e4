"""Layers on vertices against dense matrices and loops in float64."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.baselines.graphcmr import hierarchy, layers
from tests.helpers import sphere_body

B, C = 2, 16


@pytest.fixture(scope="module")
def levels():
    return hierarchy.of_body(sphere_body.body())


@pytest.fixture(scope="module")
def x(levels):
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, len(levels.kept), C)), jnp.float32)


def _dense(levels):
    """D^-1 (A + I), from a loop over the table."""
    size = len(levels.kept)
    matrix = np.zeros((size, size))
    for vertex, row in enumerate(levels.neighbours):
        for other in {vertex, *row.tolist()}:
            matrix[vertex, other] = 1
    return matrix / matrix.sum(axis=1, keepdims=True)


def test_the_mean_over_neighbours_is_the_dense_product_and_its_gradient_the_transposed_one(levels, x):
    dense, weights = _dense(levels), np.random.default_rng(1).normal(size=x.shape)
    mean = lambda x: layers.neighbour_mean(x, jnp.asarray(levels.neighbours))  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.float32(weights) * mean(x))))(x)
    np.testing.assert_allclose(jax.jit(mean)(x), np.einsum("ij,bjc->bic", dense, x), atol=1e-5)
    np.testing.assert_allclose(value, np.sum(weights * np.einsum("ij,bjc->bic", dense, x)), rtol=1e-4)
    np.testing.assert_allclose(gradient, np.einsum("ij,bic->bjc", dense, weights), atol=1e-5)


def test_the_step_to_the_finer_mesh_is_the_dense_product(levels, x):
    dense = np.zeros((len(levels.corners), x.shape[1]))
    for vertex in range(len(dense)):
        for corner, weight in zip(levels.corners[vertex], levels.weights[vertex], strict=True):
            dense[vertex, corner] += weight
    got = layers.upsample(x, jnp.asarray(levels.corners), jnp.asarray(levels.weights))
    np.testing.assert_allclose(got, np.einsum("vn,bnc->bvc", dense, x), atol=1e-5)


class _Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return layers.norm_relu(x, "norm")


def test_a_group_norm_is_over_eight_channels_and_all_vertices(x):
    scale, bias = np.random.default_rng(2).normal(size=(2, C)).astype(np.float32)
    got: Any = _Norm().apply({"params": {"norm": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}}}, 0.01 * x)
    for b in range(B):
        for first in (0, 8):
            part = 0.01 * np.asarray(x, np.float64)[b, :, first : first + 8]
            part = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
            part = part * scale[first : first + 8] + bias[first : first + 8]
            np.testing.assert_allclose(got[b, :, first : first + 8], np.maximum(part, 0), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("features", "names"), [(16, 6), (8, 7)])
def test_a_block_has_a_shortcut_layer_only_where_other_channels_come_out(levels, x, features, names):
    block = layers.Block(features, "mean")
    shapes = jax.eval_shape(block.init, jax.random.key(0), x, jnp.asarray(levels.neighbours))["params"]
    assert len(shapes) == names and ("skip_conv" in shapes) == (features != C)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    got = block.apply({"params": zeros}, x, jnp.asarray(levels.neighbours))
    np.testing.assert_array_equal(got, x if features == C else np.zeros((B, x.shape[1], features)))


def test_published_weights_begin_within_their_bounds():
    for init, bound in ((layers.linear_init, 1 / 600), (layers.convolution_init, 6 / np.sqrt(50))):
        drawn = np.asarray(init("published")(jax.random.key(0), (20, 30)))
        assert 0.9 * bound < np.abs(drawn).max() <= bound
        assert np.asarray(init("mean")(jax.random.key(0), (400, 30))).std() == pytest.approx(1 / 20, rel=0.05)
