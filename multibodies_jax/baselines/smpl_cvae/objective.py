"""What SMPL-CVAE reads and trains beside the rest: the true mesh, and the divergence of the latent from its prior.

  KL(N(mean, exp(log_var)) || N(0, 1)) = (mean^2 + exp(log_var) - 1 - log_var) / 2, summed over the latent

(3D Multi-bodies, appendix C; Kingma and Welling, 2014, appendix B).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from multibodies_jax.baselines.smpl_cvae import network
from multibodies_jax.batch import Batch
from multibodies_jax.body import smpl
from multibodies_jax.geometry import centring


def states_and_extra_terms(
    own: Any,
    states: Float[Array, "B 1 157"],
    extras: Mapping[str, Array],
    batch: Batch,
    step: Int[Array, ""],
) -> tuple[Float[Array, "B 1 157"], dict[str, Float[Array, "B"]], dict[str, Float[Array, ""]]]:
    """The states of the encoded truth, and the divergence in nats with its annealed weight; see `build.Network`.

    Args:
      own: `config.cvae`.
      states: of the training call of `network.CVAE`.
      extras: `mean` and `log_var` (B, Z) of the encoder.
      batch: with its target; an example without SMPL parameters has the divergence 0.
      step: of the training.
    """
    valid = batch.target.smpl_valid > 0
    kl = jnp.sum(kl_divergence(extras["mean"], extras["log_var"]), axis=1)
    return states, {"kl": jnp.where(valid, kl, 0.0)}, {"kl": annealed(step, own.weight, own.anneal_steps)}


def encoded_vertices(own: Any, body: smpl.SmplModel) -> np.ndarray:
    """The vertices of the true mesh that the encoder reads, by index; `own` is `config.cvae`."""
    return np.arange(0, len(body.v_template), own.vertex_stride)


def encoder_inputs(own: Any, body: smpl.SmplModel, j24: smpl.JointModel) -> Callable[[Batch], network.EncoderInputs]:
    """A function that adds to the inputs of a batch the mesh that the encoder reads; the mean body without a truth."""
    some = smpl.subset(body, encoded_vertices(own, body))

    def with_mesh(batch: Batch) -> network.EncoderInputs:
        inputs, target = batch.inputs, batch.target
        valid = target.smpl_valid > 0
        rotmats = jnp.where(valid[:, None, None, None], target.rotmats, jnp.eye(3)[None, None])
        betas = jnp.where(valid[:, None], target.betas, 0.0)
        midhip = centring.midhip(smpl.joints(j24, rotmats, betas))
        return network.EncoderInputs(
            inputs.evidence,
            inputs.kp2d_input,
            inputs.example_hash,
            inputs.image,
            inputs.feature,
            mesh=smpl.mesh(some, rotmats, betas) - midhip[:, None],
            mesh_valid=target.smpl_valid,
        )

    return with_mesh


def kl_divergence(mean: Float[Array, "B Z"], log_var: Float[Array, "B Z"]) -> Float[Array, "B Z"]:
    """Appendix C: KL(N(mu, exp(s)) || N(0, 1)) = (mu^2 + exp(s) - 1 - s) / 2, of each number of the latent, nats.

    Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014, appendix B.
    """
    return 0.5 * (jnp.square(mean) + (jnp.expm1(log_var) - log_var))  # exp(x) - 1 would cancel near 0.


def annealed(step: int | Int[Array, ""], weight: float, steps: int) -> Float[Array, ""]:
    """The weight of the divergence at a step: it grows linearly from 0 to `weight` in `steps` steps (Bowman et al., 2016).

    With `steps` 0 it is `weight` from the start.
    """
    return weight * jnp.minimum(step / steps, 1.0) if steps else jnp.asarray(weight)
