"""Centring on the mid-hip, in NumPy and in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.geometry import centring, joints


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_the_hips_of_centred_joints_are_opposite_points(batch):
    points = np.random.default_rng(0).normal(size=(*batch, 24, 3))
    left, right = (points[..., joints.J24.index(f"{side}_hip"), :] for side in ("left", "right"))
    np.testing.assert_allclose(centring.midhip(points), (left + right) / 2, atol=1e-12)
    centred = centring.centre(points)
    np.testing.assert_allclose(
        centred[..., joints.J24.index("left_hip"), :], -centred[..., joints.J24.index("right_hip"), :], atol=1e-12
    )
    np.testing.assert_allclose(np.diff(centred, axis=-2), np.diff(points, axis=-2), atol=1e-12)


def test_numpy_stays_numpy_in_its_type_and_jax_gives_the_same_numbers():
    points = np.random.default_rng(0).normal(size=(5, 24, 3)).astype(np.float32)
    centred = centring.centre(points)
    assert type(centred) is np.ndarray and centred.dtype == np.float32
    traced = jax.jit(centring.centre)(jnp.asarray(points))
    assert isinstance(traced, jax.Array)
    np.testing.assert_allclose(traced, centred, atol=1e-6)
