"""2D consistency in cameras that the model did not see: a set with synchronised cameras says where they see the joints.

A body that was predicted from one view is put with its mid-hip at the true one and projected into the other views. Its
distance from the keypoints there depends on what one view cannot tell, the depth of the limbs, and needs no 3D joints
except the mid-hip.
"""

from typing import no_type_check

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.data import augment, pipeline
from multibodies_jax.geometry import boxes, cameras, centring, joints

METRIC = "other_views_px"

_LIMBS = np.array([name in joints.J24[:12] for name in joints.J24])
_NAMES = ("midhip", "rotation", "translation", "intrinsics", "distortion", "kp2d", "valid", "unit")
_PREFIX = "view_"
_NEAREST = 1e-2  # Metres; points nearer to a camera, or behind, are held there.


@no_type_check  # Holds NumPy arrays, then those of a device.
class OtherViews(flax.struct.PyTreeNode):
    """What the cameras of a set see of the frames of a batch; C cameras.

    Attributes:
      midhip: the true one in the frame of the example's own camera, metres.
      rotation, translation: from that frame to each camera's.
      intrinsics, distortion: of each camera; k1, k2, p1, p2 of OpenCV.
      kp2d: pixels of each camera's images.
      valid: 1 for the limb joints that a camera sees; 0 for all of the example's own camera.
      unit: pixels of a crop of 224 per pixel of the image.
    """

    midhip: Float[Array, "B 3"]
    rotation: Float[Array, "B C 3 3"]
    translation: Float[Array, "B C 3"]
    intrinsics: Float[Array, "B C 3 3"]
    distortion: Float[Array, "B C 4"]
    kp2d: Float[Array, "B C 24 2"]
    valid: Float[Array, "B C 24"]
    unit: Float[Array, "B C"]


def row(record: augment.Record) -> dict[str, np.ndarray]:
    """What of an example `of_rows` reads; nothing of sets without several views."""
    if "view" not in record:
        return {}
    R, t = (record["views_world_to_camera"].astype(np.float64)[..., part] for part in (slice(0, 3), 3))
    own = int(record["view"])
    rotation = R @ R[own].T
    valid = record["views_kp2d_valid"] * _LIMBS
    valid[own] = 0
    values = {
        "midhip": centring.midhip(np.asarray(record["joints3d"])),
        "rotation": rotation,
        "translation": t - rotation @ t[own],
        "intrinsics": record["views_intrinsics"],
        "distortion": record["views_distortion"],
        "kp2d": record["views_kp2d"],
        "valid": valid,
        "unit": cameras.CROP_PX / (boxes.SIDE * record["views_box_scale"]),
    }
    return {_PREFIX + name: np.asarray(value, np.float32) for name, value in values.items()}


def of_rows(rows: pipeline.Rows) -> OtherViews | None:
    """The views of rows that are stacked; None of sets without several."""
    if _PREFIX + _NAMES[0] not in rows:
        return None
    return OtherViews(**{name: rows[_PREFIX + name] for name in _NAMES})


def error_px(joints24: Float[Array, "B M 24 3"], turn: Float[Array, "B 3 3"], views: OtherViews) -> Float[Array, "B M"]:
    """Mean distance of the projected limb joints to the keypoints of the other views, in pixels of a crop of 224.

    Args:
      joints24: metres, mid-hip centred, in the frame of the crop's camera.
      turn: from that frame to the example's own camera's.
      views: the other cameras.

    Returns:
      NaN where no other view sees a limb joint.
    """
    own = exact.einsum("bac,bmkc->bmka", turn, joints24) + views.midhip[:, None, None]
    points = exact.einsum("bvac,bmkc->bmvka", views.rotation, own)
    points = points + views.translation[:, None, :, None]
    seen = _pixels(points, views.intrinsics[:, None], views.distortion[:, None])
    distance = jnp.linalg.norm(seen - views.kp2d[:, None], axis=-1) * views.unit[:, None, :, None]
    valid = views.valid[:, None] > 0
    return jnp.sum(jnp.where(valid, distance, 0.0), axis=(2, 3)) / jnp.sum(valid, axis=(2, 3))


def _pixels(
    points: Float[Array, "*b 24 3"], intrinsics: Float[Array, "*#b 3 3"], distortion: Float[Array, "*#b 4"]
) -> Float[Array, "*b 24 2"]:
    """Projects points with a lens that distorts (OpenCV's model with k1, k2, p1, p2)."""
    xy = points[..., :2] / jnp.maximum(points[..., 2:], _NEAREST)
    x, y = xy[..., 0], xy[..., 1]
    k1, k2, p1, p2 = (distortion[..., None, k] for k in range(4))
    r2 = x**2 + y**2
    radial = 1 + r2 * (k1 + r2 * k2)
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
    v = y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    homogeneous = jnp.stack([u, v, jnp.ones_like(u)], axis=-1)
    return exact.einsum(
        "...ac,...kc->...ka", jnp.broadcast_to(intrinsics, (*u.shape[:-1], 3, 3))[..., :2, :], homogeneous
    )
