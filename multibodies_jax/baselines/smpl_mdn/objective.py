"""What SMPL-MDN trains: eq (9) and the mixture's negative log-likelihood (3D Multi-bodies, appendix C).

With the truth theta (log-rotations), means mu_m, weights alpha_m and standard deviations sigma_m of the components

  (9)  virtual prediction = sum_m w_m mu_m,   w_m = alpha_m N(theta | mu_m, sigma_m^2 I) / p(theta),
       p(theta) = sum_m alpha_m N(theta | mu_m, sigma_m^2 I),   negative log-likelihood = -log p(theta).
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax import exact
from multibodies_jax.baselines.smpl_mdn import network
from multibodies_jax.batch import Batch, Target
from multibodies_jax.geometry import rotations


def states_and_extra_terms(
    own: Any,
    states: Float[Array, "B M 157"],
    extras: Mapping[str, Array],
    batch: Batch,
    step: Int[Array, ""],
) -> tuple[Float[Array, "B 1 157"], dict[str, Float[Array, "B"]], dict[str, float]]:
    """The virtual prediction, and the mixture's negative log-likelihood in nats with its weight; see `build.Network`.

    Args:
      own: `config.mdn`.
      states: of the training call of `network.MDN`.
      extras: `log_alpha` and `log_sigma` (B, M).
      batch: with its target.
      step: unused, the weight is constant.
    """
    del step
    virtual, nll = objective(states, extras["log_alpha"], extras["log_sigma"], batch.target, own.root)
    return virtual, {"mixture": nll}, {"mixture": own.weight}


def objective(
    states: Float[Array, "B M 157"],
    log_alpha: Float[Array, "B M"],
    log_sigma: Float[Array, "B M"],
    target: Target,
    root: str,
) -> tuple[Float[Array, "B 1 157"], Float[Array, "B"]]:
    """What is trained: the virtual prediction, which the total loss takes (eqs 8, 9), and the negative log-likelihood.

    Args:
      states: of the components' means.
      log_alpha, log_sigma: log-weights and log standard deviations of the components.
      target: its `rotmats` and `smpl_valid`. Where it has none the virtual prediction takes
        the mixture's own weights, and the likelihood is left out (0).
      root: as in `MDN`.

    Returns:
      One state per example, and nats per example.
    """
    valid = target.smpl_valid > 0
    first = 1 if root == "shared" else 0
    truth = jnp.where(valid[:, None, None, None], target.rotmats, jnp.eye(3)[None, None])
    theta = rotations.matrix_to_axis_angle(truth[:, first:]).reshape(len(truth), 1, -1)
    means = averaged = network.log_rotations_of(states, first)
    if root == "mixture":
        # Two rotations close to half a turn may have opposite axis-angles: only those of one branch have a mean.
        side = jnp.where(valid[:, None, None], theta[..., :3], means[:, :1, :3])
        averaged = _root_near(means, side)
        theta = _root_near(jnp.broadcast_to(theta, means.shape), means[..., :3])
    log_p = log_density(theta, means, log_alpha, log_sigma)
    nll = jnp.where(valid, -jax.nn.logsumexp(log_p, axis=1), 0.0)
    virtual = virtual_prediction(averaged, jnp.where(valid[:, None], log_p, log_alpha))
    return network.with_log_rotations(jnp.mean(states, axis=1), virtual, first)[:, None], nll


def log_density(
    theta: Float[Array, "B #M D"],
    means: Float[Array, "B M D"],
    log_alpha: Float[Array, "B M"],
    log_sigma: Float[Array, "B M"],
) -> Float[Array, "B M"]:
    """log (alpha_m N(theta | mu_m, sigma_m^2 I)) of eq 9, nats; its `logsumexp` over m is the mixture's log-likelihood.

    Never leaves the log domain: at sigma^2 = 0.001 the densities themselves under- and overflow float32.
    """
    size = theta.shape[-1]
    squared = jnp.sum(jnp.square(means - theta), axis=-1)
    return log_alpha - size * (0.5 * math.log(2 * math.pi) + log_sigma) - 0.5 * squared * jnp.exp(-2 * log_sigma)


def virtual_prediction(means: Float[Array, "B M D"], log_density: Float[Array, "B M"]) -> Float[Array, "B D"]:
    """Eq (9): theta^ = sum_m r_m mu_m, with r_m = p(theta | m) / sum_k p(theta | k), the posterior of component m.

    The weights are constants of the gradient, as in a step of EM: at sigma^2 = 0.001 their own derivative is a
    thousand times the distance of two components, and only says which of two near ones to take.
    """
    posterior = jax.lax.stop_gradient(jax.nn.softmax(log_density, axis=1))
    return exact.einsum("bm,bmd->bd", posterior, means)


def nearest_branch(theta: Float[Array, "*b 3"], mean: Float[Array, "*#b 3"]) -> Float[Array, "*b 3"]:
    """The log-rotation of the same rotation that is nearer to a mean: `theta`, or its turn the other way round.

    Seen from a camera most people's global rotation is near half a turn (y points down), where the two meet.
    """
    square = jnp.sum(jnp.square(theta), axis=-1, keepdims=True)
    angle = jnp.sqrt(jnp.maximum(square, 1e-12))
    other = theta * (1 - 2 * math.pi / angle)
    nearer = jnp.sum(jnp.square(other - mean), axis=-1) < jnp.sum(jnp.square(theta - mean), axis=-1)
    return jnp.where(nearer[..., None], other, theta)


def _root_near(log_rotations: Float[Array, "B M 72"], side: Float[Array, "B #M 3"]) -> Float[Array, "B M 72"]:
    """The log-rotations with the global one on the branch that is nearer to `side`."""
    near = nearest_branch(log_rotations[..., :3], side)
    return jnp.concatenate([near, log_rotations[..., 3:]], axis=-1)
