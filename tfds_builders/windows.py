"""The part of an image that is stored with an example: unresampled, and all that any crop of its box can show."""

import numpy as np
from jaxtyping import Float, Int32, UInt8

from multibodies_jax.geometry import boxes

MARGIN = 1.25  # Training enlarges boxes by at most this (SPIN's augmentation).
_SMALLEST_CROP = 64  # Crops of fewer pixels may read beyond the window.

Vector = Float[np.ndarray, "2"] | tuple[float, float]


def window_for(
    box_center: Vector, box_scale: float | np.floating, image_size: tuple[int, int], margin: float = MARGIN
) -> Int32[np.ndarray, "4"]:
    """The window of an image that holds a box enlarged by `margin` and turned by any angle, where the image has it.

    Args:
      box_center: of the box, original pixels.
      box_scale: side of the box / 200 original pixels.
      image_size: width, height of the original image.
      margin: the greatest factor by which crops enlarge the box.

    Returns:
      x, y, width, height in the original image, whole pixels.

    Raises:
      ValueError: a box that is not finite or has no area, or that lies outside the image.
    """
    center, scale, size = np.asarray(box_center, np.float64), float(box_scale), np.asarray(image_size)
    if not (np.all(np.isfinite(center)) and np.isfinite(scale) and scale > 0):
        raise ValueError(f"A window needs a finite box, got centre {center.tolist()}, scale {scale}.")
    side = boxes.SIDE * scale
    if np.any(center + side / 2 <= 0) or np.any(center - side / 2 >= size):
        raise ValueError(
            f"The box with centre {center.tolist()} and side {side:.1f} lies outside the image of {size[0]} x {size[1]}."
        )
    # Half the diagonal reaches every corner; resampling reads at most two pixels of a crop beyond it.
    reach = side * (margin * np.sqrt(0.5) + 2 / _SMALLEST_CROP) + 4
    low = np.clip(np.floor(center - reach), 0, size - 1).astype(np.int32)
    high = np.clip(np.ceil(center + reach), low + 1, size).astype(np.int32)
    return np.concatenate([low, high - low])


def cut(
    image: UInt8[np.ndarray, "H W 3"],
    box_center: Vector,
    box_scale: float | np.floating,
    margin: float = MARGIN,
) -> tuple[UInt8[np.ndarray, "h w 3"], Int32[np.ndarray, "4"]]:
    """Cuts `window_for` out of an image: the features `image` and `window`.

    Crops of the window (`crops.warp` with its origin) equal those of the whole image, pixel for pixel.

    Returns:
      A view of the image, and x, y, width, height of it in the image.

    Raises:
      ValueError: as `window_for`.
    """
    height, width = image.shape[:2]
    window = window_for(box_center, box_scale, (width, height), margin)
    x, y, w, h = window
    return image[y : y + h, x : x + w], window
