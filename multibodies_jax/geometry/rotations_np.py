"""Rotations and posed skeletons in float64 NumPy, for the generators of the embedded body and sets and for the readers of
poses: their results do not depend on the device, and worker processes need not start JAX.

`geometry.rotations` and `body.smpl` have the same for JAX, in float32 and with gradients.
"""

import numpy as np
from jaxtyping import Float

from multibodies_jax.geometry import joints


def axis_angle_to_matrix(axis_angle: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Axis times angle (radians) to matrices, float64.

    Rodrigues' formula, R = I + sin(a) K + (1 - cos(a)) K^2 with K the cross product with the unit axis. The embedded body
    was generated with this arithmetic: another order of operations changes its last bits.
    """
    axis_angle = np.asarray(axis_angle, np.float64)
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle / np.maximum(angle[..., 0], 1e-12), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def matrix_to_axis_angle(rotmats: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Matrices to axis times angle in [0, pi] radians, float64."""
    from scipy.spatial.transform import Rotation  # Late: prediction needs the rest only, and answers sooner.

    vectors = Rotation.from_matrix(rotmats.reshape(-1, 3, 3)).as_rotvec()
    return vectors.reshape(rotmats.shape[:-1])


def matrix_to_quaternion(R: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b 4"]:
    """Unit quaternions, w first; from the largest of four equivalent forms, so that none divides by a small number."""
    x, y, z = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    trace = x + y + z
    xy, yx, xz, zx, yz, zy = R[..., 0, 1], R[..., 1, 0], R[..., 0, 2], R[..., 2, 0], R[..., 1, 2], R[..., 2, 1]
    forms = np.stack(
        [
            np.stack([1 + trace, zy - yz, xz - zx, yx - xy], -1),
            np.stack([zy - yz, 1 + 2 * x - trace, xy + yx, xz + zx], -1),
            np.stack([xz - zx, xy + yx, 1 + 2 * y - trace, yz + zy], -1),
            np.stack([yx - xy, xz + zx, yz + zy, 1 + 2 * z - trace], -1),
        ],
        -2,
    )
    largest = np.stack([trace, x, y, z], -1).argmax(-1)
    chosen = np.take_along_axis(forms, largest[..., None, None], -2)[..., 0, :]
    return chosen / np.linalg.norm(chosen, axis=-1, keepdims=True)


def about(
    axis: str | Float[np.ndarray, "*batch 3"], angle_deg: Float[np.ndarray, "*batch"] | float
) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotations about a coordinate axis, "x", "y" or "z", or about unit vectors, by angles in degrees."""
    direction = np.eye(3)["xyz".index(axis)] if isinstance(axis, str) else axis
    return axis_angle_to_matrix(direction * np.radians(angle_deg)[..., None])


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
