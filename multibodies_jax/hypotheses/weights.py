"""The weights of the M hypotheses of an image (3D Multi-bodies, eq 2).

Weights stand in the log domain, unnormalised, until a probability is needed: log-priors of one image can differ by
hundreds of nats, which exp cannot hold in float32.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from multibodies_jax import exact

FLOOR = -1e5
"""Least log-weight, nats. Excluded hypotheses (-inf) are held here; above it even the least likely keep their order."""

Temperature = Float[Array, "..."] | float
"""Factor on the log-prior: 1 is eq (2) as printed, 0 weighs all hypotheses alike. Broadcasts against the log-prior."""


def posterior_weights(
    log_prior: Float[Array, "*batch M"], temperature: Temperature = 1.0
) -> Float[Array, "*weights_batch M"]:
    """Eq (2): w_m = p(X_m)^T / sum_k p(X_k)^T, the probability of each hypothesis given the image.

    Args:
      log_prior: log p(X_m) of eq (4), nats; -inf excludes a hypothesis.
      temperature: T.

    Returns:
      The weights; they sum to 1 over M.
    """
    return normalized(tempered(log_prior, temperature))


def normalized(log_weights: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
    """exp(l_m) / sum_k exp(l_k): eq (2) of log-weights l_m of any kind; of l_m = T log p(X_m) it is `posterior_weights`."""
    return jax.nn.softmax(log_weights, axis=-1)


def log_normalized(log_weights: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
    """Logarithm of `normalized`, without underflow: l_m - log sum_k exp(l_k)."""
    return jax.nn.log_softmax(log_weights, axis=-1)


def tempered(log_prior: Float[Array, "*batch M"], temperature: Temperature = 1.0) -> Float[Array, "*weights_batch M"]:
    """The exponent of eq (2), T log p(X_m): logarithms of the weights, not normalised."""
    return temperature * log_prior


def floored(log_weights: Float[Array, "*batch M"]) -> tuple[Float[Array, "*batch M"], Bool[Array, "*batch M"]]:
    """Log-weights that sum to 1, held above `FLOOR`, and which hypotheses were excluded by -inf."""
    log_w = log_normalized(log_weights)
    return jnp.maximum(log_w, FLOOR), log_w == -jnp.inf


def floored_below_peak(log_weights: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
    """Log-weights relative to the likeliest hypothesis of each example, held above `FLOOR`."""
    return jnp.maximum(log_weights - jnp.max(log_weights, axis=-1, keepdims=True), FLOOR)


def effective_number(log_prior: Float[Array, "*batch M"], temperature: Temperature = 1.0) -> Float[Array, "*batch"]:
    """1 / sum_m w_m^2 of the weights of eq (2): the number of equally likely hypotheses that is as concentrated.

    Args:
      log_prior: log p(X_m), nats.
      temperature: T of eq (2).

    Returns:
      Between 1 (one hypothesis carries all the weight) and M (all weights are equal).
    """
    return 1.0 / jnp.sum(posterior_weights(log_prior, temperature) ** 2, axis=-1)


def of_clusters(weight: Float[Array, "B *sets M"], assignment: Int[Array, "B M"], n: int) -> Float[Array, "B *sets n"]:
    """Mass of each cluster: the sum of the weights of its members.

    Args:
      weight: of each hypothesis, of one kind or of several.
      assignment: the cluster, 0 to n - 1, of each hypothesis.
      n: number of clusters.
    """
    return exact.einsum("b...m,bmk->b...k", weight, jax.nn.one_hot(assignment, n))
