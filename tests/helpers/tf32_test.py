"""The stand-in for a GPU's products loses what TF32 loses, and nothing of what asks for full float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import tf32


@pytest.mark.parametrize("asked", [None, "highest", jax.lax.Precision.HIGHEST, (jax.lax.Precision.HIGHEST,) * 2])
@pytest.mark.parametrize("default", [None, "highest"])
def test_a_product_loses_bits_unless_it_asks(asked, default):
    a, b = np.float32(1 + 2**-10), np.float32(1 + 2**-12)  # Of which TF32 has the first.
    product = tf32.as_on_a_gpu(jax.lax.dot)
    with jax.default_matmul_precision(default):
        got = product(jnp.full((1, 1), a), jnp.full((1, 1), b), precision=asked)
    exact = asked is not None or default is not None
    np.testing.assert_array_equal(got, a * b if exact else a)


def test_whole_numbers_stay_as_they_are():
    product = tf32.as_on_a_gpu(jax.lax.dot)
    np.testing.assert_array_equal(product(jnp.full((1, 1), 4097), jnp.ones((1, 1), int)), 4097)
