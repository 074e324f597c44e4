"""The demo's step stays as small as it is: what makes a step large makes its start slow on a GPU (docs/benchmarks.md)."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import launches, lowered
from tests.helpers import tiny

# What the step had when this was written.
PRODUCTS, SMALL, LOOPS = 80, 6, 2
LARGEST_CONSTANT_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def demo():
    return lowered.size(lowered.lowered(*lowered.STEPS["demo, M = 100"]))


@pytest.mark.slow
def test_the_step_of_the_demo_has_no_more_products_than_it_had(demo):
    assert 0 < demo.products <= PRODUCTS and demo.small <= SMALL and demo.loops <= LOOPS


@pytest.mark.slow
def test_arrays_of_the_body_are_arguments_of_the_step(demo):
    """As constants they are compiled with it: they were 19 MB once."""
    assert demo.largest_bytes <= LARGEST_CONSTANT_BYTES


def test_what_is_in_a_program_is_counted():
    table = np.arange(300, dtype=np.float32)

    def function(matrices, image):
        product = jnp.einsum("bij,bjk->bik", matrices, matrices).reshape(7, 9) @ jnp.ones((9, 5))
        image = jax.lax.conv(image, jnp.ones((2, 1, 3, 3)), (1, 1), "SAME")
        return jax.lax.fori_loop(0, jnp.argmax(image), lambda _, x: x * 2, product), image.sum() + table

    shapes = jax.ShapeDtypeStruct((7, 3, 3), jnp.float32), jax.ShapeDtypeStruct((1, 1, 8, 8), jnp.float32)
    its = lowered.size(jax.jit(function).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text())
    assert (its.products, its.small, its.convolutions, its.loops) == (2, 1, 1, 1)
    assert its.constant_bytes == its.largest_bytes == table.nbytes
    row = lowered.table({"step": its}).splitlines()[-1]
    assert row == f"| step | {its.instructions} | 2 | 1 | 1 | 1 | 1.2 |" and its.instructions > 5


@pytest.mark.slow
def test_a_step_is_compiled_for_the_device_that_it_is_said_to_be_for(monkeypatch):
    """This one; an H100 needs JAX's CUDA plugin."""
    monkeypatch.setattr(launches, "device", lambda: jax.devices()[0])
    monkeypatch.setattr(launches, "OPTIONS", {})
    its = lowered.compile_step(types.SimpleNamespace(get_config=tiny.config), 0)
    assert its.kernels > 10 and its.traced > 0 and its.compiled > 0
