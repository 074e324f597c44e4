"""Square crops of images, resampled by the affine map of `boxes.affine`, which moves points the same way.

OpenCV counts from pixel centres, our coordinates from the corner of the image (`geometry.boxes`); the half pixel
between the two is added in `warp` and nowhere else.
"""

import math

import cv2
import numpy as np
from jaxtyping import Float64, Int, UInt8


def warp(
    image: UInt8[np.ndarray, "h w 3"],
    transform: Float64[np.ndarray, "2 3"],
    size: int,
    origin: tuple[int, int] | Int[np.ndarray, "2"] = (0, 0),
    repeat_border: bool = False,
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Resamples a window of an image to a crop; what lies outside the window is black, or its border repeated.

    Enlarging is bilinear. Shrinking averages what a crop pixel covers: at least one bilinear sample per image pixel;
    where that is many, blocks of image pixels are averaged first.

    Args:
      image: an unresampled window of the original image.
      transform: original pixels to crop pixels (`boxes.affine`).
      size: side of the crop in pixels.
      origin: x, y of the window in the original image.
      repeat_border: repeat the window's border outside of it.

    Returns:
      The crop.
    """
    border = cv2.BORDER_REPLICATE if repeat_border else cv2.BORDER_CONSTANT
    linear, offset = transform[:, :2], transform[:, 2]
    zoom = np.sqrt(abs(np.linalg.det(linear)))
    block = max(1, int(0.5 / zoom + 1e-6))  # Half the shrinking at most: bilinear samples of blocks are softer.
    # Only what the crop reads: any window that holds it gives the same crop, bit by bit.
    image, origin = _part(image, np.asarray(origin), transform, size, reach=block + 2)
    offset = offset + linear @ origin
    if block > 1:
        image, linear = _block_mean(image, block, border), linear * block
    samples = max(1, int(np.ceil(1 / (zoom * block) - 1e-6)))
    linear, offset = linear * samples, offset * samples
    # Both sides in units of pixel centres, as OpenCV counts: x_cv = x - 0.5.
    offset = offset + linear @ np.array([0.5, 0.5]) - 0.5
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    crop = cv2.warpAffine(image, matrix, (size * samples,) * 2, flags=cv2.INTER_LINEAR, borderMode=border)
    return crop if samples == 1 else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def _part(
    image: UInt8[np.ndarray, "h w 3"],
    origin: Int[np.ndarray, "2"],
    transform: Float64[np.ndarray, "2 3"],
    size: int,
    reach: int,
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Int[np.ndarray, "2"]]:
    """The part of a window within `reach` pixels of what a crop shows, and its origin in the original image."""
    inverse = cv2.invertAffineTransform(transform)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ inverse[:, :2].T + inverse[:, 2]
    (xs, ys), (x, y), (height, width, _) = corners.T.tolist(), origin.tolist(), image.shape
    x0, x1 = _span(math.floor(min(xs) - reach) - x, math.ceil(max(xs) + reach) - x, width)
    y0, y1 = _span(math.floor(min(ys) - reach) - y, math.ceil(max(ys) + reach) - y, height)
    return image[y0:y1, x0:x1], np.array([x + x0, y + y0])


def _span(first: int, last: int, length: int) -> tuple[int, int]:
    """What a row of `length` pixels has of the pixels `first` to `last`; at least one."""
    first = min(max(first, 0), length - 1)
    return first, min(max(last, first + 1), length)


def _block_mean(image: UInt8[np.ndarray, "h w 3"], block: int, border: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Averages block x block pixels, after padding right and below to whole blocks: black, or OpenCV's other border."""
    height, width = (-(-n // block) for n in image.shape[:2])
    pad_below, pad_right = height * block - image.shape[0], width * block - image.shape[1]
    if pad_below or pad_right:
        image = cv2.copyMakeBorder(image, 0, pad_below, 0, pad_right, border, value=(0, 0, 0))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
