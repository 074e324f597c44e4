"""Square boxes around people, and the affine map of points between the original image and the crop of a box.

A box is its centre and its scale: the side is 200 x scale pixels of the original image (Andriluka et al., 2014; HMR;
SPIN). Coordinates are continuous: the centre of the top-left pixel is (0.5, 0.5), an image spans [0, W] x [0, H], and a
crop spans [-1, 1] in its own coordinates, x right and y down.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float64

Array = np.ndarray | jax.Array

SIDE = 200.0  # Pixels of the original image; the side of a box of scale 1.
PADDING = 1.1  # "Slightly padded" (appendix B); the paper gives no number, the authors' implementation pads nothing.
MIN_SIDE = 16.0  # Pixels, so that a single visible joint still has a crop.


def half_side(scale: Any) -> Any:
    """Half the side of a box, pixels of the original image: the unit of a crop's coordinates.

    Args:
      scale: of the box, or of many: a number or an array of any shape, of NumPy or JAX.
    """
    return SIDE / 2 * scale


def visible_box(
    kp2d: Float[Array, "*batch K 2"],
    visible: Float[Array, "*batch K"],
    padding: float = PADDING,
    min_side: float = MIN_SIDE,
) -> tuple[Float[Array, "*batch 2"], Float[Array, "*batch"] | np.floating]:
    """Returns the square box around the visible keypoints.

    Args:
      kp2d: keypoints, in the unit the box is wanted in (pixels of the original image for crops).
      visible: > 0 where a keypoint counts; the others are ignored, whatever they hold.
      padding: the side is this times the longer side of the keypoints' tight box.
      min_side: the side is never less, in the unit of `kp2d`.

    Returns:
      The centre of the box, and its scale: side = `SIDE` x scale.

    Raises:
      ValueError: no keypoint is visible (NumPy only; with JAX arrays the box is `min_side` wide around the origin).
    """
    xp = _namespace(kp2d, visible)
    mask = (visible > 0)[..., None]
    some = mask.any(axis=-2)
    if xp is np and not some.all():
        raise ValueError(
            f"visible_box needs a visible keypoint, got {np.count_nonzero(~some)} example(s) with none of "
            f"{kp2d.shape[-2]}. Leave examples without annotated keypoints out."
        )
    low = xp.where(some, xp.min(kp2d, axis=-2, where=mask, initial=xp.inf), 0.0)
    high = xp.where(some, xp.max(kp2d, axis=-2, where=mask, initial=-xp.inf), 0.0)
    side = xp.maximum(padding * (high - low).max(axis=-1), min_side)
    return ((low + high) / 2).astype(kp2d.dtype), (side / SIDE).astype(kp2d.dtype)


def affine(
    center: Float[np.ndarray, "2"], scale: float | np.floating | Float[np.ndarray, ""], size: int, angle: float = 0.0
) -> Float64[np.ndarray, "2 3"]:
    """Returns the map from original pixels to crop pixels.

    Args:
      center: of the box, original pixels.
      scale: side of the box / 200 original pixels.
      size: side of the crop in pixels.
      angle: radians; turns the *content* about the crop's centre from x (right) towards y (down), which is a rotation
        about the camera's z axis by the same angle.

    Returns:
      A, with `p_crop = A[:, :2] @ p + A[:, 2]`.

    Raises:
      ValueError: a box that is not finite or has no area.
    """
    center, scale = np.asarray(center, np.float64), float(scale)
    if not (all(map(math.isfinite, (*center, scale))) and scale > 0):
        raise ValueError(f"A crop needs a finite centre and a scale > 0, got centre {center.tolist()}, scale {scale}.")
    zoom = size / (SIDE * scale)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    x, y = size / 2 - np.array([[cos, -sin], [sin, cos]]) @ center
    return np.array([[cos, -sin, x], [sin, cos, y]])


def to_crop(
    points_px: Float[np.ndarray, "*batch 2"], transform: Float64[np.ndarray, "2 3"], size: int
) -> Float[np.ndarray, "*batch 2"]:
    """Maps points from original pixels to [-1, 1] of the crop (x right, y down); keeps the floating type."""
    mapped = points_px @ transform[:, :2].T + transform[:, 2]
    return (mapped * (2 / size) - 1).astype(points_px.dtype)


def _namespace(*arrays):
    """JAX as soon as one argument is a JAX array (or is traced), else NumPy."""
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np
