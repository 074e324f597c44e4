"""Skinning weights: bone regions cut by anatomical planes, then heat flow on the mesh with a local radius."""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jaxtyping import Float, Int

from multibodies_jax.embedded.mannequin.skeleton import joint, rest_joints
from multibodies_jax.embedded.mannequin.triangles import Faces, Verts, cotangent_laplacian
from multibodies_jax.geometry import joints

# How far the influence of a bone reaches past its border, metres.
_REACH = {
    "pelvis": 0.055,
    "spine1": 0.055,
    "spine2": 0.050,
    "spine3": 0.050,
    "neck": 0.030,
    "head": 0.022,
    "collar": 0.045,
    "shoulder": 0.038,
    "elbow": 0.030,
    "wrist": 0.020,
    "hand": 0.012,
    "hip": 0.055,
    "knee": 0.036,
    "ankle": 0.022,
    "foot": 0.014,
}


def _assign_trunk(part: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, at: dict[str, np.ndarray]) -> None:
    """Horizontal, slightly tilted slices; then the neck, the head, and the chin that hangs in front of the neck."""
    part[y > at["spine1"][1] - 0.020] = joint("spine1")
    part[y > at["spine2"][1] - 0.035] = joint("spine2")
    part[y > at["spine3"][1]] = joint("spine3")
    part[(y - 0.25 * z > 1.452) & (x < 0.088)] = joint("neck")
    part[y - 0.55 * z > 1.532 - 0.004 * 0.55] = joint("head")
    part[(y > 1.472) & (z > 0.035)] = joint("head")


def _assign_arm(part: np.ndarray, x: np.ndarray, y: np.ndarray, at: dict[str, np.ndarray]) -> None:
    """The arms are stretched out sideways, so that x cuts them; the shoulder is cut obliquely.

    The shoulder's plane leans outwards towards the armpit. Leaning the other way, the chest collapses when the arm is
    lowered and grows wings when it is raised.
    """
    girdle = (x > 0.060) & (y > 1.325 - 0.1 * (x - 0.06)) & (part == joint("spine3"))
    part[girdle] = joint("left_collar")
    shoulder = at["left_shoulder"]
    arm = (x - shoulder[0]) * 0.95 + (y - shoulder[1]) * 0.22 > 0.002
    part[arm & (y > 1.18) & (x > 0.14)] = joint("left_shoulder")
    for name, margin in (("left_elbow", 0.0), ("left_wrist", 0.0), ("left_hand", 0.004)):
        part[(x > at[name][0] + margin) & (y > 1.18)] = joint(name)


def _assign_leg(part: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, at: dict[str, np.ndarray]) -> None:
    """An oblique plane through the groin, then across the leg."""
    hip, ankle, foot = at["left_hip"], at["left_ankle"], at["left_foot"]
    leg = (y - hip[1]) - 0.85 * (x - hip[0]) + 0.10 * (z - hip[2]) < 0.004
    part[leg & (y < 1.0)] = joint("left_hip")
    part[y < at["left_knee"][1]] = joint("left_knee")
    part[((y - ankle[1]) - 0.55 * (z - ankle[2]) < 0.0) & (y < 0.16)] = joint("left_ankle")
    part[(y < 0.12) & (z > foot[2])] = joint("left_foot")


def bone_regions(verts: Verts) -> Int[np.ndarray, "V"]:
    """The joint whose bone owns each vertex of the template (floor at y = 0); mid-line vertices count as left."""
    x, y, z = np.abs(verts[:, 0]), verts[:, 1], verts[:, 2]
    at = dict(zip(joints.SMPL24, rest_joints(), strict=True))
    part = np.full(len(verts), joint("pelvis"))
    _assign_trunk(part, x, y, z, at)
    _assign_arm(part, x, y, at)
    _assign_leg(part, x, y, z, at)
    return np.where(verts[:, 0] < 0, joints.SMPL_FLIP[part], part)


def _reach(verts: Verts) -> Float[np.ndarray, "V"]:
    """The radius of the joints near each vertex (soft nearest joint)."""
    radius = np.array([_REACH[name.removeprefix("left_").removeprefix("right_")] for name in joints.SMPL24])
    distance = np.linalg.norm(verts[:, None] - rest_joints(), axis=2)
    nearness = np.exp(-((distance - distance.min(1, keepdims=True)) / 0.05))
    return (nearness * radius).sum(1) / nearness.sum(1)


def _keep_largest(weights: Float[np.ndarray, "V 24"], num: int) -> Float[np.ndarray, "V 24"]:
    """Keeps `num` weights per row, less the next one, so that a weight fades out before it is dropped."""
    kept = np.zeros_like(weights, bool)
    np.put_along_axis(kept, np.argsort(-weights, 1, kind="stable")[:, :num], True, 1)
    next_one = np.maximum(np.sort(weights, 1)[:, -num - 1, None], 0.01)
    weights = np.where(kept, np.maximum(weights - next_one, 0), 0)
    return weights / weights.sum(1, keepdims=True)


def skinning_weights(verts: Verts, faces: Faces, mirror_map: np.ndarray) -> Float[np.ndarray, "V 24"]:
    """Skinning weights: smooth, mirror-symmetric, at most four per vertex; rows sum to 1.

    Args:
      verts, faces: the template, floor at y = 0.
      mirror_map: the mirror image of each vertex.
    """

    def symmetric(weights: np.ndarray) -> np.ndarray:
        return 0.5 * (weights + weights[mirror_map][:, joints.SMPL_FLIP])

    weights = symmetric(np.eye(24)[bone_regions(verts)])  # Shares mid-line vertices, or the flow would be lopsided.
    stiffness, area = cotangent_laplacian(verts, faces)
    rate = area / (_reach(verts) / np.sqrt(2)) ** 2
    flow = spl.splu(sp.csc_matrix(sp.diags(rate) + stiffness))
    for _ in range(2):  # Two implicit heat steps are smoother than one.
        weights = flow.solve(rate[:, None] * weights)
    return _keep_largest(symmetric(weights), 4)
