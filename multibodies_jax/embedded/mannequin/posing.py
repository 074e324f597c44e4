"""Posing in float64 NumPy for the fit of the pose correctives: linear skinning and optimised centres of rotation.

`multibodies_jax.body.smpl` is the forward pass of the project; a generator that is to give the same body on any device stays
clear of it.
"""

import numpy as np
from jaxtyping import Float

from multibodies_jax.embedded.mannequin.triangles import Faces, Verts, areas
from multibodies_jax.geometry import joints


def axis_angle_to_matrix(axis_angle: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """Rodrigues' formula."""
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle / np.maximum(angle[..., 0], 1e-12), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


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


def pose_bones(
    rotmats: Float[np.ndarray, "24 3 3"], rest: Float[np.ndarray, "24 3"]
) -> tuple[Float[np.ndarray, "24 3 3"], Float[np.ndarray, "24 3"]]:
    """World rotation and offset of each bone: it takes a rest-pose point p to R p + t."""
    R_world, position = rotmats.copy(), rest.copy()
    for j, parent in enumerate(joints.SMPL_PARENTS):
        if parent >= 0:
            R_world[j] = R_world[parent] @ rotmats[j]
            position[j] = position[parent] + R_world[parent] @ (rest[j] - rest[parent])
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
    quaternion = matrix_to_quaternion(R_world)
    # q and -q are the same rotation: blend them on the side of the strongest bone.
    side = np.where(quaternion[weights.argmax(1)] @ quaternion.T < 0, -1.0, 1.0)
    blend = (side * weights) @ quaternion
    blend /= np.linalg.norm(blend, axis=1, keepdims=True)
    w, u, arm = blend[:, :1], blend[:, 1:], verts - centers
    turned = arm + 2 * np.cross(u, np.cross(u, arm) + w * arm)
    T = np.einsum("vj,jab->vab", weights, R_world)
    return turned + np.einsum("vab,vb->va", T, centers) + weights @ offset
