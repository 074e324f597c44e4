"""SPIN's crops against its formulas written out in float64 and, for the resampling, pixel loops."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multibodies_jax.data import spin_crops
from multibodies_jax.geometry import boxes

_IMAGE = np.random.default_rng(0).integers(40, 200, (60, 84, 3)).astype(np.uint8)


def _transform(x, y, scale, size, turned=0.0, inverse=False):
    """SPIN's transform of one 1-based point, as its steps are described: floats, then cut to whole numbers."""

    def of(center):
        side = 200 * scale
        T = np.zeros((3, 3))
        T[0, 0] = T[1, 1] = float(size) / side
        T[0, 2] = size * (-float(center[0]) / side + 0.5)
        T[1, 2] = size * (-float(center[1]) / side + 0.5)
        T[2, 2] = 1
        if turned:
            sin, cos = np.sin(-turned * np.pi / 180), np.cos(-turned * np.pi / 180)
            there = np.array([[1, 0, -size / 2], [0, 1, -size / 2], [0, 0, 1]])
            back = np.array([[1, 0, size / 2], [0, 1, size / 2], [0, 0, 1]])
            T = np.dot(back, np.dot(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]), np.dot(there, T)))
        T = np.linalg.inv(T) if inverse else T
        return [int(v) + 1 for v in np.dot(T, [x - 1, y - 1, 1.0])[:2]]

    return of


def _window(center, scale, size, turned):
    """Corners of what is cut, and the pad that is cut away again after turning."""
    left, top = (v - 1 for v in _transform(1, 1, scale, size, inverse=True)(center))
    right, bottom = (v - 1 for v in _transform(size + 1, size + 1, scale, size, inverse=True)(center))
    pad = int(np.hypot(right - left, bottom - top) / 2 - (bottom - top) / 2) if turned else 0
    return (left - pad, top - pad, right + pad, bottom + pad), pad


def _bytescale(pixels):
    low, high = pixels.min(), pixels.max()
    return np.floor((pixels - low) * 255.0 / ((high - low) or 1) + 0.5)


def _turned(pixels, degrees):
    """Counter-clockwise as seen, about the middle; bilinear, black where the source has no pixel."""
    height, width = pixels.shape[:2]
    out = np.zeros_like(pixels)
    sin, cos = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    for v in range(height):
        for u in range(width):
            dx, dy = u + 0.5 - width / 2, v + 0.5 - height / 2
            x, y = cos * dx - sin * dy + width / 2, sin * dx + cos * dy + height / 2
            if not (0 <= x < width and 0 <= y < height):
                continue
            x0, y0 = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
            fx, fy = x - 0.5 - x0, y - 0.5 - y0
            xs, ys = np.clip([x0, x0 + 1], 0, width - 1), np.clip([y0, y0 + 1], 0, height - 1)
            rows = [pixels[j, xs[0]] * (1 - fx) + pixels[j, xs[1]] * fx for j in ys]
            out[v, u] = rows[0] * (1 - fy) + rows[1] * fy
    return out


def _resized(pixels, size):
    """A triangle filter, as wide as a crop pixel where it shrinks, along x and then along y."""
    for axis in (1, 0):
        length = pixels.shape[axis]
        step = length / size
        width = max(step, 1.0)
        distance = (np.arange(length) + 0.5) - (np.arange(size)[:, None] + 0.5) * step
        weights = np.maximum(1 - np.abs(distance) / width, 0)
        weights /= weights.sum(1, keepdims=True)
        pixels = np.moveaxis(np.tensordot(weights, pixels, axes=(1, axis)), 0, axis)
    return pixels


def _reference(image, center, scale, size, turned, stretch):
    (left, top, right, bottom), pad = _window(center, scale, size, turned)
    pixels = np.zeros((bottom - top, right - left, 3))
    for v in range(top, bottom):
        for u in range(left, right):
            if 0 <= v < image.shape[0] and 0 <= u < image.shape[1]:
                pixels[v - top, u - left] = image[v, u]
    pixels = _bytescale(pixels) if stretch else pixels
    if turned:
        pixels = _turned(pixels, turned)[pad : pixels.shape[0] - pad, pad : pixels.shape[1] - pad]
    return _resized(pixels, size)


@pytest.mark.parametrize(("turned", "stretch"), [(0.0, False), (0.0, True), (27.0, True), (-60.0, False)])
@pytest.mark.parametrize(
    "center, scale",
    [
        ((41.3, 30.8), 0.22),  # Shrinks; inside.
        ((2.0, 3.0), 0.15),  # The upper left corner of the image: corners left of 0 are cut towards 0.
        ((80.7, 55.2), 0.16),  # The lower right one.
        ((40.0, 30.0), 0.6),  # All of the image, with black around.
        ((30.4, 23.3), 0.06),  # Enlarges.
    ],
)
def test_crops_are_spins(center, scale, turned, stretch):
    got = spin_crops.warp(_IMAGE, np.array(center), scale, 24, -np.deg2rad(turned), stretch=stretch)
    expected = _reference(_IMAGE, center, scale, 24, turned, stretch)
    assert got.dtype == np.uint8 and np.ptp(expected) > 60
    np.testing.assert_allclose(got, expected, atol=2.01 if turned else 1.01)  # Pillow rounds after every step.


def test_a_window_gives_the_crop_of_the_image():
    window = _IMAGE[10:, 20:]
    for angle in (0.0, 0.4):
        place = np.array([55.3, 38.0]), 0.15, 32, angle
        np.testing.assert_array_equal(spin_crops.warp(window, *place, (20, 10)), spin_crops.warp(_IMAGE, *place))


@given(
    seed=st.integers(0, 2**31 - 1), side=st.floats(4, 900), turned=st.floats(-60, 60) | st.just(0.0),
    size=st.sampled_from([64, 224]),
)  # fmt: skip
@example(seed=0, side=224.0, turned=0.0, size=224)  # Nothing moves: every keypoint is a tie.
def test_keypoints_are_spins(seed, side, turned, size):
    rng = np.random.default_rng(seed)
    center, scale = np.round(2 * rng.uniform(0, 300, 2)) / 2, side / 200
    points = np.round(rng.uniform(-100, 500, (24, 2)), int(rng.integers(0, 3)))
    expected = [_transform(x + 1, y + 1, scale, size, turned)(center) for x, y in points]
    expected = 2 * np.array(expected) / size - 1
    got = spin_crops.to_crop(points, center, scale, size, -np.deg2rad(turned))
    np.testing.assert_array_equal(got, expected)


@given(seed=st.integers(0, 2**31 - 1), side=st.floats(20, 900), angle=st.floats(-1, 1))
def test_keypoints_are_up_to_a_pixel_beyond_the_continuous_crop(seed, side, angle):
    rng = np.random.default_rng(seed)
    center = rng.uniform(0, 300, 2)
    points = center + rng.uniform(-0.3, 0.3, (24, 2)) * side
    exact = boxes.to_crop(points, boxes.affine(center, side / 200, 224, angle), 224)
    difference = (spin_crops.to_crop(points, center, side / 200, 224, angle) - exact) * 112
    assert difference.min() >= -1e-6 and difference.max() <= 1 + 1e-6


def test_the_contrast_stretch_is_linear_over_all_channels():
    image = np.array([[[50, 60, 70], [100, 110, 150]]], np.uint8)
    expected = [[np.floor((np.array(pixel) - 50.0) * 2.55 + 0.5) for pixel in ([50, 60, 70], [100, 110, 150])]]
    np.testing.assert_array_equal(spin_crops.stretch_contrast(image), expected)
    assert not spin_crops.stretch_contrast(np.full((2, 2, 3), 9, np.uint8)).any()
    full = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    np.testing.assert_array_equal(spin_crops.stretch_contrast(full), full)


@pytest.mark.parametrize(
    "center, scale, message",
    [
        ((-300.0, 50.0), 0.5, "spans x -350 to -250 and y 0 to 100 of a window of 84 x 60 pixels: it lies wholly"),
        ((50.0, 400.0), 0.5, "lies wholly outside"),
        ((50.2, 50.2), 0.001, "at least one pixel; .* one of 0.2 pixels"),
        ((50.0, np.nan), 0.5, "finite centre"),
        ((50.0, 50.0), -0.5, "scale > 0"),
    ],
)
def test_boxes_that_show_nothing_are_refused(center, scale, message):
    with pytest.raises(ValueError, match=message):
        spin_crops.warp(_IMAGE, np.array(center), scale, 32)


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_the_tiniest_box_is_one_colour(angle):
    crop = spin_crops.warp(_IMAGE, np.array([50.0, 40.0]), 0.015, 8, angle)
    assert crop.shape == (8, 8, 3) and crop.any()
