"""Fits and the records of a set whose keypoints are theirs."""

import jax.numpy as jnp
import numpy as np

from multibodies_jax.body import smpl
from multibodies_jax.data import fit_files
from multibodies_jax.geometry import cameras, rotations

N = 24


def fits() -> fit_files.Fits:
    """Bodies near rest, facing the camera."""
    rng = np.random.default_rng(0)
    return fit_files.Fits(0.4 * rng.normal(size=(N, 24, 3)), 0.1 * rng.normal(size=(N, 10)), np.ones(N, bool))


def turned(by: int) -> fit_files.Fits:
    """The same in another order."""
    made = fits()
    return fit_files.Fits(*(np.roll(array, by, axis=0) for array in (made.pose, made.betas, made.valid)))


def records(joint_model: smpl.JointModel) -> list:
    """As a source gives them; without 3D truth."""
    made = fits()
    rotmats = rotations.axis_angle_to_matrix(jnp.asarray(made.pose, jnp.float32))
    points = smpl.joints(joint_model, rotmats, jnp.asarray(made.betas, jnp.float32))
    shown = np.asarray(cameras.project_crop(points, jnp.tile(jnp.asarray([0.8, 0.0, 0.0]), (N, 1))))
    box = {name: np.array([200.0, 200.0]) for name in ("box_center", "box_center_full")}
    box |= {name: 1.0 for name in ("box_scale", "box_scale_full")}
    seen = {name: np.ones(24, np.float32) for name in ("kp2d_valid", "kp2d_input")}
    empty = {"joints3d": np.zeros((24, 3), np.float32), "joints3d_valid": np.zeros(24, np.float32)}
    empty |= {"pose": np.zeros((24, 3), np.float32), "betas": np.zeros(10, np.float32), "smpl_valid": np.float32(0)}
    empty |= {"gender": np.int32(-1), "occlusion": np.int64(0)}
    return [box | seen | empty | {"example_id": f"set/{i}".encode(), "kp2d": 100 * shown[i] + 200} for i in range(N)]
