"""The length of vectors, and its gradient, also where there is none."""

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.geometry import distances


def test_norm_is_the_length_with_gradient_0_at_0():
    x = jnp.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(distances.norm(x), [5, 0])
    np.testing.assert_allclose(jax.grad(lambda x: distances.norm(x).sum())(x), [[0.6, 0, 0.8], [0, 0, 0]], rtol=1e-6)


def test_what_is_not_finite_has_no_length():
    np.testing.assert_array_equal(distances.norm(jnp.array([[jnp.nan, 0.0], [jnp.inf, 0.0]])), [np.nan, np.inf])
