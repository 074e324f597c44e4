"""What a training step reports beside its losses."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.hypotheses import hypotheses


def annotated_shares(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The share of the batch that feeds the losses on 2D keypoints, 3D joints and SMPL parameters."""
    valid = {name: jnp.any(batch[f"{name}_valid"] > 0, axis=-1) for name in ("kp2d", "joints3d")}
    return {f"annotated_{name}": jnp.mean(v) for name, v in (valid | {"smpl": batch["smpl_valid"] > 0}).items()}


def best_error(hyps: hypotheses.Hypotheses, batch: Mapping[str, Array], best: Int[Array, "B"]) -> Float[Array, ""]:
    """Mean distance of valid J24 joints to the best hypothesis, metres."""
    chosen = jnp.take_along_axis(hyps.joints24, best[:, None, None, None], axis=1)[:, 0]
    valid = batch["joints3d_valid"]
    distance = jnp.linalg.norm(jnp.where(valid[..., None] > 0, chosen - batch["joints3d"], 0.0), axis=-1)
    return jnp.sum(distance * valid) / jnp.maximum(jnp.sum(valid), 1.0)


def used_hypotheses(best: Int[Array, "B"], num_hypotheses: int) -> Float[Array, ""]:
    """How many hypotheses are in use: exp of the entropy of `best` over the batch."""
    share = jnp.mean(jax.nn.one_hot(best, num_hypotheses), axis=0)
    return jnp.exp(-jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12))))
