"""The camera of the crop, through which networks see people and losses compare them with keypoints.

Camera frame: x right, y down, z forward, metres. A crop is a square of side 200 x scale around a centre, and spans
[-1, 1] in its own coordinates. `image_cameras` has the cameras of the whole image.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

FOCAL_PX, CROP_PX = 5000.0, 224.0  # In pixels of a crop that is 224 wide, whatever its real size (HMR, SPIN).
FOCAL = 2 * FOCAL_PX / CROP_PX
"""The same in half-sides of the crop, 44.6: what networks are trained with. Where the photograph's lens is known, a fit
may use its focal length instead."""

_NEAREST = 1e-2  # Points nearer than this share of the camera's distance are held there.


def project_crop(
    p: Float[Array, "*b K 3"], cam: Float[Array, "*b 3"], focal: Float[Array, "*#b"] | float = FOCAL
) -> Float[Array, "*b K 2"]:
    """Where points of the body model's frame appear in the crop, in [-1, 1].

    The camera (s, tx, ty) stands for the translation t = (tx, ty, f / s) with the focal length f in half-sides of the
    crop, and the result is f (p + t)_xy / (p + t)_z. It is computed as s (p + t)_xy / (1 + s p_z / f), which is the
    same but has no pole at s = 0, where training may pass.
    """
    scale = cam[..., None, :1]
    depth = 1 + scale * p[..., 2:] / (focal if jnp.ndim(focal) == 0 else jnp.asarray(focal)[..., None, None])
    return scale * (p[..., :2] + cam[..., None, 1:]) / jnp.maximum(depth, _NEAREST)
