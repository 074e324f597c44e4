"""The body model's arrays as 3D-Multibodies' checkpoints hold them, made from body files or compared with them."""

from collections.abc import Callable, Mapping

import numpy as np

from multibodies_jax.body import body_files, mesh_points
from multibodies_jax.convert import placing
from multibodies_jax.convert.torch_reader import Tensor

_TOLERANCE = 1e-4  # Metres, and shares: the same file in another precision.
_ROOT = 2**32 - 1  # The parent of the root in SMPL's files: -1 as an unsigned number.
_REGRESSED = 1e-9  # A vertex with more than this in any regressor is in their mask.


def buffers(files: body_files.BodyFiles) -> dict[str, np.ndarray]:
    """Their 13 buffers from a body: names and shapes of `layouts.body`, in their types.

    Their checkpoints have the regressor of their own file `J_regressor.npz`; here it is the body's.
    """
    smpl, j49 = files.smpl, np.asarray(files.j49_regressor)
    landmarks = np.array(list(mesh_points.LANDMARK_VERTICES.values()), np.int64)
    stack = np.zeros((54, j49.shape[1]), np.float32)
    stack[mesh_points.J49_FROM_54] = j49  # What the 49 leave out of SMPL's 24 and the landmarks is set next.
    stack[:24], stack[24:45] = np.asarray(smpl.J_regressor), np.eye(j49.shape[1], dtype=np.float32)[landmarks]
    parents = np.array(smpl.parents, np.int64)
    floats = {
        "J_regressor": stack[:24],
        "weights": smpl.weights,
        "posedirs": smpl.posedirs,
        "v_template": smpl.v_template,
        "shapedirs": smpl.shapedirs,
    }
    floats_after = {
        "J_regressor_spin": stack[24:45],
        "J_regressor_extra": stack[45:],
        "J_regressor_h36m": files.h36m_regressor,
        "mask": (stack > _REGRESSED).any(axis=0),
    }
    return {
        **{name: np.asarray(value, np.float32) for name, value in floats.items()},
        "faces": np.asarray(smpl.faces, np.int64),
        "kintree_table": np.stack([np.where(parents < 0, _ROOT, parents), np.arange(len(parents))]),
        "parent": parents[1:],
        **{name: np.asarray(value, np.float32) for name, value in floats_after.items()},
        "vertex_joint_selector.extra_joints_idxs": landmarks,
    }


def check_same_body(
    found: Mapping[str, Tensor], read: Callable[[Tensor], np.ndarray], files: body_files.BodyFiles, path: object
) -> None:
    """Refuses a body that is not the one inside the file; every buffer counts, also those that no layer here reads.

    Raises:
      ConversionError: a buffer differs, with the name of the first.
    """
    for name, ours in buffers(files).items():
        theirs = read(found[name]).astype(np.float64)
        difference = np.abs(theirs - ours.astype(np.float64)).max() if theirs.shape == ours.shape else np.inf
        if ours.dtype.kind == "i":
            difference %= _ROOT + 1  # Some files have -1 as the parent of the root.
        if not difference <= (_TOLERANCE if ours.dtype.kind == "f" else 0):
            raise placing.ConversionError(
                f"{path} was made with another body than {files.description}: {name} differs by up to {difference:.3g}. "
                "Give the folder of the neutral SMPL body and the regressors that it was trained with (--body.dir)."
            )
