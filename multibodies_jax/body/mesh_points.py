"""Points of SMPL's mesh that stand for joints and keypoints."""

import numpy as np

from multibodies_jax.geometry import joints

# Mesh vertices of SMPL's topology that stand for points of the face, the feet and the finger tips, in the order of the
# public `smplx` package.
LANDMARK_VERTICES: dict[str, int] = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583,
    "left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387,
    "right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787,
    "left_thumb": 2746, "left_index": 2319, "left_middle": 2445, "left_ring": 2556, "left_pinky": 2673,
    "right_thumb": 6191, "right_index": 5782, "right_middle": 5905, "right_ring": 6016, "right_pinky": 6133,
}  # fmt: skip

# The nine rows of J_regressor_extra.npy: annotated points that are neither SMPL joints nor single vertices.
EXTRA9: tuple[str, ...] = ("right_hip", "left_hip", "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head")

# SPIN's 49 joints among 24 SMPL joints, 21 landmark vertices and 9 extra rows. The first 25 are OpenPose's, whose hips,
# neck and pelvis are SMPL's joint centres; the last 24 are J24, whose hips, neck and pelvis come from the extra rows.
_MESH_POINTS = (*joints.SMPL24, *LANDMARK_VERTICES)
J49_FROM_54 = np.concatenate(
    [
        joints.index_map(_MESH_POINTS, joints.OPENPOSE25),
        joints.index_map((*_MESH_POINTS, *EXTRA9), joints.J24),
    ]
)
J49_FROM_54.setflags(write=False)
