"""The terms of squares against loops over examples, hypotheses and points in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.losses import squares

RNG = np.random.default_rng(0)
VALID = np.array([[1.0, 0.25, 0.0], [0.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("term", "size", "divisor"), [(squares.joint_error, 3, 3 * 3), (squares.reprojection_error, 2, 2 * 49)]
)
def test_squares_of_points_count_by_their_confidence(term, size, divisor):
    pred, target = RNG.normal(size=(2, 4, 3, size)), RNG.normal(size=(2, 3, size))
    expected = np.zeros((2, 4))
    for b, m, j in np.ndindex(2, 4, 3):
        expected[b, m] += VALID[b, j] * np.sum((pred[b, m, j] - target[b, j]) ** 2) / divisor
    target[VALID == 0] = np.nan  # Counts nowhere.
    np.testing.assert_allclose(term(*map(jnp.float32, (pred, target, VALID))), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("term", "shape", "of_one"),
    [(squares.vertex_error, (5, 3), np.abs), (squares.betas_error, (10,), np.square)],
)
def test_meshes_and_shapes_count_where_an_example_has_them(term, shape, of_one):
    pred, target = RNG.normal(size=(2, 4, *shape)), RNG.normal(size=(2, *shape))
    expected = [[np.mean(of_one(pred[0, m] - target[0])) for m in range(4)], [0.0] * 4]
    target[1] = np.nan
    np.testing.assert_allclose(term(*map(jnp.float32, (pred, target, [1.0, 0.0]))), expected, rtol=1e-5)
