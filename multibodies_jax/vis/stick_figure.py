"""The lines between joints in drawings of people."""

import itertools

from multibodies_jax.geometry import joints


def _edges(*chains: str) -> tuple[tuple[int, int], ...]:
    paths = [[joints.J24.index(name) for name in chain.split()] for chain in chains]
    return tuple((a, b) for path in paths for a, b in itertools.pairwise(path))


# The torso is drawn as a box as well as a spine, so that sets without a pelvis, a spine or a thorax still show one.
J24_EDGES = _edges(
    "right_ankle right_knee right_hip left_hip left_knee left_ankle",
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    "right_hip right_shoulder",
    "left_hip left_shoulder",
    "pelvis spine thorax neck jaw head",
    "neck head_top",
    "right_ear right_eye nose left_eye left_ear",
)
