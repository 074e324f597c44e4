"""The written-out Jacobians against automatic differentiation of the mesh, and against small turns in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.body import smpl
from multibodies_jax.fitting import jacobian
from multibodies_jax.geometry import rotations
from tests.helpers import random_body


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_the_jacobian_of_joints_equals_that_of_the_mesh_without_pose_correctives(seed):
    arrays = random_body.arrays(seed)
    arrays["posedirs"] = 0 * arrays["posedirs"]
    _, regressor, _ = random_body.make(seed)
    model = smpl.build(**arrays)
    rotmats, betas = random_body.poses(seed)

    def regressed(turns, betas):
        turned = jnp.einsum("jab,jbc->jac", rotmats, rotations.axis_angle_to_matrix(turns), precision="highest")
        return jnp.einsum("xv,va->xa", regressor, smpl.mesh(model, turned, betas), precision="highest")

    expected = jax.jit(jax.jacfwd(regressed, argnums=(0, 1)))(jnp.zeros((24, 3)), betas)
    by_rotation, by_shape = jacobian.of_joints(smpl.contract(model, regressor), rotmats, betas)
    np.testing.assert_allclose(by_rotation, expected[0], atol=1e-5)
    np.testing.assert_allclose(by_shape, expected[1], atol=1e-5)


@pytest.mark.parametrize("length", [0.0, 1e-4, 0.09, 0.11, 1.0, 3.1])
def test_the_jacobian_of_a_turn_equals_differences_in_float64(length):
    w, h = length * np.array([0.6, -0.64, 0.48]), 1e-5
    turned = [Rotation.from_rotvec(w + step * e) for e in np.eye(3) for step in (h, -h)]
    relative = [(Rotation.from_rotvec(w).inv() * R).as_rotvec() for R in turned]
    expected = [(plus - minus) / (2 * h) for plus, minus in zip(relative[::2], relative[1::2], strict=True)]
    np.testing.assert_allclose(jacobian.of_turn(jnp.asarray(w, jnp.float32)), np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.slow
def test_moments_of_a_batch_are_those_of_each_body():
    _, _, joint_model = random_body.make(0)
    rotmats, betas = random_body.poses(1, (2,))
    together = jacobian.moments(joint_model, rotmats, betas)
    for n in range(2):
        alone = jacobian.moments(joint_model, rotmats[n], betas[n])
        jax.tree.map(lambda x, one, n=n: np.testing.assert_allclose(x[n], one, atol=1e-5), together, alone)
