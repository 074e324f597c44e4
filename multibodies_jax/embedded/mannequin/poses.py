"""Poses of the mannequin: the relaxed stand, and random ones within the normal range of motion."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from multibodies_jax.embedded import clinical_angles

# Within the ranges of `clinical_angles`; the shipped body was fitted to toes and fingers that move less.
_LIMITS = clinical_angles.LIMITS | {"toe_extension": (-10, 40), "finger_flexion": (0, 40)}
_NAMES = (
    *clinical_angles.TRUNK,
    *(f"{side}_{name}" for side in ("left", "right") for name in clinical_angles.LIMBS),
)
LIMITS = {name: _LIMITS[name.removeprefix("left_").removeprefix("right_")] for name in _NAMES}

# A relaxed stand: the start of iterative regressors, and the middle of what people do (a T-pose is not).
STANDING = {"spine_flexion": 6.0, "neck_flexion": 4.0} | {
    f"{side}_{name}": angle
    for side in ("left", "right")
    for name, angle in {
        "hip_flexion": 12.0,
        "hip_abduction": 5.0,
        "knee_flexion": 20.0,
        "ankle_dorsiflexion": 4.0,
        "shoulder_elevation": 28.0,
        "shoulder_plane": 25.0,
        "shoulder_rotation": 8.0,
        "elbow_flexion": 32.0,
        "finger_flexion": 12.0,
    }.items()
}


def pose(angles: Mapping[str, float]) -> Float[np.ndarray, "24 3 3"]:
    """SMPL rotations of a pose; the root is not turned.

    Args:
      angles: degrees, by the names of `LIMITS`; what is absent is 0.

    Raises:
      ValueError: an unknown name.
    """
    if unknown := sorted(set(angles) - set(LIMITS)):
        raise ValueError(f"Unknown clinical angles {', '.join(unknown)}; the known ones are {', '.join(LIMITS)}.")
    both = {name: [angles.get(f"{side}_{name}", 0.0) for side in ("left", "right")] for name in clinical_angles.LIMBS}
    trunk = {name: angles.get(name, 0.0) for name in (*clinical_angles.TRUNK, "root_pitch", "root_roll")}
    arrays = {name: np.array([angle]) for name, angle in (both | trunk).items()}
    return clinical_angles.to_rotations(arrays, limited=False)[0] + 0.0  # Turns -0 into 0, as in the shipped body.


def random_angles(rng: np.random.Generator) -> dict[str, float]:
    """Independent angles within `LIMITS`, degrees, in some poses near rest and in others out to the limits."""
    extent = rng.uniform(0.2, 1.0)
    return {name: extent * rng.uniform(low, high) for name, (low, high) in LIMITS.items()}
