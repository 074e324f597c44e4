"""A random, tiny body in SMPL's format, for tests that need any body and none in particular."""

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from multibodies_jax.body import smpl

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


def arrays(seed: int = 0, vertices: int = 60) -> dict:
    """The arguments of `smpl.build` for a body of about human size."""
    rng = np.random.default_rng(seed)
    return {
        "v_template": 0.5 * rng.normal(size=(vertices, 3)),
        "shapedirs": 0.02 * rng.normal(size=(vertices, 3, 10)),
        "posedirs": 0.01 * rng.normal(size=(vertices, 3, 207)),
        "weights": rng.dirichlet(np.full(24, 0.2), size=vertices),
        "J_regressor": rng.dirichlet(np.full(vertices, 0.1), size=24),
        "faces": rng.integers(0, vertices, size=(20, 3)),
        "parents": PARENTS,
    }


def make(seed: int = 0, vertices: int = 60) -> tuple[smpl.SmplModel, np.ndarray, smpl.JointModel]:
    """The body, a J24 regressor of sparse rows that sum to 1, and both contracted."""
    model = smpl.build(**arrays(seed, vertices))
    regressor = np.zeros((24, vertices))
    rng = np.random.default_rng(seed + 1)
    for row in regressor:
        row[rng.choice(vertices, 3, replace=False)] = rng.dirichlet(np.ones(3))
    return model, regressor.astype(np.float32), smpl.contract(model, regressor.astype(np.float32))


def poses(seed, batch=()):
    """Random rotations of the joints and shape coefficients."""
    rng = np.random.default_rng(seed)
    rotmats = Rotation.random(24 * int(np.prod(batch)), rng=rng).as_matrix().reshape((*batch, 24, 3, 3))
    return jnp.asarray(rotmats, jnp.float32), jnp.asarray(rng.normal(size=(*batch, 10)), jnp.float32)
