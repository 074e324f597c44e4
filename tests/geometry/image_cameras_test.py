"""Cameras of the whole image against float64 formulas written out, and against the camera of the crop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibodies_jax.geometry import cameras, image_cameras
from tests.helpers import views


@pytest.mark.slow
@given(s=st.floats(1e-4, 10), tx=st.floats(-1, 1))
def test_the_translation_is_the_authors(s, tx):
    found = image_cameras.crop_camera_to_translation(jnp.array([s, tx, 0.5], jnp.float32))
    np.testing.assert_allclose(found, [tx, 0.5, 2 * 5000.0 / (224 * s + 1e-9)], rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("scale", [0.0, 1e-12, -1e-3, -1.0, 1e3])
def test_the_translation_stays_finite_with_any_scale(scale):
    assert np.isfinite(image_cameras.crop_camera_to_translation(jnp.array([scale, 0.1, 0.2]))).all()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@given(seed=st.integers(0, 2**31 - 1))
def test_the_full_camera_shows_exactly_what_the_crop_camera_shows(batch, seed):
    points, cam, center, scale = views.random_view(seed, batch)
    focal = cameras.FOCAL if seed % 2 else 5.0
    translation, K = image_cameras.crop_camera_to_full(cam, center, scale, focal=focal)
    expected_px = image_cameras.crop_to_image(cameras.project_crop(points, cam, focal), center, scale)
    full_px = image_cameras.project(points + translation[..., None, :], K)
    np.testing.assert_allclose(full_px, expected_px, atol=2e-3)


def test_the_full_camera_keeps_place_and_size_with_given_intrinsics():
    _, cam, center, scale = views.random_view(0)
    K = jnp.array([[1200.0, 3.0, 480.0], [0.0, 1150.0, 300.0], [0.0, 0.0, 1.0]])
    translation, K_out = image_cameras.crop_camera_to_full(cam, center, scale, K)
    np.testing.assert_array_equal(K_out, K)
    # At the origin's depth: the origin itself on the same pixel, and lengths as in the crop up to Fx / F, Fy / F.
    flat = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    expected = np.asarray(image_cameras.crop_to_image(cameras.project_crop(flat, cam), center, scale))
    full = views.project_by_hand(flat, translation, K)
    np.testing.assert_allclose(full[0], expected[0], atol=1e-2)
    lengths = np.linalg.norm(full[1:] - full[0], axis=1)
    np.testing.assert_allclose(np.sqrt(np.prod(lengths)), np.linalg.norm(expected[1] - expected[0]), rtol=1e-4)


def test_crop_coordinates_of_a_box_by_hand():
    # A box of side 100 around (60, 40) spans [10, 110] x [-10, 90]; the crop's corners are at -1 and 1.
    center, scale = jnp.array([60.0, 40.0]), jnp.array(0.5)
    crop = jnp.array([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    image_px = image_cameras.crop_to_image(crop, center, scale)
    np.testing.assert_allclose(image_px, [[10, -10], [110, 90], [60, 65]])


@pytest.mark.slow
@pytest.mark.parametrize("batch", [(), (2, 3)])
@given(seed=st.integers(0, 2**31 - 1))
def test_translation_is_found_again_from_exact_keypoints(batch, seed):
    points, _, _, _ = views.random_view(seed, batch)
    rng = np.random.default_rng(seed)
    translation = jnp.asarray(rng.normal([0, 0, 6], [1, 1, 0.5], (*batch, 3)), jnp.float32)
    K = jnp.array([[1200.0, 3.0, 480.0], [0.0, 1150.0, 300.0], [0.0, 0.0, 1.0]])
    K = jnp.broadcast_to(K, (*batch, 3, 3))
    keypoints_px = image_cameras.project(points + translation[..., None, :], K)
    # Hidden keypoints are anywhere and have no say.
    keypoints_px = keypoints_px.at[..., 5:9, :].set(-7e3)
    weights = jnp.ones((*batch, 24)).at[..., 5:9].set(0.0)
    found = image_cameras.translation_from_keypoints(points, keypoints_px, weights, K)
    np.testing.assert_allclose(found, translation, atol=2e-3)


def test_translation_is_the_weighted_least_squares_solution():
    points, _, _, _ = views.random_view(1)
    rng = np.random.default_rng(1)
    weights = rng.uniform(0, 1, 24)
    keypoints_px = rng.uniform(0, 400, (24, 2))
    f, cx, cy = 900.0, 200.0, 210.0
    rows, right = [], []
    for (x, y, z), (u, v), weight in zip(np.asarray(points, np.float64), keypoints_px, weights, strict=True):
        rows += [np.sqrt(weight) * np.array([f, 0, cx - u]), np.sqrt(weight) * np.array([0, f, cy - v])]
        right += [np.sqrt(weight) * ((u - cx) * z - f * x), np.sqrt(weight) * ((v - cy) * z - f * y)]
    expected = np.linalg.lstsq(np.array(rows), np.array(right))[0]
    K = jnp.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])
    arguments = jnp.asarray(keypoints_px, jnp.float32), jnp.asarray(weights, jnp.float32)
    np.testing.assert_allclose(
        image_cameras.translation_from_keypoints(points, *arguments, K), expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("seed", range(3))
def test_translation_is_spins_estimate_on_a_crop(seed):
    """Its normal equations in float64: one row per coordinate, times the root of the confidence; f = 5000, c = 112."""
    points, cam, _, _ = views.random_view(seed)
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0, 1, 24) * (rng.random(24) < 0.8)
    translation = image_cameras.crop_camera_to_translation(cam)
    keypoints_px = views.project_by_hand(points, translation, [[5000, 0, 112], [0, 5000, 112], [0, 0, 1]])
    keypoints_px = np.round(keypoints_px + rng.normal(0, 2, (24, 2)))
    left, right = np.zeros((3, 3)), np.zeros(3)
    for (x, y, z), (u, v), weight in zip(
        np.asarray(points, np.float64), keypoints_px, np.sqrt(confidence), strict=True
    ):
        for row, value in (
            ([5000, 0, 112 - u], (u - 112) * z - 5000 * x),
            ([0, 5000, 112 - v], (v - 112) * z - 5000 * y),
        ):
            left += np.outer(row, row) * weight**2
            right += np.array(row) * value * weight**2
    K = jnp.array([[5000, 0, 112], [0, 5000, 112], [0, 0, 1.0]])
    arguments = jnp.asarray(keypoints_px, jnp.float32), jnp.asarray(confidence, jnp.float32)
    found = image_cameras.translation_from_keypoints(points, *arguments, K)
    np.testing.assert_allclose(found, np.linalg.solve(left, right), rtol=2e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("visible", [0, 1])
def test_translation_without_enough_keypoints_is_finite(visible):
    points, _, _, _ = views.random_view(0)
    weights = jnp.zeros(24).at[:visible].set(1.0)
    K = jnp.array([[900.0, 0, 200], [0, 900, 200], [0, 0, 1]])
    solve = lambda p: image_cameras.translation_from_keypoints(p, 100 * p[:, :2], weights, K)  # noqa: E731
    assert np.isfinite(solve(points)).all()
    assert solve(points)[2] == 0
    assert np.isfinite(jax.jacobian(solve)(points)).all()


@pytest.mark.slow
def test_a_translation_from_points_that_are_not_finite_is_nan():
    points, keypoints = jnp.ones((1, 3, 3)).at[0, 1, 0].set(jnp.nan), 10.0 * jnp.arange(6.0).reshape(1, 3, 2)
    K = jnp.array([[500.0, 0, 50], [0, 500.0, 50], [0, 0, 1]])
    assert np.isnan(image_cameras.translation_from_keypoints(points, keypoints, jnp.ones((1, 3)), K[None])).all()
    for bad in (keypoints.at[0, 0, 1].set(jnp.nan), keypoints.at[0, 0, 1].set(jnp.inf)):
        assert np.isnan(
            image_cameras.translation_from_keypoints(jnp.ones((1, 3, 3)), bad, jnp.ones((1, 3)), K[None])[0, 2]
        )
