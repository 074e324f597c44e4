"""Plausible people without data: poses from clinical joint angles, and shapes."""

import numpy as np
from jaxtyping import Float, Int

from multibodies_jax.embedded.clinical_angles import to_rotations
from multibodies_jax.embedded.synthetic import families
from multibodies_jax.embedded.synthetic.collisions import penetration
from multibodies_jax.geometry import joints
from multibodies_jax.geometry.rotations_np import matrix_to_axis_angle

MAX_PENETRATION = 0.035  # Metres: deeper overlaps of body parts are drawn again.
MAX_BETA = 2.0  # Beyond, shapes stop looking like people.

_TRIES = 12


def sample_poses(n: int, rng: np.random.Generator) -> tuple[Float[np.ndarray, "n 24 3"], Int[np.ndarray, "n"]]:
    """Draws poses of thirteen families of activity (`families`), half of them mirrored.

    Poses that cut deeply into themselves are drawn again, up to twelve times; then the best one stays.

    Args:
      n: number of poses; a few hundred at a time are most efficient.
      rng: decides everything.

    Returns:
      Axis-angle poses (float32, radians) with an upright root (y up, facing +z, up to the lean of the family), and the
      index of each one's family in `families.NAMES`.
    """
    family = rng.choice(len(families.NAMES), n, p=families.SHARES)
    rotmats = to_rotations(families.draw(rng, family)) if n else np.zeros((0, 24, 3, 3))
    depth = penetration(rotmats)
    for _ in range(_TRIES - 1):
        again = np.flatnonzero(depth > MAX_PENETRATION)
        if not len(again):
            break
        new = to_rotations(families.draw(rng, family[again]))
        new_depth = penetration(new)
        better = new_depth < depth[again]
        rotmats[again[better]] = new[better]
        depth[again[better]] = new_depth[better]
    poses = matrix_to_axis_angle(rotmats)
    mirrored = rng.random(n) < 0.5
    poses[mirrored] = mirror_pose(poses[mirrored])
    return poses.astype(np.float32), family


def mirror_pose(poses: Float[np.ndarray, "*batch 24 3"]) -> Float[np.ndarray, "*batch 24 3"]:
    """The pose of the mirror image (x reversed): sides change places, rotations about y and z change sign."""
    return poses[..., joints.SMPL_FLIP, :] * np.array([1, -1, -1], poses.dtype)


def sample_betas(n: int, rng: np.random.Generator, components: int = 10) -> Float[np.ndarray, "n components"]:
    """Draws shape coefficients from N(0, 1), clipped to +-`MAX_BETA` (float32)."""
    return np.clip(rng.standard_normal((n, components)), -MAX_BETA, MAX_BETA).astype(np.float32)
