"""Posing in float64 NumPy for the fit of the pose correctives: linear skinning and optimised centres of rotation.

`multibodies_jax.body.smpl` is the forward pass of the project; a generator that is to give the same body on any device stays
clear of it.
"""

import numpy as np
from jaxtyping import Float

from multibodies_jax.embedded.mannequin.triangles import Faces, Verts, areas
from multibodies_jax.geometry import rotations_np


def pose_bones(
    rotmats: Float[np.ndarray, "24 3 3"], rest: Float[np.ndarray, "24 3"]
) -> tuple[Float[np.ndarray, "24 3 3"], Float[np.ndarray, "24 3"]]:
    """World rotation and offset of each bone: it takes a rest-pose point p to R p + t."""
    R_world, position = rotations_np.forward_kinematics(rotmats, rest)
    return R_world, position - np.einsum("jab,jb->ja", R_world, rest)


def centers_of_rotation(verts: Verts, faces: Faces, weights: Float[np.ndarray, "V 24"]) -> Verts:
    """Where each vertex should be rotated about (Le and Hodgins, 2016, eq. 1): amid similarly skinned surface.

    Vertices of a single bone are their own centre.
    """
    area, center, face_weight = areas(verts, faces), verts[faces].mean(1), weights[faces].mean(1)
    total, moment = np.zeros(len(verts)), np.zeros_like(verts)
    for j in range(24):
        for k in range(j + 1, 24):
            v = np.flatnonzero((weights[:, j] > 1e-3) & (weights[:, k] > 1e-3))
            f = np.flatnonzero((face_weight[:, j] > 1e-3) & (face_weight[:, k] > 1e-3))
            if not len(v) or not len(f):
                continue
            vj, vk = weights[v, j, None], weights[v, k, None]
            fj, fk = face_weight[None, f, j], face_weight[None, f, k]
            similarity = vj * vk * fj * fk * np.exp(-(((vj * fk - vk * fj) / 0.12) ** 2)) * area[f]
            moment[v] += similarity @ center[f]
            total[v] += similarity.sum(1)
    found = total > 1e-14
    return np.where(found[:, None], moment / np.where(found, total, 1.0)[:, None], verts)


def rotate_about_centers(
    verts: Float[np.ndarray, "n 3"],
    centers: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, "n 24"],
    R_world: Float[np.ndarray, "24 3 3"],
    offset: Float[np.ndarray, "24 3"],
) -> Float[np.ndarray, "n 3"]:
    """Skinning that keeps volume: the centre moves linearly, the vertex turns rigidly about it (Le and Hodgins)."""
    quaternion = rotations_np.matrix_to_quaternion(R_world)
    # q and -q are the same rotation: blend them on the side of the strongest bone.
    side = np.where(quaternion[weights.argmax(1)] @ quaternion.T < 0, -1.0, 1.0)
    blend = (side * weights) @ quaternion
    blend /= np.linalg.norm(blend, axis=1, keepdims=True)
    w, u, arm = blend[:, :1], blend[:, 1:], verts - centers
    turned = arm + 2 * np.cross(u, np.cross(u, arm) + w * arm)
    T = np.einsum("vj,jab->vab", weights, R_world)
    return turned + np.einsum("vab,vb->va", T, centers) + weights @ offset
