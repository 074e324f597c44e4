"""The joints that the training sets annotate, by name in the order of their files, and their maps to J24.

Names are those of `joints.J24` for the same point. Head tops differ: LSP and MPII click the top of the head (J24's
`head_top`), motion capture has one marker set for it that SPIN and Human3.6M call `head`, and `jaw` below it.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.geometry import joints

LSP14: tuple[str, ...] = joints.J24[:14]
MPII16: tuple[str, ...] = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "pelvis", "thorax", "neck", "head_top",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
# Called spine3, spine4, spine2, spine, pelvis, neck, head, head_top, ... in the documentation of MPI-INF-3DHP.
MPI28: tuple[str, ...] = (
    "spine3", "spine4", "spine2", "spine", "pelvis", "neck", "jaw", "head",
    "left_clavicle", "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_clavicle", "right_shoulder", "right_elbow", "right_wrist", "right_hand",
    "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe",
    "right_hip", "right_knee", "right_ankle", "right_foot", "right_toe",
)  # fmt: skip
MPI17: tuple[str, ...] = (
    "head", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "jaw",
)  # fmt: skip


def to_j24(values: Float[np.ndarray, "*batch K D"], names: tuple[str, ...]) -> tuple[Any, Float[np.ndarray, "24"]]:
    """Reorders coordinates of named joints as J24.

    Returns:
      The coordinates (*batch, 24, D), zeros where `names` lacks the joint; and 1 for the joints that it has.
    """
    source = joints.index_map(names, joints.J24)
    has = source >= 0
    return np.where(has[:, None], values[..., source, :], 0.0), has.astype(np.float32)
