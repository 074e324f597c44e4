"""The crop's camera against a float64 formula written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.geometry import cameras
from tests.helpers import views


@pytest.mark.parametrize("seed", range(3))
def test_the_crop_projection_is_the_perspective_of_the_interface(seed):
    points, cam, _, _ = views.random_view(seed)
    s, tx, ty = np.asarray(cam, np.float64)
    K = np.diag([5000.0, 5000.0, 1.0])
    expected = views.project_by_hand(points, [tx, ty, 2 * 5000 / (224 * s)], K) / 112
    np.testing.assert_allclose(cameras.project_crop(points, cam), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.0, 1e-12, -1e-3, -1.0, 1e3])
def test_the_crop_projection_stays_finite_with_any_scale(scale):
    points, _, _, _ = views.random_view(0)
    cam = jnp.array([scale, 0.1, 0.2])
    assert np.isfinite(cameras.project_crop(points, cam)).all()
    for gradient in jax.grad(lambda p, c: cameras.project_crop(p, c).sum(), argnums=(0, 1))(points, cam):
        assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_points_in_the_plane_of_the_crop_camera_are_held_before_it():
    points, cam = jnp.array([[0.1, 0.2, -2 * 5000 / 224], [0.1, 0.2, -100.0]]), jnp.array([1.0, 0, 0])
    np.testing.assert_allclose(cameras.project_crop(points, cam), [[10, 20], [10, 20]], rtol=1e-5)
    assert np.isfinite(jax.grad(lambda c: cameras.project_crop(points, c).sum())(cam)).all()
