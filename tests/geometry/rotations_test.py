"""Rotations against SciPy, at the angles where formulas break, and the 6D convention against golden values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multibodies_jax.geometry import rotations

ANGLES = [0.0, 1e-20, 1e-8, 1e-4, 0.0999, 0.1001, 1.0, 3.0, np.pi - 1e-4, np.pi - 1e-7, np.pi]
SEEDS = st.integers(0, 2**31 - 1)


def random_axes(seed=0, count=50):
    axes = np.random.default_rng(seed).normal(size=(count, 3))
    # The coordinate axes and ties between components are where branches of formulas meet.
    corners = np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1], [1, 1, 0], [1, 1, 1], [-1, 1, -1]])
    axes = np.concatenate([axes, corners])
    return axes / np.linalg.norm(axes, axis=1, keepdims=True)


def random_matrices(seed, batch):
    count = int(np.prod(batch))
    matrices = Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix().reshape((*batch, 3, 3))
    return jnp.asarray(matrices, jnp.float32)


def all_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("angle", [*ANGLES, 4.0, 50.0])
def test_axis_angle_to_matrix_equals_scipy(angle):
    axis_angle = (angle * random_axes()).astype(np.float32)
    expected = Rotation.from_rotvec(axis_angle.astype(np.float64)).as_matrix()
    got = rotations.axis_angle_to_matrix(jnp.asarray(axis_angle))
    np.testing.assert_allclose(got, expected, atol=2e-7 * max(angle, 2))


@pytest.mark.parametrize("angle", ANGLES)
def test_matrix_to_axis_angle_equals_scipy(angle):
    matrices = Rotation.from_rotvec(angle * random_axes()).as_matrix().astype(np.float32)
    got = np.asarray(rotations.matrix_to_axis_angle(jnp.asarray(matrices)), np.float64)
    assert np.linalg.norm(got, axis=-1).max() <= np.pi + 1e-6
    # As rotations: at half a turn the axis' sign is arbitrary.
    np.testing.assert_allclose(Rotation.from_rotvec(got).as_matrix(), matrices, atol=1e-6)


@pytest.mark.parametrize("angle", [1e-30, 1e-8, 1e-3, 1.0, 3.0])
def test_axis_angles_come_back_with_relative_precision(angle):
    axis_angle = jnp.asarray(angle * random_axes(), jnp.float32)
    back = rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(axis_angle))
    np.testing.assert_allclose(back, axis_angle, rtol=1e-5, atol=1e-6 * angle)


@pytest.mark.slow
@pytest.mark.parametrize("angle", ANGLES)
def test_gradients_are_finite_and_right(angle):
    axis_angle = jnp.asarray(angle * random_axes(), jnp.float32)
    jacobian = jax.vmap(jax.jacfwd(rotations.axis_angle_to_matrix))(axis_angle)
    assert all_finite(jacobian)
    assert all_finite(jax.vmap(jax.jacrev(rotations.axis_angle_to_matrix))(axis_angle))
    assert all_finite(jax.vmap(jax.jacrev(rotations.matrix_to_axis_angle))(rotations.axis_angle_to_matrix(axis_angle)))
    step = 1e-4  # Central differences of SciPy's matrices, in float64.
    for i, offset in enumerate(step * np.eye(3)):
        above, below = (
            Rotation.from_rotvec(np.asarray(axis_angle, np.float64) + sign * offset).as_matrix() for sign in (1, -1)
        )
        np.testing.assert_allclose(jacobian[..., i], (above - below) / (2 * step), atol=1e-5)


@pytest.mark.slow
def test_axis_angle_gradient_through_the_matrix_is_the_identity():
    through = lambda v: rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(v))  # noqa: E731
    for angle in (0.0, 1e-8, 0.05, 1.0, 3.0):
        jacobians = jax.vmap(jax.jacrev(through))(jnp.asarray(angle * random_axes(), jnp.float32))
        np.testing.assert_allclose(jacobians, np.broadcast_to(np.eye(3), jacobians.shape), atol=1e-5)


@pytest.mark.slow
def test_second_derivatives_are_finite_at_no_rotation():
    hessian = jax.hessian(lambda v: rotations.axis_angle_to_matrix(v).sum())(jnp.zeros(3))
    assert all_finite(hessian)


def test_the_6d_convention_is_interleaved():
    np.testing.assert_array_equal(rotations.rot6d_to_matrix(jnp.array([1.0, 0, 0, 1, 0, 0])), np.eye(3))
    np.testing.assert_array_equal(rotations.matrix_to_rot6d(jnp.eye(3)), [1, 0, 0, 1, 0, 0])
    # A quarter turn about z takes x to y: the columns are y and -x.
    quarter = rotations.rot6d_to_matrix(jnp.array([0.0, -1, 1, 0, 0, 0]))
    np.testing.assert_allclose(quarter, Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix(), atol=1e-7)
    # Orthonormalised by hand: columns (0, 3, 4) and (0, 0, 5).
    golden = [[0, 0, 1], [0.6, -0.8, 0], [0.8, 0.6, 0]]
    np.testing.assert_allclose(rotations.rot6d_to_matrix(jnp.array([0.0, 0, 3, 0, 4, 5])), golden, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@given(seed=SEEDS)
def test_6d_vectors_come_back_whatever_their_lengths(batch, seed):
    R = random_matrices(seed, batch)
    rng = np.random.default_rng(seed)
    scale = jnp.asarray(rng.uniform(0.1, 10, (*batch, 1, 2)), jnp.float32)
    slant = jnp.asarray(rng.normal(size=(*batch, 1)), jnp.float32)
    columns = R[..., :2] * scale
    columns = columns.at[..., 1].add(slant * R[..., 0])  # The second column's part along the first has no effect.
    np.testing.assert_allclose(rotations.rot6d_to_matrix(columns.reshape((*batch, 6))), R, atol=2e-5)
    np.testing.assert_array_equal(rotations.matrix_to_rot6d(R).reshape((*batch, 3, 2)), R[..., :2])


@pytest.mark.slow
@pytest.mark.parametrize("x", [[0.0] * 6, [1.0, 1, 0, 0, 0, 0], [1.0, 2, 1, 2, 1, 2], [1e-20] * 6, [1e15] * 6])
def test_degenerate_6d_vectors_have_finite_values_and_gradients(x):
    assert all_finite(rotations.rot6d_to_matrix(jnp.array(x)))
    assert all_finite(jax.jacrev(rotations.rot6d_to_matrix)(jnp.array(x)))
