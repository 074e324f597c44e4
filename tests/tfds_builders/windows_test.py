"""Stored windows: small, inside the image, and enough for every crop that evaluation or training can ask for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibodies_jax.data import crops
from multibodies_jax.geometry import boxes
from tfds_builders import windows

_IMAGE = np.random.default_rng(0).integers(0, 256, (700, 900, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize(
    ("center", "side"),
    [((431.7, 333.1), 60.3), ((431.7, 333.1), 305.0), ((450.2, 351.9), 500.0), ((60.4, 680.2), 190.0)],
)
def test_crops_of_a_window_equal_those_of_the_whole_image(center, side, size):
    center, scale = np.array(center), side / 200
    window_image, window = windows.cut(_IMAGE, center, scale)
    for factor, angle in [(1.0, 0.0), (1.25, np.pi / 4), (1.25, -0.3), (0.75, 2.0)]:
        transform = boxes.affine(center, scale * factor, size, angle)
        crop = crops.warp(window_image, transform, size, window[:2])
        np.testing.assert_array_equal(crop, crops.warp(_IMAGE, transform, size))


@given(
    x=st.floats(-100, 1000), y=st.floats(-100, 800), scale=st.floats(0.01, 8),
    width=st.integers(1, 900), height=st.integers(1, 700),
)  # fmt: skip
def test_a_window_is_part_of_the_image_and_holds_all_of_the_turned_box_that_the_image_has(x, y, scale, width, height):
    outside = x + 100 * scale <= 0 or y + 100 * scale <= 0 or x - 100 * scale >= width or y - 100 * scale >= height
    if outside:
        with pytest.raises(ValueError, match="lies outside the image"):
            windows.window_for((x, y), scale, (width, height))
        return
    left, top, w, h = windows.window_for((x, y), scale, (width, height)).tolist()
    assert left >= 0 and top >= 0 and w >= 1 and h >= 1 and left + w <= width and top + h <= height
    reach = 125 * scale * np.sqrt(2)
    assert left <= max(x - reach, 0) and left + w >= min(x + reach, width)
    assert top <= max(y - reach, 0) and top + h >= min(y + reach, height)
    assert w <= 2.1 * reach + 11 and h <= 2.1 * reach + 11  # Not more than is needed.


def test_the_pixels_are_those_of_the_image_and_bad_boxes_are_refused():
    image, window = windows.cut(_IMAGE, (100.5, 200.25), 0.5, margin=1.0)
    x, y, w, h = window
    assert window.dtype == np.int32 and image.shape == (h, w, 3)
    np.testing.assert_array_equal(image, _IMAGE[y : y + h, x : x + w])
    for center, scale in [((np.nan, 1.0), 1.0), ((1.0, 1.0), 0.0), ((1.0, 1.0), np.inf)]:
        with pytest.raises(ValueError, match="finite box"):
            windows.cut(_IMAGE, center, scale)
