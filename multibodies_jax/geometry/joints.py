"""Joint sets by name, the maps between them, and their left-right flips.

Every map is computed from names, so a wrong index cannot hide in a table. Names are equal where two sets annotate the
same point; `MEANT_THE_SAME` lists the near misses that are mapped all the same. Sets and their order: SMPL (Loper et
al., 2015), Human3.6M's 17 moving joints in the order of `J_regressor_h36m` (the left leg first), the 14 LSP joints with
Human3.6M's head used by the 3D protocols, OpenPose's BODY_25 and its older COCO model with 18, COCO-17, Halpe-26 (Fang et
al., 2022), whose head is the top of the head as in MPII, and J24, the 24 of SPIN's 49 joints (Kolotouros et al., 2019) in
which this project states poses, keypoints and losses.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

IndexMap = Int[np.ndarray, "joints"]


def _sides(name: str) -> tuple[str, str]:
    return f"left_{name}", f"right_{name}"


SMPL24: tuple[str, ...] = (
    "pelvis", *_sides("hip"), "spine1", *_sides("knee"), "spine2", *_sides("ankle"), "spine3", *_sides("foot"),
    "neck", *_sides("collar"), "head", *_sides("shoulder"), *_sides("elbow"), *_sides("wrist"), *_sides("hand"),
)  # fmt: skip
SMPL_PARENTS: tuple[int, ...] = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

J24: tuple[str, ...] = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head",
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
)  # fmt: skip
J14: tuple[str, ...] = (*J24[:13], "head")
J17: tuple[str, ...] = (*J14, "pelvis", "spine", "jaw")  # Of MPI-INF-3DHP.
H36M17: tuple[str, ...] = (
    "pelvis", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle",
    "spine", "neck", "jaw", "head",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
COCO17: tuple[str, ...] = (
    "nose", *_sides("eye"), *_sides("ear"), *_sides("shoulder"), *_sides("elbow"), *_sides("wrist"),
    *_sides("hip"), *_sides("knee"), *_sides("ankle"),
)  # fmt: skip
OPENPOSE25: tuple[str, ...] = (
    "nose", "mid_shoulders", "right_shoulder", "right_elbow", "right_wrist",
    "left_shoulder", "left_elbow", "left_wrist",
    "mid_hips", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
OPENPOSE18: tuple[str, ...] = (*OPENPOSE25[:8], *OPENPOSE25[9:19])  # OpenPose's model COCO: no mid_hips, no feet.
HALPE26: tuple[str, ...] = (
    *COCO17, "head_top", "neck", "pelvis", *_sides("big_toe"), *_sides("small_toe"), *_sides("heel"),
)  # fmt: skip
# MediaPipe's Pose Landmarker (BlazePose).
MEDIAPIPE33: tuple[str, ...] = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    *_sides("ear"), "mouth_left", "mouth_right", *_sides("shoulder"), *_sides("elbow"), *_sides("wrist"),
    *_sides("pinky"), *_sides("index"), *_sides("thumb"), *_sides("hip"), *_sides("knee"), *_sides("ankle"),
    *_sides("heel"), *_sides("foot_index"),
)  # fmt: skip
SETS = {
    "j24": J24, "j14": J14, "h36m17": H36M17, "coco17": COCO17, "openpose25": OPENPOSE25, "openpose18": OPENPOSE18,
    "halpe26": HALPE26, "mediapipe33": MEDIAPIPE33,
}  # fmt: skip

# OpenPose computes its neck as the middle of the shoulders, a few centimetres below the LSP neck that annotators
# clicked, and its pelvis as the middle of the hips.
MEANT_THE_SAME = {"mid_shoulders": "neck", "mid_hips": "pelvis"}


def _frozen(indices: Iterable) -> IndexMap:
    array = np.asarray(list(indices), np.int32)
    array.setflags(write=False)
    return array


def index_map(source: Sequence[str], target: Sequence[str]) -> IndexMap:
    """For each name of `target`, its (last) index in `source`, or -1 where `source` lacks it."""
    position = {MEANT_THE_SAME.get(name, name): i for i, name in enumerate(source)}
    return _frozen([position.get(MEANT_THE_SAME.get(name, name), -1) for name in target])


def mirrored(name: str) -> str:
    """The name of the joint on the other side of the body; a mid-line joint is its own mirror image."""
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


def flip_map(names: Sequence[str]) -> IndexMap:
    """The permutation that turns the joints of a person into those of its mirror image."""
    return index_map(names, [mirrored(name) for name in names])


SMPL_FLIP = flip_map(SMPL24)
J24_FLIP = flip_map(J24)

MIDHIP_J24 = (J24.index("right_hip"), J24.index("left_hip"))  # Joints are centred on the middle of these two.

J24_FROM_H36M17 = index_map(H36M17, J24)
J24_FROM_COCO17 = index_map(COCO17, J24)
J24_FROM_OPENPOSE25 = index_map(OPENPOSE25, J24)


def to_j24(keypoints: Float[np.ndarray, "*people K 3"], joint_set: str) -> Float[np.ndarray, "*people 24 3"]:
    """Rewrites the keypoints of a known set as J24.

    Args:
      keypoints: x, y and a confidence; a confidence of 0 or less means that the joint was not found, whatever x and
        y say.
      joint_set: one of `SETS`. It is never guessed from the number of joints, because different sets have 17.

    Returns:
      The J24 keypoints, float32; what the set lacks, or the person lacks, is all zeros.

    Raises:
      ValueError: for an unknown set, another shape than the set's, or a found joint that is not finite.
    """
    if joint_set not in SETS:
        raise ValueError(f"Unknown joint set {joint_set!r}; the known ones are {', '.join(SETS)}.")
    names = SETS[joint_set]
    keypoints = np.asarray(keypoints, np.float32)
    if keypoints.ndim < 2 or keypoints.shape[-2:] != (len(names), 3):
        raise ValueError(
            f"Keypoints of the set {joint_set!r} have the shape (..., {len(names)}, 3), with x, y and confidence; "
            f"got {keypoints.shape}."
        )
    found = ~(keypoints[..., 2] <= 0)  # A confidence that is not a number counts as found: an error below.
    if not np.all(np.isfinite(keypoints[found])):
        joint = names[np.argwhere(found & ~np.isfinite(keypoints).all(-1))[0][-1]]
        raise ValueError(f"The keypoint {joint!r} is not finite; give a joint that was not found the confidence 0.")
    keypoints = np.where(found[..., None], keypoints, np.float32(0))
    source = index_map(names, J24)
    return np.where((source >= 0)[:, None], keypoints[..., source, :], np.float32(0))
