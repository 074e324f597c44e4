"""Whether fits of a set belong to its rows: they lie nearer to the keypoints of their own row than to those of others."""

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.body import smpl
from multibodies_jax.data import augment, fit_files, pipeline
from multibodies_jax.fitting import smplify
from multibodies_jax.geometry import rotations

ROWS = 200
"""How many rows are looked at, evenly over the set."""

_FEWEST = 20
_FARTHEST = 1e4  # px^2; no finite distance is larger.
_MOST = 0.7  # Of the distance to other rows' keypoints; of SMPLify's first fits it is 0.01 (configs/spin.py).


def check(
    name: str, source: pipeline.Source, fits: fit_files.Fits, joint_model: smpl.JointModel, crop_size: int
) -> None:
    """Refuses fits of another order than the set's.

    Their median distance from the keypoints of their rows (`smplify.stored_loss_px2`) is compared with that from the keypoints
    of other rows. Fits that are all alike, as zeros where the data have SMPL parameters, have no order.

    Args:
      name: of the set.
      source: its records.
      fits: as many.
      joint_model: the body contracted with the J24 regressor.
      crop_size: of the crops, pixels.

    Raises:
      fit_files.FitsError: they are of another order.
    """
    valid = np.flatnonzero(fits.valid)
    rows = valid[np.unique(np.linspace(0, len(valid) - 1, ROWS).astype(int))] if len(valid) >= _FEWEST else valid[:0]
    if not len(rows) or np.ptp(fits.pose[rows], axis=0).max() == 0:
        return
    examples = [augment.evaluation_example(source[int(row)], crop_size, with_image=False) for row in rows]
    keypoints = smplify.crop_keypoints(*(jnp.stack([e[key] for e in examples]) for key in ("kp2d", "kp2d_valid")))
    rotmats = rotations.axis_angle_to_matrix(jnp.asarray(fits.pose[rows], jnp.float32))
    betas = jnp.asarray(fits.betas[rows], jnp.float32)
    measure = jax.jit(smplify.stored_loss_px2)
    own = np.asarray(measure(rotmats, betas, keypoints, joint_model))
    shift = len(rows) // 2
    others = jax.tree.map(lambda x: jnp.roll(x, shift, axis=0), keypoints)
    other = np.asarray(measure(rotmats, betas, others, joint_model))
    seen = np.asarray(smplify.counts(keypoints.confidence)).any(axis=1)
    seen &= np.roll(seen, shift)
    if seen.sum() < _FEWEST:
        return
    # Infinite where no camera shows a body near the keypoints: as far as can be.
    near, far = (np.median(np.minimum(distance[seen], _FARTHEST)) for distance in (own, other))
    if near > _MOST * far:
        raise fit_files.FitsError(
            f"The fits of {name} are of other rows: their median distance from the keypoints of their own rows is {near:.0f} px^2, "
            f"from those of other rows {far:.0f}, where a small part of it is expected. Fits belong to the rows of one set in "
            "its order, with their root in the camera frame: check the archive, list and options that they were made for."
        )
