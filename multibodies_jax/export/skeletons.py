"""Skeletons of a scene: BVH for animation programs, and a table of joints as CSV."""

import csv
import io as text_io
import os

import numpy as np
from jaxtyping import Float

from multibodies_jax import io
from multibodies_jax.export import scene as scenes
from multibodies_jax.geometry import joints

_CHANNELS = "Zrotation Xrotation Yrotation"
_END_M = 0.08  # Length of the last bone of a chain, which SMPL lacks: it ends at a joint.
COLUMNS = (
    "image", "person", "body", "hypothesis", "probability", "joint", "known",
    "x_m", "y_m", "z_m", "u_px", "v_px", "spread_m",
)  # fmt: skip
"""Columns of the table of joints."""


def encode_bvh(body: scenes.Body, frames_per_second: float | int = 30) -> str:
    """A body's skeleton and its motion, or its one pose, as the text of a BVH file.

    The rest pose is SMPL's (arms out, facing +z), y up, metres. Of each frame: the place of the root, then of every bone
    the rotations about z, x and y in degrees, applied in this order from the outside (R = Rz Rx Ry).

    Args:
      body: of a scene.
      frames_per_second: of its motion.
    """
    if body.motion is None:
        rotations, translation = body.rotations[None], body.translation[None]
    else:
        rotations, translation = body.motion.rotations, body.motion.translation
    turned, root = scenes.y_up_pose(rotations, translation + body.rest_joints[0])
    order = _depth_first(0)
    angles = _angles_deg(turned)[:, order].reshape(len(turned), -1)
    # Programs add the root's offset to its position: the offset is 0, and the position is all there is.
    lines = ["HIERARCHY", *_joint_lines(body.rest_joints, 0, 0)]
    lines += ["MOTION", f"Frames: {len(turned)}", f"Frame Time: {1 / frames_per_second:.8f}"]
    lines += [" ".join(f"{value:.6f}" for value in row) for row in np.concatenate([root, angles], axis=1).tolist()]
    return "\n".join(lines) + "\n"


def write_bvh(body: scenes.Body, path: str | os.PathLike, frames_per_second: float | int = 30) -> None:
    """Writes one body as a BVH file, which holds one skeleton; see `encode_bvh`.

    Raises:
      OSError: the file cannot be written.
    """
    io.write_text(path, encode_bvh(body, frames_per_second))


def _angles_deg(rotations: Float[np.ndarray, "T 24 3 3"]) -> Float[np.ndarray, "T 24 3"]:
    """Angles about z, x, y (intrinsic), each without jumps of a full turn from frame to frame."""
    from scipy.spatial.transform import Rotation  # Late: only BVH files need it.

    flat = Rotation.from_matrix(rotations.reshape(-1, 3, 3))
    return np.degrees(np.unwrap(flat.as_euler("ZXY").reshape(*rotations.shape[:2], 3), axis=0))


def _depth_first(bone: int) -> list[int]:
    return [bone, *(k for child in _children(bone) for k in _depth_first(child))]


def _children(bone: int) -> list[int]:
    return [child for child, parent in enumerate(scenes.PARENTS) if parent == bone]


def _joint_lines(rest_joints: Float[np.ndarray, "24 3"], bone: int, depth: int) -> list[str]:
    indent, parent = "\t" * depth, scenes.PARENTS[bone]
    offset = np.zeros(3) if parent < 0 else rest_joints[bone] - rest_joints[parent]
    places = "6 Xposition Yposition Zposition" if parent < 0 else "3"
    lines = [
        f"{indent}{'ROOT' if parent < 0 else 'JOINT'} {scenes.BONES[bone]}",
        f"{indent}{{",
        f"{indent}\tOFFSET {_numbers(offset)}",
        f"{indent}\tCHANNELS {places} {_CHANNELS}",
    ]
    for child in _children(bone):
        lines += _joint_lines(rest_joints, child, depth + 1)
    if not _children(bone):
        end = offset / np.linalg.norm(offset) * _END_M
        lines += [f"{indent}\tEnd Site", f"{indent}\t{{", f"{indent}\t\tOFFSET {_numbers(end)}", f"{indent}\t}}"]
    return [*lines, f"{indent}}}"]


def _numbers(values: Float[np.ndarray, "3"]) -> str:
    return " ".join(f"{value:.6f}" for value in values.tolist())


def write_csv(scene: scenes.Scene, path: str | os.PathLike) -> None:
    """Writes the J24 joints of the chosen bodies as a table with the columns `COLUMNS`.

    `x_m`, `y_m`, `z_m` are of the camera frame (x right, y down, z forward), `u_px`, `v_px` where the photograph's
    camera shows the joint, `known` is 1 where a keypoint was given, and `spread_m` is that of `Person.joint_spread`.

    Raises:
      OSError: the file cannot be written.
    """
    text = text_io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for rank_name, person, body, probability in scene.weighted():
        rank = int(rank_name.rpartition("_")[2])
        pixels = scene.focal_px * body.joints24[:, :2] / body.joints24[:, 2:] + scene.principal_point
        for k, joint in enumerate(joints.J24):
            table.writerow(
                [
                    *(scene.image, person.number, rank, body.index, f"{probability:.6f}", joint),
                    int(person.keypoints[k, 2] > 0),
                    *(f"{value:.6f}" for value in body.joints24[k].tolist()),
                    *(f"{value:.3f}" for value in pixels[k].tolist()),
                    f"{person.joint_spread[k]:.6f}",
                ]
            )
    io.write_text(path, text.getvalue())
