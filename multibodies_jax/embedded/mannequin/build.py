"""Assembles the mannequin and writes it: `mannequin.npz` in SMPL's format, `companions.npz`, and their checksums."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from multibodies_jax import io
from multibodies_jax.embedded.mannequin import correctives, poses, regressors, shape, skinning, surface
from multibodies_jax.embedded.mannequin.skeleton import PELVIS_ORIGIN
from multibodies_jax.geometry import joints

BODY_FILE, COMPANION_FILE, CHECKSUM_FILE = "mannequin.npz", "companions.npz", "SHA256SUMS"


def mean_rot6d() -> Float[np.ndarray, "144"]:
    """A relaxed stand that faces the camera: the body is y up, the camera y down, so the root turns by pi about x.

    Per joint the first two columns of the matrix, interleaved (the identity is 1, 0, 0, 1, 0, 0).
    """
    rotmats = poses.pose(poses.STANDING)
    rotmats[0] = np.diag([1.0, -1.0, -1.0])
    return rotmats[:, :, :2].reshape(-1)


def _kintree() -> np.ndarray:
    """SMPL's table: parents (2^32 - 1 for the root) over joints."""
    return np.stack([np.array(joints.SMPL_PARENTS), np.arange(24)]).astype(np.uint32)


def build(progress: Callable[[str], None], num_poses: int = 600) -> tuple[dict, dict]:
    """Makes the body from nothing; deterministic except for the last bits of floating point.

    Args:
      progress: called with a text at each step.
      num_poses: training poses of the correctives.

    Returns:
      The body with SMPL's official keys; and what comes in SMPL's companion files, with the map of each vertex to its
      mirror image, the bone that owns it, and the height of the floor under the rest pose. Metres, float64.
    """
    verts, faces, mirror_map = surface.build_surface(progress)
    weights = skinning.skinning_weights(verts, faces, mirror_map)
    shapedirs, joint_dirs = shape.shape_space(verts, faces, weights)
    progress("shape space done")
    joint_rows = regressors.joint_regressor(verts, shapedirs, joint_dirs, mirror_map)
    h36m_rows, extra_rows = regressors.keypoint_regressors(verts, joint_rows, mirror_map)
    progress("regressors done")
    rest = joint_rows @ verts
    rotmats = correctives.training_poses(num_poses, np.random.default_rng(0))
    posedirs = correctives.fit_posedirs(verts, faces, weights, rest, mirror_map, rotmats, progress)
    shift = (PELVIS_ORIGIN - rest[0]) * [0, 1, 1]  # Not in x, where rounding would break the exact symmetry.
    body = {
        "v_template": verts + shift,
        "f": faces.astype(np.uint32),
        "shapedirs": shapedirs,
        "posedirs": posedirs,
        "weights": weights,
        "J_regressor": joint_rows,
        "J": rest + shift,
        "kintree_table": _kintree(),
        "bs_type": np.array("lrotmin"),
        "bs_style": np.array("lbs"),
    }
    companions = {
        "J_regressor_h36m": h36m_rows,
        "J_regressor_extra": extra_rows,
        "mean_pose": mean_rot6d(),
        "mean_shape": np.zeros(10),
        "mean_cam": np.array([0.9, 0.0, 0.0]),
        "mirror": mirror_map.astype(np.int32),
        "part": skinning.bone_regions(verts).astype(np.int32),
        "floor": np.array(shift[1]),
    }
    return body, companions


def write(body: dict, companions: dict, directory: Path) -> list[Path]:
    """Writes the body, its companions and their checksums (as `sha256sum` does); floats become float32."""
    paths = [directory / BODY_FILE, directory / COMPANION_FILE]
    for path, arrays in zip(paths, (body, companions), strict=True):
        single = {
            key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in arrays.items()
        }
        io.write_npz(path, single)
    sums = [f"{io.sha256_of_file(path)}  {path.name}\n" for path in paths]
    io.write_text(directory / CHECKSUM_FILE, "".join(sums))
    return [*paths, directory / CHECKSUM_FILE]
