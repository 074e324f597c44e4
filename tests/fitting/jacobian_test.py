"""The written-out Jacobian against automatic differentiation of the mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import smpl
from multibodies_jax.fitting import jacobian
from multibodies_jax.geometry import rotations
from tests.helpers import random_body


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
