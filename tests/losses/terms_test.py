"""Every term of the loss by an example that can be computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.geometry import rotations
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.losses import terms
from tests.helpers import losses


def test_joint_error_is_the_mean_over_valid_joints():
    target = jnp.zeros((1, 3, 3)).at[0, 2].set(jnp.nan)
    pred = jnp.zeros((1, 2, 3, 3)).at[0, 0, 0].set(jnp.array([3.0, 0, 4])).at[0, 1, 1, 2].set(2.0)
    error = terms.joint_error(pred, target, jnp.array([[1.0, 0.25, 0.0]]))
    np.testing.assert_allclose(error, [[5 / 1.25, 0.25 * 2 / 1.25]], rtol=1e-6)
    assert terms.joint_error(pred, target, jnp.zeros((1, 3))).tolist() == [[0.0, 0.0]]


def test_reprojection_of_all_hypotheses_is_their_mean():
    target, visible = jnp.zeros((1, 2, 2)), jnp.array([[1.0, 1.0]])
    pred = jnp.zeros((1, 4, 2, 2)).at[0, 1, 0].set(jnp.array([0.3, 0.4])).at[0, 3, 1, 0].set(1.0)
    np.testing.assert_allclose(terms.reprojection_error(pred, target, visible), [[0.0, 0.25, 0.0, 0.5]], rtol=1e-6)
    loss = terms.hypothesis_reprojection_loss(pred, target, visible)
    np.testing.assert_allclose(loss, [0.75 / 4], rtol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.5, 3.0, np.pi])
def test_pose_error_of_an_angle(angle):
    target = jnp.broadcast_to(jnp.eye(3), (1, 24, 3, 3))
    turn = rotations.axis_angle_to_matrix(jnp.array([0.6, 0.0, 0.8]) * angle)
    error = terms.pose_error(target[:, None].at[0, 0, 5].set(turn), target, jnp.ones(1))
    np.testing.assert_allclose(error, [[2 * np.sqrt(2) * np.sin(angle / 2) / 24]], atol=1e-6)


@pytest.mark.slow
def test_betas_and_vertex_errors_are_norms():
    pred = jnp.zeros((2, 1, 10)).at[:, 0, :2].set(jnp.array([3.0, 4.0]))
    valid = jnp.array([1.0, 0.0])
    np.testing.assert_allclose(terms.betas_error(pred, jnp.zeros((2, 10)), valid), [[5.0], [0.0]], rtol=1e-6)
    mesh = jnp.zeros((2, 1, 4, 3)).at[:, 0, 1].set(jnp.array([0.0, 3.0, 4.0]))
    np.testing.assert_allclose(terms.vertex_error(mesh, jnp.zeros((2, 4, 3)), valid), [[5 / 4], [0.0]], rtol=1e-6)


def test_camera_loss_is_finite_and_continuous_where_it_becomes_linear():
    scale = jnp.array([0.0, -1.0, -1.0 - 1e-6, -2.0])
    loss = jax.vmap(lambda s: terms.camera_loss(jnp.array([[[s, 0.0, 0.0]]]))[0])(scale)
    np.testing.assert_allclose(loss, np.exp(20.0) * np.array([np.exp(-20.0), 1, 1, 21]), rtol=1e-4)


@pytest.mark.slow
def test_meshes_are_built_in_one_call():
    hyps, batch = losses.floats(losses.make())
    calls = []

    def vertices(rotmats, betas):
        calls.append(len(betas))
        return losses.fake_mesh(rotmats, betas)

    pred, target = terms.meshes(Hypotheses(**hyps), batch["rotmats"], batch["betas"], vertices)
    assert calls == [losses.B * losses.M + losses.B]
    np.testing.assert_allclose(target, losses.fake_mesh(batch["rotmats"], batch["betas"]), atol=1e-5)
    for b, m in ((0, 0), (1, 3), (4, 4)):
        one = losses.fake_mesh(hyps["rotmats"][b, m][None], hyps["betas"][b, m][None])
        np.testing.assert_allclose(pred[b, m], one[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_valid_and_not_finite_makes_its_term_so(value):
    one, valid = jnp.ones(1), jnp.ones((1, 3))
    for error, tail, mask in (
        (terms.joint_error, (3, 3), valid),
        (terms.reprojection_error, (3, 2), valid),
        (terms.pose_error, (3, 3, 3), one),
        (terms.vertex_error, (3, 3), one),
        (terms.betas_error, (3,), one),
    ):
        good = jnp.zeros((1, *tail))
        bad = good.at[(0,) * (len(tail) + 1)].set(value)
        assert not np.isfinite(error(bad[:, None], good, mask)).any(), error.__name__
        assert not np.isfinite(error(good[:, None], bad, mask)).any(), error.__name__
    for place in range(3):
        assert not np.isfinite(terms.camera_loss(jnp.ones((1, 2, 3)).at[0, 1, place].set(value)))
