"""The camera of the whole photograph, and where the bodies of a crop stand before it.

A network sees a crop through a camera with a very long lens (`geometry.cameras`), one for each person. A scene needs one
camera for all: the photograph's own. Its focal length comes from EXIF, from the user, or from an assumption that is said.
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact, untrusted
from multibodies_jax.geometry import cameras, image_cameras

ASSUMED_MM = 50.0  # The normal lens of a 35 mm film camera: 46.8 degrees over the diagonal.
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_FEWEST_KEYPOINTS = 4  # With fewer the placement follows all joints: two or three points say little about the depth.
_NEAREST = 0.1  # Metres; a body whose placement comes out nearer is placed by its origin and size alone.
_FOCAL_LIMITS = (0.1, 100.0)  # In image diagonals: from fisheyes to telescopes; anything else is a damaged entry.

_EXIF_PHOTO = 0x8769
_FOCAL_35MM, _FOCAL_MM, _WIDTH, _HEIGHT = 0xA405, 0x920A, 0xA002, 0xA003
_SENSOR_RESOLUTION, _SENSOR_UNIT = 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}  # Inch, centimetre, millimetre.
_SAME_SHAPE = 0.02  # Relative difference of the aspect ratio beyond which a photograph counts as cut.


@dataclasses.dataclass(frozen=True)
class Lens:
    """The focal length of a photograph; the principal point is the middle of the image.

    Attributes:
      focal_px: pixels of the photograph.
      source: `exif`, `given` or `assumed`.
    """

    focal_px: float | int
    source: str

    def sentence(self, size: Sequence[int] | np.ndarray, again: bool = False) -> str:
        """Says what the focal length is and where it comes from.

        Args:
          size: width and height of the photograph, pixels.
          again: the assumption was explained before.
        """
        film = self.focal_px * _FILM_DIAGONAL_MM / math.hypot(*size)
        origin = {
            "exif": "from EXIF",
            "given": "as given",
            "assumed": "assumed as above"
            if again
            else f"assumed: the file says nothing usable, so its diagonal counts as that of a {ASSUMED_MM:g} mm "
            "lens on 35 mm film; --focal=PIXELS sets it",
        }[self.source]
        return f"focal length {self.focal_px:.0f} px ({film:.0f} mm on 35 mm film), {origin}"


def lens(size: Sequence[int] | np.ndarray, focal_px: float | int | None = None) -> Lens:
    """The lens that the user gives, or else the assumption.

    Args:
      size: width and height of the photograph, pixels.
      focal_px: pixels; None assumes the field of view of a 50 mm lens on 35 mm film over the diagonal.

    Raises:
      ValueError: a focal length that is not finite, or no focal length of a photograph of this size.
    """
    diagonal = math.hypot(*size)
    if focal_px is None:
        return Lens(diagonal * ASSUMED_MM / _FILM_DIAGONAL_MM, "assumed")
    low, high = (limit * diagonal for limit in _FOCAL_LIMITS)
    if not low <= focal_px <= high:
        raise ValueError(
            f"A focal length of {focal_px:g} px is none of a photograph of {size[0]} x {size[1]} pixels; expected "
            f"{low:.0f} to {high:.0f} px (the diagonal in pixels x millimetres on 35 mm film / {_FILM_DIAGONAL_MM:.1f})."
        )
    return Lens(float(focal_px), "given")


def lens_of_photo(path: str | os.PathLike, focal_px: float | int | None = None) -> Lens:
    """The lens of an image file: as given, else from EXIF, else the assumption of `lens`.

    EXIF states the focal length for 35 mm film (of equal diagonal), or that of the lens in millimetres with the pixels
    per length of the sensor. It is not used where the photograph was cut, that is, where its aspect ratio is not the one
    that EXIF states. No entry is trusted: what is not a sensible number counts as absent.

    Args:
      path: of an image (`untrusted.IMAGE_FORMATS`).
      focal_px: pixels; None reads EXIF.

    Raises:
      ValueError: see `lens`; or the file is no image.
      OSError: the file cannot be opened.
    """
    with untrusted.open_image(path) as image:
        size = image.size
        if focal_px is None:
            focal_px = _exif_focal_px(image.getexif().get_ifd(_EXIF_PHOTO), size)
            try:
                return lens(size) if focal_px is None else dataclasses.replace(lens(size, focal_px), source="exif")
            except ValueError:
                return lens(size)
    return lens(size, focal_px)


def _exif_focal_px(entries: Mapping[int, Any], size: tuple[int, int]) -> float | None:
    """Pixels, or None where the entries say nothing about this image."""
    stated = [_number(entries.get(tag)) for tag in (_WIDTH, _HEIGHT)]
    if stated[0] and stated[1]:
        ratio = (stated[0] / stated[1]) / (size[0] / size[1])
        if abs(ratio - 1) > _SAME_SHAPE:
            return None
    if film_mm := _number(entries.get(_FOCAL_35MM)):
        return film_mm * math.hypot(*size) / _FILM_DIAGONAL_MM
    focal_mm, resolution = _number(entries.get(_FOCAL_MM)), _number(entries.get(_SENSOR_RESOLUTION))
    unit_mm = _UNIT_MM.get(entries.get(_SENSOR_UNIT, 2))
    if not (focal_mm and resolution and unit_mm):
        return None
    shrunk = size[0] / stated[0] if stated[0] else 1.0
    return focal_mm * resolution / unit_mm * shrunk


def _number(value: Any) -> float | None:
    """A positive finite number, or None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def intrinsics(focal_px: float, size: Sequence[int] | np.ndarray) -> Float[np.ndarray, "3 3"]:
    """The camera matrix with the principal point in the middle of an image of this width and height, pixels."""
    return np.array([[focal_px, 0, size[0] / 2], [0, focal_px, size[1] / 2], [0, 0, 1]], np.float32)


def crop_focal(lens: Lens, box_scale: float) -> float:
    """The focal length of a photograph in half-sides of a crop of `box_scale` x 200 pixels.

    It is kept within bounds (`image_cameras.crop_focal`).
    """
    return float(image_cameras.crop_focal(np.float64(lens.focal_px), np.float64(box_scale)))


def place(
    points: Float[Array, "M K 3"],
    cam: Float[Array, "M 3"],
    known: Float[Array, "K"],
    box_center: Float[Array, "2"],
    box_scale: Float[Array, ""],
    intrinsics: Float[Array, "3 3"],
    focal: Float[Array, ""] | float = cameras.FOCAL,
) -> tuple[Float[Array, "3 3"], Float[Array, "M 3"]]:
    """Where bodies stand before the camera of the photograph, so that they look as they do in the crop.

    The crop's camera looks along its own axis, the photograph's sees the person in the direction of the crop's centre:
    the bodies are turned by the rotation between the two. The translation then puts the joints where the crop's camera
    shows them (linear least squares, `image_cameras.translation_from_keypoints`), the known ones only where there are four or
    more. Since bodies are metric and the focal length is one, people of one photograph get consistent depths.

    What remains is perspective, unless the crop's camera has the photograph's focal length (`crop_focal`): the one of
    networks is almost orthographic, so the nearer the true camera, the more of a limb that points at it is seen larger
    than in the crop.

    Args:
      points: J24 of the body model's frame (`joints24 + midhip`), metres.
      cam: (s, tx, ty) of each body's crop camera.
      known: > 0 for joints whose keypoint is known.
      box_center: of the crop, pixels of the photograph.
      box_scale: the crop's side / 200 pixels.
      intrinsics: of the photograph, pixels.
      focal: of the crop's camera, in half-sides of the crop.

    Returns:
      R and t with `p_camera = R p + t` for a point p of the body model's frame; R is the same for all bodies.
    """
    num = cam.shape[0]
    center, scale = jnp.broadcast_to(box_center, (num, 2)), jnp.broadcast_to(box_scale, (num,))
    camera = jnp.broadcast_to(intrinsics, (num, 3, 3))
    R = image_cameras.rotation_to_ray(box_center, intrinsics)
    turned = exact.einsum("ab,mkb->mka", R, points)
    seen_px = image_cameras.crop_to_image(cameras.project_crop(points, cam, focal), center, scale)
    few = jnp.sum(known > 0) < _FEWEST_KEYPOINTS
    weights = jnp.broadcast_to(jnp.where(few, 1.0, known > 0), seen_px.shape[:2])
    t = image_cameras.translation_from_keypoints(turned, seen_px, weights, camera)
    by_origin, _ = image_cameras.crop_camera_to_full(cam, center, scale, camera)
    nearest = jnp.min(turned[..., 2], axis=1) + t[:, 2]
    return R, jnp.where((nearest > _NEAREST)[:, None], t, by_origin)
