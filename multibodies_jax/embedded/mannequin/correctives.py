"""Pose blend shapes: what linear skinning lacks of a volume-keeping skinning, as a linear function of the rotations.

The target rotates each vertex about its optimised centre of rotation. Its difference to linear skinning, pulled back to
the rest pose, is fitted by ridge regression on the 207 entries of R - I. A vertex may only depend on joints between the
bones that skin it, which keeps the correctives local and sparse.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from multibodies_jax.embedded.mannequin import poses, posing
from multibodies_jax.embedded.mannequin.skeleton import moving_joints
from multibodies_jax.embedded.mannequin.triangles import Faces, Verts
from multibodies_jax.geometry import joints, rotations_np

# Standard deviation of random rotations, degrees: wide enough that no direction of any joint is extrapolated.
_SPREAD = {
    "spine1": 18,
    "spine2": 18,
    "spine3": 18,
    "neck": 22,
    "head": 22,
    "collar": 14,
    "shoulder": 45,
    "elbow": 25,
    "wrist": 40,
    "hip": 30,
    "knee": 12,
    "ankle": 22,
    "foot": 20,
    "hand": 15,
}


def _random_rotations(rng: np.random.Generator, factor: float) -> Float[np.ndarray, "24 3 3"]:
    """Independent rotations of all joints but the root."""
    spread = [0.0] + [_SPREAD[name.split("_")[-1]] for name in joints.SMPL24[1:]]
    return rotations_np.axis_angle_to_matrix(rng.normal(size=(24, 3)) * np.radians(factor * np.array(spread))[:, None])


def training_poses(num: int, rng: np.random.Generator) -> Float[np.ndarray, "N 24 3 3"]:
    """A third in the range of motion, a third of such poses disturbed, and a third of independent rotations."""
    within = [poses.pose(poses.random_angles(rng)) for _ in range(num // 3)]
    disturbed = [
        poses.pose(poses.random_angles(rng)) @ _random_rotations(rng, 1.0) for _ in range((num - num // 3) // 2)
    ]
    free = [_random_rotations(rng, 1.5) for _ in range(num - len(within) - len(disturbed))]
    return np.stack(within + disturbed + free)


def _rest_targets(
    verts: Float[np.ndarray, "n 3"],
    centers: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, "n 24"],
    rest: Float[np.ndarray, "24 3"],
    rotmats: Float[np.ndarray, "24 3 3"],
) -> Float[np.ndarray, "n 3"]:
    """The displacement in the rest pose that would take linear skinning to the target."""
    R_world, offset = posing.pose_bones(rotmats, rest)
    T = np.einsum("vj,jab->vab", weights, R_world)
    linear = np.einsum("vab,vb->va", T, verts) + weights @ offset
    target = posing.rotate_about_centers(verts, centers, weights, R_world, offset)
    # Damped inverse of the blended rotation, which is singular where bones turn against each other by 180 degrees.
    normal = np.einsum("vba,vbc->vac", T, T) + 0.05 * np.eye(3)
    moved = np.linalg.solve(normal, np.einsum("vba,vb->va", T, target - linear)[..., None])[..., 0]
    # Near there the target blows up: saturate it below the distance to the centre, or a ridge runs around the shoulder.
    limit = np.clip(0.7 * np.linalg.norm(verts - centers, axis=1, keepdims=True), 0.02, 0.06)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return moved * (limit * np.tanh(length / limit) / np.maximum(length, 1e-9))


def _solve_by_joints(
    gram: Float[np.ndarray, "P P"], cross: Float[np.ndarray, "P n 3"], moving: Bool[np.ndarray, "n 24"]
) -> Float[np.ndarray, "n 3 P"]:
    """Solves the normal equations, once for all vertices that depend on the same joints."""
    solution = np.zeros((*cross.shape[1:], len(gram)))
    for pattern in np.unique(moving, axis=0):
        features = np.flatnonzero(np.repeat(pattern[1:], 9))
        same = np.flatnonzero((moving == pattern).all(1))
        right_side = cross[features][:, same].reshape(len(features), -1)
        found = np.linalg.solve(gram[np.ix_(features, features)], right_side)
        solution[same[:, None], :, features[None]] = found.reshape(len(features), len(same), 3).transpose(1, 0, 2)
    return solution


def _symmetric(posedirs: Float[np.ndarray, "V 3 P"], mirror_map: Int[np.ndarray, "V"]) -> Float[np.ndarray, "V 3 P"]:
    """The mean with the mirror image: joints and vertices swap sides, x changes its sign in vectors and matrices."""
    sign = np.array([-1.0, 1.0, 1.0])
    by_joint = posedirs.reshape(len(posedirs), 3, 23, 3, 3)
    mirrored = by_joint[mirror_map][:, :, joints.SMPL_FLIP[1:] - 1]
    mirrored = mirrored * sign[None, :, None, None, None] * np.outer(sign, sign)[None, None, None]
    return 0.5 * (posedirs + mirrored.reshape(posedirs.shape))


def fit_posedirs(
    verts: Verts,
    faces: Faces,
    weights: Float[np.ndarray, "V 24"],
    rest: Float[np.ndarray, "24 3"],
    mirror_map: Int[np.ndarray, "V"],
    rotmats: Float[np.ndarray, "N 24 3 3"],
    progress: Callable[[str], None],
    ridge: float = 2e-3,
) -> Float[np.ndarray, "V 3 207"]:
    """Fits the pose blend shapes to training poses.

    Args:
      verts, faces: the template.
      weights: skinning weights.
      rest: its joints.
      mirror_map: the mirror image of each vertex.
      rotmats: training poses with an upright root.
      progress: called with a text from time to time.
      ridge: regularisation per pose.

    Returns:
      Displacement of each vertex per unit of each pose feature, metres; mirror-symmetric.
    """
    bent = np.flatnonzero((weights > 1e-4).sum(1) > 1)  # The others follow one bone and need no correction.
    centers = posing.centers_of_rotation(verts, faces, weights)[bent]
    features = (rotmats[:, 1:] - np.eye(3)).reshape(len(rotmats), 207)
    gram = features.T @ features + ridge * len(rotmats) * np.eye(207)
    cross = np.zeros((207, len(bent) * 3))
    chunk = 100
    for start in range(0, len(rotmats), chunk):
        some = rotmats[start : start + chunk]
        targets = [_rest_targets(verts[bent], centers, weights[bent], rest, pose) for pose in some]
        cross += features[start : start + chunk].T @ np.stack(targets).reshape(len(some), -1)
        progress(f"pose correctives: {start + len(some)}/{len(rotmats)} poses")
    posedirs = np.zeros((len(verts), 3, 207))
    posedirs[bent] = _solve_by_joints(gram, cross.reshape(207, len(bent), 3), moving_joints(weights)[bent])
    return _symmetric(posedirs, mirror_map)
