"""Crops: the image and the points must agree to a fraction of a pixel."""

import cv2
import numpy as np
import pytest

from multibodies_jax.data import crops
from multibodies_jax.geometry import boxes

_HEIGHT, _WIDTH = 160, 200


def _disc(x, y, radius=9.0):
    """A white disc around (x, y), antialiased; the centre of the first pixel is (0.5, 0.5)."""
    fine = (np.arange(_WIDTH * 4) + 0.5) / 4
    inside = (fine[None] - x) ** 2 + (fine[: _HEIGHT * 4, None] - y) ** 2 < radius**2
    grey = inside.reshape(_HEIGHT, 4, _WIDTH, 4).mean((1, 3)) * 255
    return np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, axis=2)


def _centroid(image):
    weights = image[..., 0].astype(np.float64)
    centers = np.arange(len(image)) + 0.5
    return np.array([(weights.sum(0) * centers).sum(), (weights.sum(1) * centers).sum()]) / weights.sum()


def _reference(image, transform, size, origin, samples):
    """Averages samples x samples bilinear look-ups per crop pixel; float64, black outside."""
    inverse = np.linalg.inv(np.concatenate([transform, [[0, 0, 1]]]))
    fine = (np.arange(size * samples) + 0.5) / samples
    at = np.stack([*np.meshgrid(fine, fine), np.ones((len(fine),) * 2)], axis=-1) @ inverse[:2].T - origin - 0.5
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    at = np.clip(at + 1, 0, np.array(padded.shape[1::-1]) - 1.001)
    low = at.astype(int)
    (x, y), (fx, fy) = np.moveaxis(low, -1, 0), np.moveaxis(at - low, -1, 0)[..., None]
    top = padded[y, x] * (1 - fx) + padded[y, x + 1] * fx
    below = padded[y + 1, x] * (1 - fx) + padded[y + 1, x + 1] * fx
    values = top * (1 - fy) + below * fy
    return values.reshape(size, samples, size, samples, 3).mean((1, 3))


@pytest.mark.parametrize("side", [30, 64, 90, 150, 260, 420])
@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_a_disc_lands_where_the_points_say(side, angle):
    center = np.array([103.3, 78.9])
    where = center + np.array([0.08, -0.11]) * side
    transform = boxes.affine(center, side / 200, 64, angle)
    crop = crops.warp(_disc(*where, radius=min(0.2 * side, 25.0)), transform, 64)
    expected = (boxes.to_crop(where, transform, 64) + 1) * 32
    np.testing.assert_allclose(_centroid(crop), expected, atol=0.06)


def test_a_positive_angle_turns_the_content_from_right_towards_down():
    center = np.array([100.0, 80.0])
    transform = boxes.affine(center, 0.5, 64, np.pi / 2)
    np.testing.assert_allclose(boxes.to_crop(np.array([125.0, 80.0]), transform, 64), [0.0, 0.5], atol=1e-12)
    crop = crops.warp(_disc(125.0, 80.0), transform, 64)
    np.testing.assert_allclose(_centroid(crop), [32, 48], atol=0.03)


@pytest.mark.parametrize("side", [40, 70, 100, 170, 330])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_crops_equal_a_dumb_resampler(side, angle):
    rng = np.random.default_rng(side)
    image = cv2.GaussianBlur(rng.uniform(-1000, 1255, (_HEIGHT, _WIDTH, 3)), (0, 0), 2)
    image = np.clip(image, 0, 255).astype(np.uint8)
    origin = np.array([50, 30])
    transform = boxes.affine(np.array([148.3, 112.1]), side / 200, 48, angle)
    crop = crops.warp(image, transform, 48, origin).astype(float)
    error = crop - _reference(image, transform, 48, origin, 8)
    # A shift by a quarter of a crop pixel, or 2 x 2 samples instead of all, at least doubles these.
    assert np.abs(error).mean() < 0.03 * crop.std() and np.abs(error).max() < 25 and abs(error.mean()) < 0.25


def test_shrinking_by_two_averages_blocks_of_two_and_no_pixel_is_skipped():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (128, 128, 3)).astype(np.uint8)
    crop = crops.warp(image, boxes.affine(np.array([64.0, 64.0]), 128 / 200, 64), 64)
    blocks = image.reshape(64, 2, 64, 2, 3).mean((1, 3))
    np.testing.assert_allclose(crop, blocks, atol=1)
    # A pattern finer than the crop's pixels turns grey instead of into another pattern.
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crops.warp(stripes, boxes.affine(np.array([300.0, 300.0]), 2.5, 64, 0.1), 64)
    assert crop.astype(float).std() < 12


def test_an_untouched_window_comes_back_and_outside_is_black():
    image = np.random.default_rng(1).integers(1, 256, (64, 64, 3)).astype(np.uint8)
    same = crops.warp(image, boxes.affine(np.array([132.0, 232.0]), 0.32, 64), 64, (100, 200))
    np.testing.assert_array_equal(same, image)
    moved = crops.warp(image, boxes.affine(np.array([132.0 - 16, 232.0]), 0.32, 64), 64, (100, 200))
    np.testing.assert_array_equal(moved[:, 16:], image[:, :48])
    assert not moved[:, :16].any()


@pytest.mark.parametrize("zoom", [1.0, 0.3])
def test_outside_can_repeat_the_border(zoom):
    image = np.repeat(np.arange(10, 74, dtype=np.uint8)[:, None, None], 64, axis=1).repeat(3, axis=2)
    size = round(128 * zoom)
    crop = crops.warp(image, boxes.affine(np.array([32.0, 32.0]), 0.64, size), size, repeat_border=True)
    inside = round(32 * zoom)
    assert (crop[: inside - 1] == 10).all() and (crop[size - inside + 1 :] == 73).all()
    black = crops.warp(image, boxes.affine(np.array([32.0, 32.0]), 0.64, size), size)
    np.testing.assert_array_equal(
        crop[inside + 1 : -inside - 1, inside + 1 : -inside - 1],
        black[inside + 1 : -inside - 1, inside + 1 : -inside - 1],
    )
