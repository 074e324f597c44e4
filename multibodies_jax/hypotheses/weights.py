"""The weights of the M hypotheses of an image (3D Multi-bodies, eq 2).

Weights stand in the log domain, unnormalised, until a probability is needed: log-priors of one image can differ by
hundreds of nats, which exp cannot hold in float32.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

FLOOR = -1e5
"""Least log-weight, nats. Excluded hypotheses (-inf) are held here; above it even the least likely keep their order."""

Temperature = Float[Array, "..."] | float
"""Factor on the log-prior: 1 is eq (2) as printed, 0 weighs all hypotheses alike. Broadcasts against the log-prior."""

KINDS = {
    "prior": "the prior p(X)",
    "uniform": "uniform weights",
    "scores": "learned scores",
    "scores_and_prior": "learned scores and the prior p(X)",
}
"""Kind of weights -> its words. "prior" is eq (2); "uniform" ignores the prior; "scores" are the learned probabilities of the
score head (`models.scores`), "scores_and_prior" their products with p(X) to the power of the temperature."""


def log_weights_of(
    kind: str,
    log_prior: Float[Array, "*batch M"],
    log_scores: Float[Array, "*batch M"] | None,
    temperature: Temperature = 1.0,
) -> Float[Array, "*batch M"]:
    """The unnormalised log-weights of hypotheses; the softmax of them is that of eq (2).

    Args:
      kind: one of `KINDS`.
      log_prior: log p(X_m) of eq (4), nats.
      log_scores: of the score head; None of hypotheses without one.
      temperature: factor on the log-prior, T.

    Raises:
      ValueError: there is no such kind, or it reads scores and there are none.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown weights {kind!r} of the hypotheses: choose one of {', '.join(map(repr, KINDS))}.")
    if kind == "uniform":
        return jnp.zeros_like(log_prior)
    if kind == "prior":
        return tempered(log_prior, temperature)
    if log_scores is None:
        raise ValueError(
            f"The weights {kind!r} need learned scores, which these hypotheses lack: train with a config that has "
            "model.scores (configs/demo.py, those built upon it, or `default.add_scores`), or weigh them by 'prior'."
        )
    return log_scores if kind == "scores" else log_scores + tempered(log_prior, temperature)


def reads_prior(kind: str) -> bool:
    """Whether the temperature matters for a kind of weights."""
    return kind in ("prior", "scores_and_prior")


def reads_scores(kind: str) -> bool:
    """Whether a kind of weights needs a score head."""
    return kind in ("scores", "scores_and_prior")


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
    return jax.nn.softmax(tempered(log_prior, temperature), axis=-1)


def log_posterior_weights(
    log_prior: Float[Array, "*batch M"], temperature: Temperature = 1.0
) -> Float[Array, "*weights_batch M"]:
    """Logarithm of `posterior_weights`, without underflow: T log p(X_m) - logsumexp_k T log p(X_k)."""
    return jax.nn.log_softmax(tempered(log_prior, temperature), axis=-1)


def tempered(log_prior: Float[Array, "*batch M"], temperature: Temperature = 1.0) -> Float[Array, "*weights_batch M"]:
    """The exponent of eq (2), T log p(X_m): logarithms of the weights, not normalised."""
    return temperature * log_prior


def floored(log_weights: Float[Array, "*batch M"]) -> tuple[Float[Array, "*batch M"], Bool[Array, "*batch M"]]:
    """Log-weights that sum to 1, held above `FLOOR`, and which hypotheses were excluded by -inf."""
    log_w = log_posterior_weights(log_weights)
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
