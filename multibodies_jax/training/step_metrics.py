"""What a training step reports beside its losses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.batch import Target
from multibodies_jax.hypotheses import hypotheses


def annotated_shares(target: Target) -> dict[str, Array]:
    """The share of the examples that feeds the losses on 2D keypoints, 3D joints and SMPL parameters."""
    return {
        "annotated_kp2d": jnp.mean(jnp.any(target.kp2d_valid > 0, axis=-1)),
        "annotated_joints3d": jnp.mean(jnp.any(target.joints3d_valid > 0, axis=-1)),
        "annotated_smpl": jnp.mean(target.smpl_valid > 0),
    }


def best_error(hyps: hypotheses.Hypotheses, target: Target, best: Int[Array, "B"]) -> Float[Array, ""]:
    """Mean distance of valid J24 joints to the best hypothesis, metres."""
    chosen = jnp.take_along_axis(hyps.joints24, best[:, None, None, None], axis=1)[:, 0]
    valid = target.joints3d_valid
    distance = jnp.linalg.norm(jnp.where(valid[..., None] > 0, chosen - target.joints3d, 0.0), axis=-1)
    return jnp.sum(distance * valid) / jnp.maximum(jnp.sum(valid), 1.0)


def used_hypotheses(best: Int[Array, "B"], num_hypotheses: int) -> Float[Array, ""]:
    """How many hypotheses are in use: exp of the entropy of `best` over the batch."""
    share = jnp.mean(jax.nn.one_hot(best, num_hypotheses), axis=0)
    return jnp.exp(-jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12))))
