"""Rotations and forward kinematics in NumPy: against SciPy, and against a chain of matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multibodies_jax.geometry import joints, rotations_np


@given(seed=st.integers(0, 2**31 - 1), angle=st.sampled_from([0.0, 1e-8, 0.3, 3.0, np.pi]))
def test_rotations_agree_with_scipy(seed, angle):
    axis = np.random.default_rng(seed).normal(size=(4, 3))
    axis_angle = angle * axis / np.linalg.norm(axis, axis=1, keepdims=True)
    expected = Rotation.from_rotvec(axis_angle)
    np.testing.assert_allclose(rotations_np.axis_angle_to_matrix(axis_angle), expected.as_matrix(), atol=1e-12)
    got, quaternion = rotations_np.matrix_to_quaternion(expected.as_matrix()), expected.as_quat(scalar_first=True)
    np.testing.assert_allclose(np.abs((got * quaternion).sum(1)), 1, atol=1e-12)


@given(seed=st.integers(0, 2**31 - 1), size=st.sampled_from([0.0, 1e-8, 1.0, np.pi]))
def test_rotations_come_back(seed, size):
    vector = np.random.default_rng(seed).normal(size=(2, 3, 3))
    vector *= size / np.linalg.norm(vector, axis=-1, keepdims=True)
    rotmats = rotations_np.axis_angle_to_matrix(vector)
    np.testing.assert_allclose(
        rotmats @ np.swapaxes(rotmats, -1, -2), np.broadcast_to(np.eye(3), (2, 3, 3, 3)), atol=1e-12
    )
    again = rotations_np.axis_angle_to_matrix(rotations_np.matrix_to_axis_angle(rotmats))
    np.testing.assert_allclose(again, rotmats, atol=1e-7)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_about_turns_about_the_axis(axis):
    angle = np.array([[-170.0, 0.0], [30.0, 90.0]])
    expected = Rotation.from_euler(axis, angle.reshape(4, 1), degrees=True).as_matrix().reshape(2, 2, 3, 3)
    np.testing.assert_allclose(rotations_np.about(axis, angle), expected, atol=1e-12)


def test_forward_kinematics_equals_a_chain_of_matrices():
    rng = np.random.default_rng(0)
    rotmats = rotations_np.axis_angle_to_matrix(rng.normal(size=(2, 24, 3)))
    rest = rng.normal(size=(2, 24, 3))
    R_world, p_world = rotations_np.forward_kinematics(rotmats, rest)
    for n in range(2):
        for j in range(24):
            chain = [j]
            while joints.SMPL_PARENTS[chain[0]] >= 0:
                chain.insert(0, joints.SMPL_PARENTS[chain[0]])
            T = np.eye(4)
            for k in chain:
                parent = joints.SMPL_PARENTS[k]
                local = np.eye(4)
                local[:3, :3] = rotmats[n, k]
                local[:3, 3] = rest[n, k] - (rest[n, parent] if parent >= 0 else 0)
                T = T @ local
            np.testing.assert_allclose(R_world[n, j], T[:3, :3], atol=1e-12)
            np.testing.assert_allclose(p_world[n, j], T[:3, 3], atol=1e-12)


def test_about_a_unit_vector_of_each_example():
    rng = np.random.default_rng(0)
    axis = rng.normal(size=(5, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = rng.uniform(-170, 170, 5)
    expected = Rotation.from_rotvec(axis * np.radians(angle)[:, None]).as_matrix()
    np.testing.assert_allclose(rotations_np.about(axis, angle), expected, atol=1e-12)


def test_float32_rotations_are_computed_in_float64():
    axis_angle = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    got = rotations_np.axis_angle_to_matrix(axis_angle)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, Rotation.from_rotvec(axis_angle.astype(np.float64)).as_matrix(), atol=1e-12)
