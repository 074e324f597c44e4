"""What a set of hypotheses has to beat: single-hypothesis HMR with tuned noise, and bodies that never saw the image."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.body import smpl
from multibodies_jax.data import sources, virtual_views
from multibodies_jax.geometry import rotations
from multibodies_jax.hypotheses import hypotheses, quantize
from multibodies_jax.training import setup

NOISE_ROOT_DEG = (0.0, 2.5, 5.0, 10.0, 15.0, 25.0)
NOISE_POSE_DEG = (0.0, 1.0, 2.0, 4.0, 7.0, 11.0, 16.0)
_CODEBOOK_PEOPLE = 1000


def perturb(
    hyps: hypotheses.Hypotheses,
    n: int,
    keys: Array,
    root: Float[Array, ""],
    pose: Float[Array, ""],
    joint_model: smpl.JointModel,
) -> hypotheses.Hypotheses:
    """Turns one body per example into n: itself and n - 1 copies whose joints are turned at random.

    Args:
      hyps: leading axes (B, 1).
      keys: one per example.
      root, pose: standard deviation of the axis-angle noise on the root and on each other joint, radians.

    Returns:
      Leading axes (B, n); the sets are nested: a larger n only adds bodies.
    """
    sigma = jnp.concatenate([root[None], jnp.broadcast_to(pose, (23,))])

    def draw(key: Array) -> Array:
        rows = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (24, 3)))(jnp.arange(n))
        return rows.at[0].set(0.0) * sigma[None, :, None]

    noise = rotations.axis_angle_to_matrix(jax.vmap(draw)(keys))
    rotmats = jnp.einsum("bmjik,bmjkl->bmjil", jnp.broadcast_to(hyps.rotmats, noise.shape), noise, precision="highest")
    tiled = jax.tree.map(lambda x: jnp.broadcast_to(x, (x.shape[0], n, *x.shape[2:])), hyps)
    return place(rotmats, tiled.betas, tiled.cam, joint_model)


def place(
    rotmats: Float[Array, "*b 24 3 3"],
    betas: Float[Array, "*b 10"],
    cam: Float[Array, "*b 3"],
    joint_model: smpl.JointModel,
) -> hypotheses.Hypotheses:
    """Hypotheses from rotations instead of the network's 6D state."""
    state = jnp.concatenate([rotations.matrix_to_rot6d(rotmats).reshape(*betas.shape[:-1], 144), betas, cam], axis=-1)
    return hypotheses.decode(state, joint_model)


def codebooks(config: Any, bodies: setup.Bodies, ns: Sequence[int]) -> dict[str, hypotheses.Hypotheses]:
    """For each n, the n training bodies, seen from training views, that quantize the training set best.

    Sets that no image chooses. Keys are n as text; leading axes (1, n).
    """
    poses, betas = (jnp.asarray(x[:_CODEBOOK_PEOPLE]) for x in sources.load_people(config, "train"))
    key = jax.random.key(config.seed)
    views = virtual_views.synthesize(poses, betas, jax.random.split(key, len(poses)), bodies.j24, hide="none")
    everybody = place(views["rotmats"][None], views["betas"][None], jnp.zeros((1, len(poses), 3)), bodies.j24)
    chosen = {n: quantize.select(everybody, n, key[None], weights="uniform", iterations=100) for n in ns}
    return {str(n): hypotheses.pick(everybody, q.medoid) for n, q in chosen.items()}
