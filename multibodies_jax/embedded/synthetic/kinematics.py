"""Rotations and posed skeletons of many people at once, in NumPy: for worker processes that never start JAX."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from multibodies_jax.geometry import joints


def axis_angle_to_matrix(axis_angle: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation vectors (radians) to matrices, float64."""
    matrices = Rotation.from_rotvec(axis_angle.reshape(-1, 3).astype(np.float64)).as_matrix()
    return matrices.reshape(*axis_angle.shape, 3)


def matrix_to_axis_angle(rotmats: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Matrices to rotation vectors with angles in [0, pi], float64."""
    vectors = Rotation.from_matrix(rotmats.reshape(-1, 3, 3)).as_rotvec()
    return vectors.reshape(rotmats.shape[:-1])


def about(axis: str, angle_deg: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotations about a coordinate axis, "x", "y" or "z", by angles in degrees."""
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    angle = np.radians(angle_deg)
    rotmats = np.zeros((*angle.shape, 3, 3))
    rotmats[..., i, i] = 1
    rotmats[..., j, j] = rotmats[..., k, k] = np.cos(angle)
    rotmats[..., k, j] = np.sin(angle)
    rotmats[..., j, k] = -np.sin(angle)
    return rotmats


def forward_kinematics(
    rotmats: Float[np.ndarray, "*batch 24 3 3"], rest_joints: Float[np.ndarray, "*batch 24 3"]
) -> tuple[Float[np.ndarray, "*batch 24 3 3"], Float[np.ndarray, "*batch 24 3"]]:
    """World rotation and world position of every joint; the root turns about its own rest position.

    Args:
      rotmats: of each joint relative to its parent.
      rest_joints: joint centres of the rest pose, metres.
    """
    R_world = np.empty_like(rotmats)
    p_world = np.empty_like(rest_joints)
    R_world[..., 0, :, :] = rotmats[..., 0, :, :]
    p_world[..., 0, :] = rest_joints[..., 0, :]
    for child, parent in list(enumerate(joints.SMPL_PARENTS))[1:]:
        bone = rest_joints[..., child, :] - rest_joints[..., parent, :]
        R_world[..., child, :, :] = R_world[..., parent, :, :] @ rotmats[..., child, :, :]
        p_world[..., child, :] = p_world[..., parent, :] + (R_world[..., parent, :, :] @ bone[..., None])[..., 0]
    return R_world, p_world
