"""Real poses from files: glitches dropped, headings removed, recordings reweighted, subjects split by name."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int

from multibodies_jax import io
from multibodies_jax.data import pose_readers
from multibodies_jax.geometry import joints
from multibodies_jax.geometry.rotations_np import about, axis_angle_to_matrix, matrix_to_axis_angle

SPLITS = ("train", "validation", "test")

# Degrees, well beyond what people can do; solvers of markers leave flipped ankles, wrists and hips behind.
_LARGEST_ANGLE = {
    "hip": 140, "spine1": 80, "spine2": 60, "spine3": 60, "knee": 165, "ankle": 85, "foot": 80,
    "neck": 75, "head": 95, "collar": 60, "elbow": 165, "wrist": 110,
}  # fmt: skip
_HYPEREXTENSION = 25

_HELD_OUT = 0.1  # Share of the weight for validation and for test.
_TOO_LARGE_TO_HOLD_OUT = 0.25


@dataclasses.dataclass(frozen=True, eq=False)
class PoseFile:
    """Poses to draw from.

    Attributes:
      poses: axis-angle, radians; the root is upright: y up, facing +z, up to the lean of the person.
      clip: the recording of each frame.
      clip_names: by recording.
      subjects: by recording.
      weights: how often to draw each frame; they sum to 1.
      dropped: frames left out, by reason.
    """

    poses: Float[np.ndarray, "N 24 3"]
    clip: Int[np.ndarray, "N"]
    clip_names: tuple[str, ...]
    subjects: tuple[str, ...]
    weights: Float[np.ndarray, "N"]
    dropped: dict[str, int]

    @property
    def frame_subjects(self) -> np.ndarray:
        """The subject of each frame."""
        return np.array(self.subjects)[self.clip]


def load(path: str | Path) -> PoseFile:
    """Loads poses for training and drawing.

    AMASS recordings (z up) and folders of them, our own clips (y up) and plain arrays of SMPL poses are understood, see
    `pose_readers.read`. Plain arrays do not say which way is up: it is the axis that the bodies' own up axes point
    along on average, so poses from cameras (y down) work as well.

    Frames with impossible joints are left out and counted. Frames are weighted so that long recordings, and subjects
    with many, do not dominate: of n times as many frames, a recording gets sqrt(n) times the weight, and a subject the
    square root of what its recordings would have together.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: a file that cannot be used, or without a single possible pose.
    """
    clips = pose_readers.read(path)
    poses = np.concatenate([upright(clip, path) for clip in clips])
    clip = np.repeat(np.arange(len(clips)), [len(c.poses) for c in clips])
    reason = glitches(poses)
    keep = reason == ""
    names, counts = np.unique(reason[~keep], return_counts=True)
    dropped = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
    if not keep.any():
        raise ValueError(
            f"None of the {len(poses)} poses of {path} is possible for a person ({_listing(dropped)}). Are they SMPL's "
            "joints in SMPL's order, rotations relative to the parent?"
        )
    subjects = tuple(c.subject for c in clips)
    result = PoseFile(
        poses=poses[keep],
        clip=clip[keep],
        clip_names=tuple(c.name for c in clips),
        subjects=subjects,
        weights=_weights(clip[keep], subjects),
        dropped=dropped,
    )
    logging.info("%s: %s", path, describe(result))
    return result


def describe(pose_file: PoseFile) -> str:
    """What was read, what was dropped and how it is split, for people."""
    level, _ = _assign(pose_file)
    frames, recordings = len(pose_file.poses), len(np.unique(pose_file.clip))
    dropped = f"; dropped {_listing(pose_file.dropped)}" if pose_file.dropped else ""
    return (
        f"{frames} poses of {recordings} recordings of {len(set(pose_file.subjects))} subjects{dropped}; "
        f"train, validation and test differ in {level}"
    )


def split(pose_file: PoseFile, name: str) -> PoseFile:
    """The poses of one split.

    No subject is in two splits. About a tenth of the weight is for test, another for validation: whole subjects in the
    order of a hash of their names, passing over those with more than a quarter of the weight. With fewer than three
    subjects, whole recordings are held out instead; with fewer than three recordings, the last frames. `describe` says
    which it was.

    Args:
      pose_file: everything that was loaded.
      name: one of `SPLITS`.

    Raises:
      ValueError: an unknown split, or too few frames for it.
    """
    if name not in SPLITS:
        raise ValueError(f"Unknown split {name!r}; the splits are {', '.join(SPLITS)}.")
    keep = _assign(pose_file)[1] == SPLITS.index(name)
    if not keep.any():
        raise ValueError(f"{len(pose_file.poses)} poses are too few for a {name} split. Use a file with more of them.")
    weights = pose_file.weights[keep]
    return dataclasses.replace(
        pose_file, poses=pose_file.poses[keep], clip=pose_file.clip[keep], weights=weights / weights.sum()
    )


def _assign(pose_file: PoseFile) -> tuple[str, Int[np.ndarray, "N"]]:
    """What the splits differ in, and the split (index) of each frame."""
    for level, names in (
        ("subjects", pose_file.frame_subjects),
        ("recordings", np.array(pose_file.clip_names)[pose_file.clip]),
    ):
        units, unit = np.unique(names, return_inverse=True)
        if len(units) >= 3:
            mass = np.bincount(unit, pose_file.weights)
            return level, hold_out([str(u) for u in units], mass)[unit]
    position = (np.arange(len(pose_file.poses)) + 0.5) / len(pose_file.poses)
    return "frames", np.digitize(position, [1 - 2 * _HELD_OUT, 1 - _HELD_OUT])


def hold_out(units: list[str], mass: Float[np.ndarray, "U"]) -> Int[np.ndarray, "U"]:
    """Gives each of three or more units to a split, whole: the split's index in `SPLITS`.

    Units come in the order of their names' hashes, large ones last, and fill "test" and then "validation" up to the
    share that is held out; each split gets at least one. A further unit therefore moves few others.

    Args:
      units: distinct names of subjects or recordings.
      mass: share of all frames that each unit has.
    """
    by_hash = sorted(range(len(units)), key=lambda u: io.sha256(units[u].encode()))
    queue = sorted(by_hash, key=lambda u: max(mass[u], _TOO_LARGE_TO_HOLD_OUT))  # Stable: large ones go last.
    result = np.full(len(units), SPLITS.index("train"))
    for name, still_needed in (("test", 2), ("validation", 1)):
        taken = 0.0
        while taken < _HELD_OUT and len(queue) > still_needed:
            unit = queue.pop(0)
            result[unit] = SPLITS.index(name)
            taken += mass[unit]
    return result


def _weights(clip: Int[np.ndarray, "N"], subjects: Iterable[str]) -> Float[np.ndarray, "N"]:
    frames = np.bincount(clip)
    frame_weight = 1 / np.sqrt(frames[clip])
    _, subject = np.unique(np.array(list(subjects)), return_inverse=True)
    subject_mass = np.bincount(subject[clip], frame_weight)
    weights = frame_weight / np.sqrt(subject_mass[subject[clip]])
    return weights / weights.sum()


def upright(clip: pose_readers.Clip, path: str | Path) -> Float[np.ndarray, "N 24 3"]:
    """Turns the world until y is up, then each person about y until it faces +z; wraps angles to [-pi, pi]."""
    poses = clip.poses.astype(np.float64)
    angle = np.linalg.norm(poses, axis=-1, keepdims=True)
    poses = poses * (1 - 2 * np.pi * np.round(angle / (2 * np.pi)) / np.maximum(angle, 1e-12))
    if clip.up != "none":
        root = axis_angle_to_matrix(poses[:, 0])
        poses[:, 0] = matrix_to_axis_angle(remove_heading(_to_y_up(clip.up, root, path) @ root))
    return poses.astype(np.float32)


_TO_Y_UP = {"+x": ("z", 90), "-x": ("z", -90), "+y": ("x", 0), "-y": ("x", 180), "+z": ("x", -90), "-z": ("x", 90)}


def _to_y_up(up: str, root: Float[np.ndarray, "N 3 3"], path: str | Path) -> Float[np.ndarray, "3 3"]:
    """The rotation of the world that turns its up axis to y."""
    direction = f"+{up}"
    if up == "any":
        mean = root[:, :, 1].mean(0)
        axis = int(np.abs(mean).argmax())
        if abs(mean[axis]) < 0.5:
            raise ValueError(
                f"{path} does not say which way is up, and its bodies point everywhere (their mean up axis is "
                f"{np.round(mean, 2)}). Leave the root rotation out: (N, 69) or (N, 23, 3)."
            )
        direction = "+-"[int(mean[axis] < 0)] + "xyz"[axis]
    axis_name, degrees = _TO_Y_UP[direction]
    return about(axis_name, np.array(degrees, float))


def remove_heading(rotmats: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 3 3"]:
    """Turns rotations about y until no twist about y is left (swing-twist); the lean remains.

    Smooth everywhere but upside down, where there is no heading; such rotations stay as they are.
    """
    # With the quaternion q, tan(twist / 2) = q_y / q_w; R_02 - R_20 = 4 q_w q_y, R_00 + R_22 = 2 (q_w^2 - q_y^2).
    twist = np.arctan2(rotmats[:, 0, 2] - rotmats[:, 2, 0], rotmats[:, 0, 0] + rotmats[:, 2, 2])
    return about("y", -np.degrees(twist)) @ rotmats


def glitches(poses: Float[np.ndarray, "N 24 3"]) -> np.ndarray:
    """Why each frame is impossible, "" where it is possible; the first reason counts."""
    reason = np.full(len(poses), "", dtype="U40")
    degrees = np.degrees(np.linalg.norm(poses, axis=-1))
    for name, largest in _LARGEST_ANGLE.items():
        sides = [name] if name in ("spine1", "spine2", "spine3", "neck", "head") else [f"left_{name}", f"right_{name}"]
        _blame(
            reason,
            (degrees[:, [joints.SMPL24.index(side) for side in sides]] > largest).any(1),
            f"{name} beyond {largest} degrees",
        )
    for side, outwards in (("left", 1.0), ("right", -1.0)):
        shank = axis_angle_to_matrix(poses[:, joints.SMPL24.index(f"{side}_knee")]) @ np.array([0.0, -1, 0])
        forearm = axis_angle_to_matrix(poses[:, joints.SMPL24.index(f"{side}_elbow")]) @ np.array([outwards, 0, 0])
        knee = np.degrees(np.arctan2(-shank[:, 2], -shank[:, 1]))
        elbow = np.degrees(np.arctan2(forearm[:, 2], outwards * forearm[:, 0]))
        for name, flexion in (("knee", knee), ("elbow", elbow)):
            backwards = (flexion < -_HYPEREXTENSION) & (flexion > -135)
            _blame(reason, backwards, f"{name} bent backwards")
    return reason


def _blame(reason: np.ndarray, frames: Bool[np.ndarray, "N"], text: str) -> None:
    reason[frames & (reason == "")] = text


def _listing(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} ({name})" for name, count in dropped.items())
