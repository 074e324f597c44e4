"""Rest-pose joints of a 1.70 m mannequin in a T-pose.

Segment lengths are fractions of stature (Drillis and Contini, 1966), hip centres follow Bell et al. (1990). Axes: x to
the body's left, y up, z forward; metres. While the body is built, the floor is y = 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from multibodies_jax.geometry import joints

PELVIS_ORIGIN = np.array([0.0, -0.24, 0.02])  # Of the finished template: not the origin, so that forgetting it shows.

_LEFT_AND_MIDDLE = {
    "pelvis": (0.000, 0.960, -0.010),
    "spine1": (0.000, 1.065, -0.030),
    "spine2": (0.000, 1.185, -0.032),
    "spine3": (0.000, 1.250, -0.030),
    "neck": (0.000, 1.450, -0.032),
    "head": (0.000, 1.535, -0.004),
    "left_hip": (0.083, 0.885, -0.005),
    "left_knee": (0.103, 0.482, -0.002),
    "left_ankle": (0.112, 0.080, -0.030),
    "left_foot": (0.127, 0.022, 0.092),
    "left_collar": (0.070, 1.372, -0.022),
    "left_shoulder": (0.178, 1.386, -0.028),
    "left_elbow": (0.446, 1.384, -0.034),
    "left_wrist": (0.690, 1.386, -0.028),
    "left_hand": (0.776, 1.382, -0.026),
}


def joint(name: str) -> int:
    """The index of an SMPL joint."""
    return joints.SMPL24.index(name)


def rest_joint(name: str) -> Float[np.ndarray, "3"]:
    """The rest position of a left or mid-line joint, floor at y = 0."""
    return np.array(_LEFT_AND_MIDDLE[name])


def rest_joints() -> Float[np.ndarray, "24 3"]:
    """The rest positions of all joints, floor at y = 0."""
    return both_sides(_LEFT_AND_MIDDLE)


def both_sides(values: Mapping[str, Sequence[float | int] | np.ndarray]) -> Float[np.ndarray, "24 3"]:
    """Vectors given for left and mid-line joints, mirrored to the right; zero for joints that are not named."""
    vectors = np.zeros((24, 3))
    for name, value in values.items():
        vectors[joint(name)] = value
        if name.startswith("left_"):
            vectors[joint(joints.mirrored(name))] = np.asarray(value) * [-1, 1, 1]
    return vectors


def descendants_sum(per_joint: np.ndarray) -> np.ndarray:
    """(..., 24) -> (..., 24): the sum over each joint and everything that hangs below it."""
    total = per_joint.copy()
    for child in range(23, 0, -1):
        total[..., joints.SMPL_PARENTS[child]] += total[..., child]
    return total


def moving_joints(weights: Float[np.ndarray, "V 24"]) -> Bool[np.ndarray, "V 24"]:
    """The joints whose rotation changes the relative pose of the bones that skin a vertex.

    These are the joints on the tree paths between those bones: some, but not all, of the bones hang below them.
    """
    bones = (weights > 1e-4).astype(int)
    below = descendants_sum(bones)
    moving = (below > 0) & (below < bones.sum(1, keepdims=True))
    moving[:, 0] = False
    return moving
