import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibodies_jax.body import smpl
from multibodies_jax.geometry import rotations
from multibodies_jax.hypotheses import hypotheses
from tests.helpers import random_body

mesh = jax.jit(smpl.mesh)
decode = jax.jit(hypotheses.decode)
MODEL, REGRESSOR, JOINT_MODEL = random_body.make()


def random_state(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, 157)), jnp.float32)


def numpy_rot6d(x):
    """One rotation by Gram-Schmidt; the two columns are interleaved."""
    a, b = np.array(x[0::2], np.float64), np.array(x[1::2], np.float64)
    a = a / np.linalg.norm(a)
    b = b - a @ b * a
    b = b / np.linalg.norm(b)
    return np.stack([a, b, np.cross(a, b)], axis=1)


def test_decode_equals_the_mesh_and_its_regressor_body_by_body():
    state = random_state(0, (2, 3))
    decoded = decode(state, JOINT_MODEL)
    for i, j in np.ndindex(2, 3):
        numbers = np.asarray(state[i, j])
        rotmats = np.stack([numpy_rot6d(numbers[6 * k : 6 * k + 6]) for k in range(24)])
        betas = numbers[144:154]
        verts = mesh(MODEL, jnp.asarray(rotmats, jnp.float32), jnp.asarray(betas))
        points = np.asarray(REGRESSOR, np.float64) @ np.asarray(verts, np.float64)
        midhip = (points[2] + points[3]) / 2
        np.testing.assert_allclose(decoded.rotmats[i, j], rotmats, atol=1e-5)
        np.testing.assert_array_equal(decoded.betas[i, j], betas)
        np.testing.assert_array_equal(decoded.cam[i, j], numbers[154:])
        np.testing.assert_allclose(decoded.midhip[i, j], midhip, atol=1e-5)
        np.testing.assert_allclose(decoded.joints24[i, j], points - midhip, atol=1e-5)
        assert decoded.log_prior[i, j] == 0


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_decode_takes_any_leading_axes(shape):
    decoded = jax.eval_shape(hypotheses.decode, random_state(1, shape), JOINT_MODEL)
    assert decoded.log_prior.shape == shape
    assert decoded.joints24.shape == (*shape, 24, 3)


@given(seed=st.integers(0, 2**31 - 1))
def test_zero_root_joints_are_those_of_the_body_with_an_identity_root(seed):
    decoded = decode(random_state(seed, (2, 3)), JOINT_MODEL)
    rotmats = decoded.rotmats.at[..., 0, :, :].set(jnp.eye(3))
    points = jax.jit(smpl.joints)(JOINT_MODEL, rotmats, decoded.betas)
    expected = points - points[..., 2:4, :].mean(axis=-2, keepdims=True)
    np.testing.assert_allclose(hypotheses.zero_root_joints(decoded), expected, atol=2e-5)


@pytest.mark.slow
def test_decode_has_finite_gradients_at_the_rest_pose():
    rest = jnp.concatenate([jnp.tile(rotations.matrix_to_rot6d(jnp.eye(3)), 24), jnp.zeros(13)])

    def loss(state):
        decoded = hypotheses.decode(state, JOINT_MODEL)
        return jnp.sum(decoded.joints24**2) + jnp.sum(hypotheses.zero_root_joints(decoded))

    assert np.isfinite(jax.jit(jax.grad(loss))(rest)).all()


def test_pick_and_concatenate_agree_with_loops():
    first = decode(random_state(2, (2, 3)), JOINT_MODEL)
    second = decode(random_state(3, (2, 3)), JOINT_MODEL)
    both = hypotheses.concatenate([first, second])
    index = np.array([[5, 0, 3], [4, 4, 1]])
    picked = hypotheses.pick(both, jnp.asarray(index))
    for name in ("rotmats", "betas", "cam", "joints24", "midhip", "log_prior"):
        a, b, got = (np.asarray(getattr(h, name)) for h in (first, second, picked))
        for i, j in np.ndindex(*index.shape):
            m = index[i, j]
            np.testing.assert_array_equal(got[i, j], a[i, m] if m < 3 else b[i, m - 3])


def test_pick_outside_is_nan_and_never_another_body():
    picked = hypotheses.pick(decode(random_state(4, (2, 3)), JOINT_MODEL), jnp.array([[3, 2], [0, 1]]))
    assert np.isnan(picked.joints24[0, 0]).all()
    assert np.isfinite(picked.joints24[0, 1]).all()


def test_concatenate_of_nothing_says_so():
    with pytest.raises(ValueError, match="at least one"):
        hypotheses.concatenate([])


def test_a_set_of_hypotheses_survives_tree_operations():
    decoded = decode(random_state(5, (2, 3)), JOINT_MODEL)
    assert jax.tree.map(np.shape, decoded).cam == (2, 3, 3)
    assert isinstance(jax.device_get(decoded).cam, np.ndarray)
    mapped = jax.vmap(hypotheses.zero_root_joints)(decoded)
    np.testing.assert_allclose(mapped, hypotheses.zero_root_joints(decoded), atol=1e-6)
