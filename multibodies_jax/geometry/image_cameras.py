"""Cameras of the whole image: the one that shows what a crop's camera shows, and the one that fits 2D keypoints.

Camera frame: x right, y down, z forward, metres. Pixels: the image spans [0, W] x [0, H].
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.geometry import boxes, cameras

SHORTEST_CROP_FOCAL = 2.0
"""Half-sides: the crop fills 53 degrees."""

_MIN_SCALE = 1e-6
_NEAREST = 1e-2  # Metres; points nearer than this are held there.


def crop_camera_to_translation(
    cam: Float[Array, "*b 3"], focal: Float[Array, ""] | float = cameras.FOCAL
) -> Float[Array, "*b 3"]:
    """Translation (tx, ty, f / s) of crop cameras (s, tx, ty); a scale within 1e-6 of 0 counts as 1e-6.

    The authors divide 2 f by S s + 1e-9, with f in pixels of a crop of S, which is the same number in float32 from
    s = 1e-4 on.
    """
    return jnp.stack([cam[..., 1], cam[..., 2], focal / _nonzero_scale(cam)], axis=-1)


def crop_camera_to_full(
    cam: Float[Array, "*b 3"],
    box_center: Float[Array, "*b 2"],
    box_scale: Float[Array, "*b"],
    intrinsics: Float[Array, "*b 3 3"] | None = None,
    focal: Float[Array, ""] | float = cameras.FOCAL,
) -> tuple[Float[Array, "*b 3"], Float[Array, "*b 3 3"]]:
    """A camera of the original image that shows the body as the crop camera does.

    Without `intrinsics` it is exact: the crop's own translation, seen with focal length f side / 2 and the principal
    point at the box centre. Given `intrinsics` K, with focal length F = sqrt(Fx Fy), the body is moved to the depth
    z = 2 F / (side s), where it is as large, and to z K^-1 (u, v, 1), where its origin falls on the same pixel (u, v).
    The rest then differs by what perspective changes at the new distance and viewing angle.

    Args:
      cam: (s, tx, ty).
      box_center: pixels of the original image.
      box_scale: the crop's side / 200 pixels.
      intrinsics: of the original image, pixels.
      focal: f of the crop camera, in half-sides.

    Returns:
      The translation, metres, and the intrinsics that go with it.
    """
    side = boxes.SIDE * box_scale
    if intrinsics is None:
        focal_px, zero, one = focal * side / 2, jnp.zeros_like(side), jnp.ones_like(side)
        K = [focal_px, zero, box_center[..., 0], zero, focal_px, box_center[..., 1], zero, zero, one]
        return crop_camera_to_translation(cam, focal), jnp.stack(K, axis=-1).reshape((*side.shape, 3, 3))
    origin_px = crop_to_image((cam[..., :1] * cam[..., 1:])[..., None, :], box_center, box_scale)
    z = 2 * jnp.sqrt(intrinsics[..., 0, 0] * intrinsics[..., 1, 1]) / (side * _nonzero_scale(cam))
    xy = _to_ray(origin_px, intrinsics)[..., 0, :] * z[..., None]
    return jnp.concatenate([xy, z[..., None]], axis=-1), intrinsics


def crop_focal(
    focal_px: Float[np.ndarray, "*b"] | np.floating, box_scale: Float[np.ndarray, "*b"] | np.floating
) -> np.ndarray | np.floating:
    """The focal length of an image in half-sides of a crop of `box_scale` x 200 pixels.

    It is kept between `SHORTEST_CROP_FOCAL`, with which the camera still is in front of a whole body, and that of the
    networks (`cameras.FOCAL`).
    """
    return np.clip(focal_px / boxes.half_side(box_scale), SHORTEST_CROP_FOCAL, cameras.FOCAL)


def rotation_to_ray(pixel: Float[Array, "*b 2"], intrinsics: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    """The smallest rotation that takes the optical axis to the ray through a pixel.

    It takes the frame of a crop's camera, which looks at the crop's centre, to that of the image's.
    """
    ray = _to_ray(pixel[..., None, :], intrinsics)[..., 0, :]
    ray = jnp.concatenate([ray, jnp.ones_like(ray[..., :1])], axis=-1)
    x, y, z = jnp.moveaxis(ray / jnp.linalg.norm(ray, axis=-1, keepdims=True), -1, 0)
    # Rodrigues' formula about the axis z x ray; 1 + z is at least 1, because the ray points forward.
    rows = [[1 - x * x / (1 + z), -x * y / (1 + z), x], [-x * y / (1 + z), 1 - y * y / (1 + z), y], [-x, -y, z]]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def crop_to_image(
    points: Float[Array, "*b K 2"], box_center: Float[Array, "*b 2"], box_scale: Float[Array, "*b"]
) -> Float[Array, "*b K 2"]:
    """Pixels of the original image of points in a crop's [-1, 1]."""
    return box_center[..., None, :] + points * boxes.half_side(box_scale)[..., None, None]


def project(p: Float[Array, "*b K 3"], intrinsics: Float[Array, "*b 3 3"]) -> Float[Array, "*b K 2"]:
    """Pixels of points of the camera frame; points nearer than 1 cm, or behind, are held at 1 cm."""
    ray = p / jnp.maximum(p[..., 2:], _NEAREST)
    homogeneous = jnp.concatenate([ray[..., :2], jnp.ones_like(ray[..., 2:])], axis=-1)
    return exact.einsum("...ab,...kb->...ka", intrinsics[..., :2, :], homogeneous)


def translation_from_keypoints(
    points: Float[Array, "*b K 3"],
    keypoints_px: Float[Array, "*b K 2"],
    weights: Float[Array, "*b K"],
    intrinsics: Float[Array, "*b 3 3"],
) -> Float[Array, "*b 3"]:
    """The translation that puts 3D points over their 2D keypoints, by weighted linear least squares.

    With (x, y) a keypoint's ray at depth 1, each one asks for t_x - x t_z = x p_z - p_x, and the same in y (as SPIN's
    `estimate_translation`, up to each equation's factor f). The closed form is centred, so float32 is enough.

    Args:
      points: of the body's frame, turned as the camera sees it, metres.
      keypoints_px: pixels of the image that `intrinsics` belongs to; any finite value where the weight is 0.
      weights: non-negative, of each keypoint's squared error.
      intrinsics: pixels.

    Returns:
      The translation; its z is 0 if fewer than two different keypoints have a weight.
    """
    weights = (weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-12))[..., None]
    ray = _to_ray(keypoints_px, intrinsics)
    wanted = ray * points[..., 2:] - points[..., :2]
    ray_mean = jnp.sum(weights * ray, axis=-2, keepdims=True)
    wanted_mean = jnp.sum(weights * wanted, axis=-2, keepdims=True)
    spread = jnp.sum(weights * (ray - ray_mean) ** 2, axis=(-2, -1))
    slope = jnp.sum(weights * (ray - ray_mean) * (wanted - wanted_mean), axis=(-2, -1))
    z = jnp.where(spread <= 1e-12, 0.0, -slope / jnp.where(spread <= 1e-12, 1.0, spread))[..., None]  # NaN stays.
    return jnp.concatenate([wanted_mean[..., 0, :] + ray_mean[..., 0, :] * z, z], axis=-1)


def _to_ray(points_px: Float[Array, "*b K 2"], intrinsics: Float[Array, "*b 3 3"]) -> Float[Array, "*b K 2"]:
    """Where the rays through pixels meet the plane at depth 1."""
    y = (points_px[..., 1] - intrinsics[..., 1, 2, None]) / intrinsics[..., 1, 1, None]
    x = (points_px[..., 0] - intrinsics[..., 0, 2, None] - intrinsics[..., 0, 1, None] * y) / intrinsics[
        ..., 0, 0, None
    ]
    return jnp.stack([x, y], axis=-1)


def _nonzero_scale(cam: Float[Array, "*b 3"]) -> Float[Array, "*b"]:
    return jnp.where(jnp.abs(cam[..., 0]) < _MIN_SCALE, _MIN_SCALE, cam[..., 0])
