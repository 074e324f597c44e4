"""The camera of the image that an example was cropped from, as the crop's camera has it."""

from typing import no_type_check

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax.data import augment, pipeline
from multibodies_jax.geometry import boxes, cameras, image_cameras

_NAMES = ("intrinsics", "intrinsics_valid", "box_center", "box_scale")


@no_type_check  # Holds NumPy arrays, then those of a device.
class Lens(flax.struct.PyTreeNode):
    """Of a batch of examples.

    Attributes:
      focal: of the crop's camera, half-sides: that of the image where it is known, else that of the networks.
      turn: takes the frame of the crop's camera, which looks at the crop's centre, to that of the image's camera; the
        identity where that is not known.
      offset: where the image's optical axis lies in the crop, in [-1, 1] of it, as bodies that are not turned appear about
        it; None, or 0 where that is not known: at the centre.
    """

    focal: Float[Array | np.ndarray, "B"]
    turn: Float[Array | np.ndarray, "B 3 3"]
    offset: Float[Array | np.ndarray, "B 2"] | None = None


def row(record: augment.Record) -> dict[str, np.ndarray]:
    """What of an example `of_rows` reads."""
    return {name: np.asarray(record[name], np.float32) for name in _NAMES}


def of_rows(rows: pipeline.Rows) -> Lens | None:
    """The lenses of rows that are stacked; None where they say nothing."""
    if any(name not in rows for name in _NAMES):
        return None
    known = rows["intrinsics_valid"] > 0
    K = np.where(known[:, None, None], rows["intrinsics"], np.eye(3, dtype=np.float32))
    focal_px = np.sqrt(K[:, 0, 0] * K[:, 1, 1])
    focal = np.where(known, image_cameras.crop_focal(focal_px, rows["box_scale"]), cameras.FOCAL)
    turn = np.asarray(image_cameras.rotation_to_ray(jnp.asarray(rows["box_center"]), jnp.asarray(K)))
    turn = np.where(known[:, None, None], turn, np.eye(3, dtype=np.float32))
    offset = (K[:, :2, 2] - rows["box_center"]) / boxes.half_side(np.asarray(rows["box_scale"])[:, None])
    offset = np.where(known[:, None], offset, 0)
    return Lens(focal.astype(np.float32), turn.astype(np.float32), offset.astype(np.float32))
