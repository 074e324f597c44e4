"""SMPL parameters of Human3.6M that a user has: MoSh's pickles, or JSON as of NeuralAnnot.

Both are unofficial, so nothing about them is taken for granted: lengths must match the poses, and the body's upright
axis and hips must point as the 3D joints do. What does not is left out and counted.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from multibodies_jax import untrusted
from multibodies_jax.body import pickles
from multibodies_jax.geometry import joints
from tfds_builders.h36m import archive
from tfds_builders.h36m.archive import Recording
from tfds_builders.h36m.metadata import Metadata

_MOSH_FOLDERS = ("", "neutrSMPL_H3.6", "neutrMosh/neutrSMPL_H3.6", "mosh/neutrMosh/neutrSMPL_H3.6")
_MOSH_STEPS = (1, 5)  # 50 fps as the poses, or 10 fps.
_LENGTH_SLACK = 2  # Rows by which a fit may be longer or shorter than the poses.
_LARGEST = 2**30  # Bytes of a file of NeuralAnnot.
_NEURAL_ANNOT = ("Human36M_subject{}_SMPL_NeuralAnnot.json", "Human36M_subject{}_smpl_param.json")
_AGREES = 0.5  # Cosine: 60 degrees. Fits agree far better, wrong frames of reference far worse.

_PELVIS, _NECK, _LEFT_HIP, _RIGHT_HIP = map(joints.H36M17.index, ("pelvis", "neck", "left_hip", "right_hip"))


class FitError(ValueError):
    """A fit that cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """SMPL parameters of one recording, the root in the camera frame.

    Attributes:
      pose: axis-angle of every frame of the poses.
      betas: shape of every frame.
      valid: frames that have parameters.
    """

    pose: Float[np.ndarray, "F 24 3"]
    betas: Float[np.ndarray, "F 10"]
    valid: Bool[np.ndarray, "F"]


def read(
    folder: pathlib.Path, recording: Recording, poses: Float[np.ndarray, "F 17 3"], metadata: Metadata | None
) -> Fit:
    """The fit of a recording.

    Args:
      folder: with `S1/Directions 1_cam0_aligned.pkl ...` of MoSh, or `Human36M_subject1_SMPL_NeuralAnnot.json ...`.
      recording: which.
      poses: its joints, in the camera frame.
      metadata: NeuralAnnot's fits are in the world frame and named by numbers; they need it.

    Raises:
      FitError: there is none, or it does not belong to these poses.
    """
    if path := _mosh_path(folder, recording):
        return _checked(_mosh(path, len(poses)), poses, flips=(False, True))
    if path := _neural_annot_path(folder, recording):
        if metadata is None:
            raise FitError("a fit in the world frame needs metadata.xml")
        return _checked(_neural_annot(path, recording, len(poses), metadata), poses, flips=(False,))
    raise FitError("no SMPL fit")


def _mosh_path(folder: pathlib.Path, recording: Recording) -> pathlib.Path | None:
    name = f"{recording.stem}_cam{archive.CAMERAS.index(recording.camera)}_aligned.pkl"
    roots = [folder / root / recording.subject for root in _MOSH_FOLDERS]
    return next((p for root in roots for p in (root / name, root / "images" / name) if p.exists()), None)


def _mosh(path: pathlib.Path, frames: int) -> Fit:
    content = pickles.load(path)
    if not isinstance(content, dict) or not {"new_poses", "poses"} & set(content) or "betas" not in content:
        raise FitError("a MoSh file without `new_poses` or `poses`, and `betas`")
    pose = np.asarray(content["new_poses" if "new_poses" in content else "poses"], np.float64)
    betas = np.asarray(content["betas"], np.float64).ravel()[:10]
    if pose.ndim != 2 or pose.shape[1] != 72 or betas.shape != (10,):
        raise FitError(f"a MoSh file with poses {pose.shape} and betas {betas.shape}, expected (T, 72) and (10,)")
    steps = [step for step in _MOSH_STEPS if abs(len(pose) - -(-frames // step)) <= _LENGTH_SLACK]
    if not steps:
        raise FitError("a MoSh fit of another length than the poses")
    known = min(len(pose), -(-frames // steps[0]))
    fit = Fit(np.zeros((frames, 24, 3)), np.tile(betas, (frames, 1)), np.zeros(frames, bool))
    at = np.arange(known) * steps[0]
    fit.pose[at], fit.valid[at] = pose[:known].reshape(-1, 24, 3), True
    return fit


def _neural_annot_path(folder: pathlib.Path, recording: Recording) -> pathlib.Path | None:
    names = (name.format(recording.subject[1:]) for name in _NEURAL_ANNOT)
    return next((folder / name for name in names if (folder / name).exists()), None)


def _neural_annot(path: pathlib.Path, recording: Recording, frames: int, metadata: Metadata) -> Fit:
    action, subaction = metadata.sequences.get((recording.subject, recording.stem), ("?", "?"))
    people = _load_json(path)
    for name in (action, subaction):
        people = people.get(name, {})
        if not isinstance(people, dict):
            raise FitError("a NeuralAnnot fit that is not sorted by action, subaction and frame")
    fit = Fit(np.zeros((frames, 24, 3)), np.zeros((frames, 10)), np.zeros(frames, bool))
    for frame, person in people.items():
        if not frame.isdecimal():
            raise FitError(f"frame {frame[:20]!r} of a NeuralAnnot fit, which is no number")
        if (index := int(frame)) < frames:
            try:
                fit.pose[index] = np.asarray(person["pose"], np.float64).reshape(24, 3)
                fit.betas[index] = np.asarray(person["shape"], np.float64).reshape(10)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise FitError(f"frame {frame} of a NeuralAnnot fit without 72 `pose` and 10 `shape`") from error
            fit.valid[index] = True
    if not fit.valid.any():
        raise FitError("no SMPL fit")
    in_camera = Rotation.from_matrix(metadata.rotation(recording.subject, recording.camera))
    fit.pose[:, 0] = (in_camera * Rotation.from_rotvec(fit.pose[:, 0])).as_rotvec()
    return fit


@functools.lru_cache(maxsize=1)  # One subject at a time: its recordings follow each other.
def _load_json(path: pathlib.Path) -> dict[str, Any]:
    return untrusted.read_json(path, dict, "Download it again.", largest=_LARGEST)


def _checked(fit: Fit, poses: Float[np.ndarray, "F 17 3"], flips: tuple[bool, ...]) -> Fit:
    """Turns the root about its own x axis where that makes it agree with the joints.

    MoSh's bodies are said to rest upside down; whether a file's do is seen from its joints.
    """
    candidates = []
    for flip in flips:
        root = Rotation.from_rotvec(fit.pose[:, 0]) * Rotation.from_rotvec([np.pi * flip, 0, 0])
        candidates.append((np.median(_agreement(root.as_matrix(), poses)[fit.valid]), root.as_rotvec()))
    agreement, root = max(candidates, key=lambda candidate: candidate[0])
    if not agreement > _AGREES:
        raise FitError("an SMPL fit whose body points elsewhere than the 3D joints")
    fit.pose[:, 0] = root
    return fit


def _agreement(root: Float[np.ndarray, "F 3 3"], poses: Float[np.ndarray, "F 17 3"]) -> Float[np.ndarray, "F"]:
    """Cosine of the angle between body and joints: of the spine or of the hips, whichever is worse.

    SMPL rests upright (y) with its left side along x.
    """
    up, left = poses[:, _NECK] - poses[:, _PELVIS], poses[:, _LEFT_HIP] - poses[:, _RIGHT_HIP]
    return np.minimum(_cosine(root[..., 1], up), _cosine(root[..., 0], left))


def _cosine(a: Float[np.ndarray, "F 3"], b: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F"]:
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.maximum(lengths, 1e-9)
