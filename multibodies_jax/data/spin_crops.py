"""Crops and keypoints as SPIN computes them, down to its rounding (Kolotouros et al., 2019, and 3D Multi-bodies after it).

Where `crops` is continuous, SPIN is not: boxes are cut at whole pixels, keypoints fall on whole pixels of the crop, and
images pass through `scipy.misc.imrotate` and `imresize`, which SciPy no longer has. Published numbers were computed like
this, and networks were trained on it.

Coordinates and angles are those of `crops`. Keypoints are taken as the sets annotate them, whether they count from the
corner or from the centre of the first pixel, and are up to a crop pixel further right and down than `crops` has them.
Corners of boxes often lie on whole pixels, where the last bit of float64 decides; with float32 scales, one box in four
of Human3.6M's kind moves by a pixel.
"""

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8
from PIL import Image

from multibodies_jax.geometry import boxes


def to_crop(
    points_px: Float[np.ndarray, "*batch 2"],
    center: Float[np.ndarray, "2"],
    scale: float | np.floating | Float[np.ndarray, ""],
    size: int,
    angle: float = 0.0,
) -> Float64[np.ndarray, "*batch 2"]:
    """Maps points from original pixels to [-1, 1] of the crop (x right, y down), rounded to whole crop pixels.

    With T the map of the box to the crop, x' = trunc(T x) + 1, and 2 x' / size - 1 is returned.

    Args:
      points_px: original pixels; float64 where equality with SPIN counts.
      center: of the box, original pixels.
      scale: side of the box / 200 original pixels.
      size: side of the crop in pixels.
      angle: radians, from x towards y, as in `boxes.affine`.

    Raises:
      ValueError: a box that is not finite or has no area.
    """
    transform = _box_transform(center, scale, size)
    if angle != 0:
        transform = _turn(size, angle) @ transform
    mapped = np.asarray(points_px, np.float64) @ transform[:2, :2].T + transform[:2, 2]
    return 2.0 * (np.trunc(mapped) + 1) / size - 1.0


def warp(
    image: UInt8[np.ndarray, "h w 3"],
    center: Float[np.ndarray, "2"],
    scale: float | np.floating | Float[np.ndarray, ""],
    size: int,
    angle: float = 0.0,
    origin: tuple[int, int] | Int[np.ndarray, "2"] = (0, 0),
    stretch: bool = False,
    empty: bool = False,
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Cuts the box out at whole pixels, black outside the window, turns it, and resizes it (Pillow's bilinear filter).

    Args:
      image: an unresampled window of the original image.
      center: of the box, original pixels.
      scale: side of the box / 200 original pixels.
      size: side of the crop in pixels.
      angle: radians; turns the content from x (right) towards y (down).
      origin: x, y of the window in the original image.
      stretch: the historic contrast stretch (`stretch_contrast`) before the first resampling, as in the authors' code.
      empty: a box that lies wholly outside the window gives a black crop, as one that was drawn may.

    Returns:
      The crop.

    Raises:
      ValueError: a box that is not finite, has no area, is less than a pixel wide or, without `empty`, lies wholly outside
        the window.
    """
    low, high = _corners(center, scale, size)
    pad = 0
    if angle != 0:  # So much more is cut that the corners of the turned box are filled.
        pad = int(np.linalg.norm(high - low) / 2 - float(high[1] - low[1]) / 2)
    cut = _cut(image, low - pad - origin, high + pad - origin, empty)
    if stretch:
        cut = stretch_contrast(cut)
    picture = Image.fromarray(cut)
    if angle != 0:
        picture = picture.rotate(-np.rad2deg(angle), resample=Image.Resampling.BILINEAR)
        picture = picture.crop((pad, pad, picture.width - pad, picture.height - pad))
    return np.array(picture.resize((size, size), resample=Image.Resampling.BILINEAR))


def stretch_contrast(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Spreads the levels linearly so that the least becomes 0 and the greatest 255, over all channels at once.

    SciPy's image functions did this to images of floats, which is how SPIN and 3D Multi-bodies hold them: their
    networks are trained and evaluated on stretched crops. An image of one level becomes black.
    """
    least, greatest = int(image.min()), int(image.max())
    slope = 255.0 / max(greatest - least, 1)
    levels = np.clip((np.arange(256) - float(least)) * slope, 0, 255) + 0.5
    return levels.astype(np.uint8)[image]


def _box_transform(
    center: Float[np.ndarray, "2"], scale: float | np.floating | Float[np.ndarray, ""], size: int
) -> Float64[np.ndarray, "3 3"]:
    """T without rotation. Its arithmetic decides whether a corner on a whole pixel is rounded to it or below."""
    boxes.affine(center, scale, size)  # Refuses what is no box.
    x, y = (float(v) for v in center)
    side = boxes.SIDE * float(scale)
    zoom = size / side
    return np.array([[zoom, 0, size * (-x / side + 0.5)], [0, zoom, size * (-y / side + 0.5)], [0, 0, 1]])


def _turn(size: int, angle: float) -> Float64[np.ndarray, "3 3"]:
    """Turns the content of a crop about its centre."""
    cos, sin, half = np.cos(angle), np.sin(angle), size / 2
    move = np.array([[1, 0, half], [0, 1, half], [0, 0, 1.0]])
    back = np.array([[1, 0, -half], [0, 1, -half], [0, 0, 1.0]])
    return move @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ back


def _corners(
    center: Float[np.ndarray, "2"], scale: float | np.floating | Float[np.ndarray, ""], size: int
) -> tuple[Int[np.ndarray, "2"], Int[np.ndarray, "2"]]:
    """The first whole pixel of the unturned box, and the one after its last: trunc(T^-1 corner)."""
    inverse = np.linalg.inv(_box_transform(center, scale, size))
    low, high = (np.trunc((inverse @ [at, at, 1.0])[:2]).astype(int) for at in (0.0, float(size)))
    if np.any(high <= low):
        raise ValueError(
            f"A crop needs a box of at least one pixel; centre {np.asarray(center).tolist()} and scale {scale} make "
            f"one of {boxes.SIDE * float(scale):.3g} pixels."
        )
    return low, high


def _cut(
    image: UInt8[np.ndarray, "h w 3"], low: Int[np.ndarray, "2"], high: Int[np.ndarray, "2"], empty: bool
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Pixels `low` (x, y) to `high` of an image, black where it has none."""
    size = np.array(image.shape[1::-1])
    first, last = np.maximum(low, 0), np.minimum(high, size)
    outside = bool(np.any(last <= first))
    if outside and not empty:
        raise ValueError(
            f"The box spans x {low[0]} to {high[0]} and y {low[1]} to {high[1]} of a window of {size[0]} x {size[1]} "
            "pixels: it lies wholly outside. Check box_center and box_scale, and that the image belongs to them."
        )
    width, height = high - low
    cut = np.zeros((height, width, 3), np.uint8)
    if outside:
        return cut
    (x0, y0), (x1, y1) = first - low, last - low
    cut[y0:y1, x0:x1] = image[first[1] : last[1], first[0] : last[0]]
    return cut
