"""Writes small archives of 3DPW in the official format: pickles of Python 2, JPEG images, a camera that turns.

People are bodies of the mannequin, the man's larger and the woman's smaller; their joints are computed here, in float64
and in the world, by loops that know nothing of the code they test.
"""

import copy
import functools
import pathlib
import shutil
from typing import Any, cast

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from multibodies_jax.body import body_files, smpl_files
from multibodies_jax.geometry import joints
from tests.helpers import python2

WIDTH, HEIGHT, FOCAL = 160, 120, 150.0
SIZES = {"m": 1.1, "f": 0.9}
INTRINSICS = np.array([[FOCAL, 0, 78.0], [0, FOCAL, 61.0], [0, 0, 1]])
# OpenPose's joints by the name of the joint in J24 that the fixture puts there; its neck is between the shoulders.
OPENPOSE = [
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
]  # fmt: skip


def body_folder(folder: pathlib.Path) -> pathlib.Path:
    """A user's folder of SMPL files, with mannequins in the place of SMPL."""
    folder.mkdir()
    shutil.copy(body_files.ASSETS / "mannequin.npz", folder / "SMPL_NEUTRAL.npz")
    for gender, name in (("m", "MALE"), ("f", "FEMALE")):
        np.savez(folder / f"SMPL_{name}.npz", **cast(Any, body(gender)))
    with np.load(body_files.ASSETS / "companions.npz") as file:
        np.save(folder / "J_regressor_extra.npy", file["J_regressor_extra"])
        np.save(folder / "J_regressor_h36m.npy", file["J_regressor_h36m"])
        np.savez(
            folder / "smpl_mean_params.npz", pose=file["mean_pose"], shape=file["mean_shape"], cam=file["mean_cam"]
        )
    return folder


@functools.cache
def body(gender: str) -> dict[str, np.ndarray]:
    """The arrays of SMPL's file of a gender."""
    with np.load(body_files.ASSETS / "mannequin.npz") as file:
        arrays = {key: file[key] for key in smpl_files.KEYS}
    return arrays | {"v_template": SIZES[gender] * arrays["v_template"]}


_j24_regressor = functools.cache(lambda: np.asarray(body_files.load().j24_regressor, np.float64))


def posed(gender: str, pose: np.ndarray, betas: np.ndarray, trans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SMPL's 24 joints and J24 of a body in the world; joint by joint."""
    arrays = body(gender)
    rest = arrays["v_template"] + arrays["shapedirs"][:, :, :10] @ betas
    rest_joints = arrays["J_regressor"] @ rest
    R = Rotation.from_rotvec(pose).as_matrix()
    verts = rest + arrays["posedirs"] @ (R[1:] - np.eye(3)).ravel()
    world_R, world = [R[0]], [rest_joints[0]]
    for j in range(1, 24):
        parent = joints.SMPL_PARENTS[j]
        world.append(world[parent] + world_R[parent] @ (rest_joints[j] - rest_joints[parent]))
        world_R.append(world_R[parent] @ R[j])
    moved = np.zeros_like(verts)
    for j in range(24):
        moved += arrays["weights"][:, j, None] * ((verts - rest_joints[j]) @ world_R[j].T + world[j])
    return np.stack(world) + trans, _j24_regressor() @ moved + trans


def camera(frame: int) -> np.ndarray:
    """World to camera: looks at the person from 4 m, upside down as OpenCV's cameras are, and turns."""
    T = np.eye(4)
    T[:3, :3] = (Rotation.from_euler("y", 0.4 + 0.2 * frame) * Rotation.from_rotvec([np.pi, 0, 0])).as_matrix()
    T[:3, 3] = [0.1, -0.05, 4.0]
    return T


def in_camera(points: np.ndarray, frame: int) -> np.ndarray:
    return np.array([camera(frame)[:3, :3] @ p + camera(frame)[:3, 3] for p in points])


def project(points: np.ndarray) -> np.ndarray:
    return np.array([(INTRINSICS @ p)[:2] / p[2] for p in points])


def sequence(seed: int, genders: str, frames: int = 2) -> dict:
    """The content of a pickle, all of its keys included; yours to change."""
    return copy.deepcopy(_sequence(seed, genders, frames))


@functools.cache
def _sequence(seed: int, genders: str, frames: int) -> dict:
    rng = np.random.default_rng(seed)
    people = range(len(genders))
    poses = [0.2 * rng.normal(size=(frames, 24, 3)) for _ in people]
    betas = [rng.normal(size=10) for _ in people]
    trans = [0.3 * rng.normal(size=(frames, 3)) for _ in people]
    smpl_joints, keypoints = [], []
    for p in people:
        both = [posed(genders[p], poses[p][f], betas[p], trans[p][f]) for f in range(frames)]
        smpl_joints.append(np.stack([world.ravel() for world, _ in both]))
        keypoints.append(np.stack([_detected(*both[f], f, rng) for f in range(frames)]))
    return {
        "sequence": f"sequence of {seed}",
        "genders": list(genders),
        "poses": [pose.reshape(frames, 72) for pose in poses],
        "betas": betas,
        "trans": trans,
        "poses2d": keypoints,
        "cam_poses": np.stack([camera(f) for f in range(frames)]),
        "campose_valid": [np.ones(frames, np.int64) for _ in people],
        "cam_intrinsics": INTRINSICS,
        "jointPositions": smpl_joints,
        "img_frame_ids": np.arange(0, 2 * frames, 2),
        "poses_60Hz": [np.zeros((2 * frames, 72)) for _ in people],
        "trans_60Hz": [np.zeros((2 * frames, 3)) for _ in people],
        "betas_clothed": betas,
        "v_template_clothed": [np.zeros((4, 3)) for _ in people],
        "texture_maps": [None for _ in people],
    }


def _detected(smpl_joints: np.ndarray, j24: np.ndarray, frame: int, rng: np.random.Generator) -> np.ndarray:
    """(3, 18): limbs where `jointPositions` has them, the rest where the body has it."""
    places = dict(zip(joints.J24, j24, strict=True))
    limbs = {n: p for n, p in zip(joints.SMPL24, smpl_joints, strict=True) if n in places and "hip" not in n}
    places |= {n: p for n, p in limbs.items() if n.startswith(("left_", "right_"))}
    pixels = project(in_camera(np.stack([places[name] for name in OPENPOSE]), frame))
    return np.concatenate([pixels, rng.uniform(0.1, 1.0, (18, 1))], axis=1).T


def write(root: pathlib.Path, split: str, name: str, content: dict, images: int | None = None) -> None:
    """Writes a sequence into an archive."""
    folder = root / "sequenceFiles" / split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pkl").write_bytes(python2.dumps(content))
    frames = len(content["cam_poses"]) if images is None else images
    pictures = root / "imageFiles" / name
    pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name))
    for frame in range(frames):
        coarse = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        cv2.imwrite(str(pictures / f"image_{frame:05d}.jpg"), cv2.resize(coarse, (WIDTH, HEIGHT)))


def archive(root: pathlib.Path) -> tuple[dict, dict]:
    """Two sequences: a man and a woman in `test`, with gaps, and a man in `validation`."""
    first, second = sequence(0, "mf"), sequence(1, "m")
    first["campose_valid"][1][0] = 0
    first["betas"][1] = np.concatenate([first["betas"][1], np.full(290, 9.0)])
    first["poses2d"][0][1] = 0
    write(root, "test", "a_00", first)
    write(root, "validation", "b_00", second)
    return first, second
