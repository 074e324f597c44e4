"""Sequences of 3DPW: what their pickles hold, moved into the frame of the camera.

The pickles were written by Python 2 and are read without running what they contain (`multibodies_jax.body.pickles`).
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from multibodies_jax.body import pickles
from multibodies_jax.geometry import joints

# OpenPose's COCO model. Its neck is the middle of the shoulders, not the LSP neck of J24, and is not mapped.
OPENPOSE18: tuple[str, ...] = (
    "nose", "openpose_neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
# SMPL's limbs are joints of J24; its hips, pelvis, spine, neck and head are centres of rotation elsewhere in the body.
_LIMBS = ("ankle", "knee", "wrist", "elbow", "shoulder")
SMPL_LIMBS = tuple(name if name.endswith(_LIMBS) else f"smpl_{name}" for name in joints.SMPL24)
MIN_DETECTED = 6  # The set's own rule: fewer joints are no detection.

_GENDERS = {"m": 0, "male": 0, "f": 1, "female": 1}
_OTHER_SPELLINGS = {"genders": "gender", "poses2d": "poses2D"}


@dataclasses.dataclass(frozen=True)
class Person:
    """One person of a sequence of N frames.

    Attributes:
      gender: 0 male, 1 female.
      poses: axis-angle, the root in the world frame.
      betas: shape.
      trans: SMPL's translation in the world, metres.
      keypoints: OpenPose's joints in pixels, with confidence; all 0 where nothing was detected.
      joints: SMPL's joints in the world, metres.
      aligned: whether the camera is aligned with this person.
    """

    gender: int
    poses: Float[np.ndarray, "N 24 3"]
    betas: Float[np.ndarray, "10"]
    trans: Float[np.ndarray, "N 3"]
    keypoints: Float[np.ndarray, "N 18 3"]
    joints: Float[np.ndarray, "N 24 3"]
    aligned: Bool[np.ndarray, "N"]


@dataclasses.dataclass(frozen=True)
class Sequence:
    """People seen by a moving camera; `T_cam_world` takes the world to each frame's camera."""

    people: tuple[Person, ...]
    T_cam_world: Float[np.ndarray, "N 4 4"]
    intrinsics: Float[np.ndarray, "3 3"]


def read(path: pathlib.Path) -> Sequence:
    """Reads `sequenceFiles/<split>/<sequence>.pkl`.

    Raises:
      ValueError: it is damaged, wants to construct anything but arrays, lacks a key, or its arrays do not fit together.
    """
    raw = pickles.load(path)
    if not isinstance(raw, dict):
        raise ValueError(f"{path} holds a {type(raw).__name__}, not the dictionary of a 3DPW sequence.")
    T_cam_world = _array(path, raw, "cam_poses", (None, 4, 4))
    poses = _value(path, raw, "poses")
    frames, people = len(T_cam_world), len(poses) if isinstance(poses, (list, tuple, np.ndarray)) else 0
    if not people:
        raise ValueError(f"{path}: poses must be a list with an array for each person, got {type(poses).__name__}.")
    return Sequence(
        people=tuple(_person(path, raw, person, people, frames) for person in range(people)),
        T_cam_world=T_cam_world,
        intrinsics=_array(path, raw, "cam_intrinsics", (3, 3)),
    )


def root_in_camera(root: Float[np.ndarray, "3"], T_cam_world: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3"]:
    """The rotation of SMPL's root relative to the camera, as axis-angle."""
    return (Rotation.from_matrix(T_cam_world[:3, :3]) * Rotation.from_rotvec(root)).as_rotvec()


def translation_in_camera(
    trans: Float[np.ndarray, "3"], rest_root: Float[np.ndarray, "3"], T_cam_world: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "3"]:
    """SMPL's translation in the camera frame.

    SMPL turns a body about its root joint, not about the origin: the joint stays at `rest_root` + translation.

    Args:
      trans: the translation in the world frame.
      rest_root: the root joint of the rest-pose body of this gender and shape.
      T_cam_world: the camera.
    """
    return T_cam_world[:3, :3] @ (rest_root + trans) + T_cam_world[:3, 3] - rest_root


def project(
    points: Float[np.ndarray, "K 3"], intrinsics: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, "K 2"], Bool[np.ndarray, "K"]]:
    """Pixels of points in the camera frame, and which of them are in front of the camera (others are at 0)."""
    in_front = points[:, 2] > 1e-3
    homogeneous = np.where(in_front[:, None], points, [0.0, 0.0, 1.0]) @ intrinsics.T
    return np.where(in_front[:, None], homogeneous[:, :2] / homogeneous[:, 2:], 0.0), in_front


def _person(path: pathlib.Path, raw: dict, person: int, people: int, frames: int) -> Person:
    def array(key: str, shape: tuple[int | None, ...]) -> np.ndarray:
        return _array(path, raw, key, shape, person, people)

    gender = _member(path, raw, "genders", person, people)
    gender = gender.decode("latin1") if isinstance(gender, bytes) else str(gender)  # str(b"m") is not "m".
    if gender.lower() not in _GENDERS:
        raise ValueError(f"{path}: the gender of person {person} is {gender!r}; expected is 'm' or 'f'.")
    betas = np.ravel(array("betas", (None,)))
    if len(betas) < 10:
        raise ValueError(f"{path}: person {person} has {len(betas)} shape coefficients; 10 or more are expected.")
    return Person(
        gender=_GENDERS[gender.lower()],
        poses=array("poses", (frames, 72)).reshape(frames, 24, 3),
        betas=betas[:10],
        trans=array("trans", (frames, 3)),
        keypoints=array("poses2d", (frames, 3, 18)).transpose(0, 2, 1),
        joints=array("jointPositions", (frames, 72)).reshape(frames, 24, 3),
        aligned=array("campose_valid", (frames,)) > 0,
    )


def _array(
    path: pathlib.Path, raw: dict, key: str, shape: tuple[int | None, ...], person: int | None = None, people: int = 0
) -> np.ndarray:
    """The numbers under a key, or of one person in the list there, as float64 of the expected shape."""
    value = _value(path, raw, key) if person is None else _member(path, raw, key, person, people)
    what = key if person is None else f"{key}[{person}]"
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ValueError(f"{path}: {what} is {got}, not an array of numbers.")
    if value.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        wanted = " x ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{path}: {what} has shape {value.shape}; expected is {wanted}.")
    return value.astype(np.float64)


def _member(path: pathlib.Path, raw: dict, key: str, person: int, people: int) -> Any:
    value = _value(path, raw, key)
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != people:
        got = f"{len(value)}" if isinstance(value, (list, tuple, np.ndarray)) else f"a {type(value).__name__}"
        raise ValueError(f"{path}: {key} must have one entry for each of the {people} people, got {got}.")
    return value[person]


def _value(path: pathlib.Path, raw: dict, key: str) -> Any:
    for name in (key, _OTHER_SPELLINGS.get(key, key)):
        if name in raw:
            return raw[name]
    raise ValueError(f"{path} is no sequence of 3DPW: it lacks {key}. It has {', '.join(map(str, raw))}.")
