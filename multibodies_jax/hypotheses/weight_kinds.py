"""Kinds of weights of hypotheses: those of eq (2), equal ones, learned scores, and scores with the prior.

3D Multi-bodies has the weights of eq (2) alone, "prior" (`weights.posterior_weights`).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.hypotheses.weights import Temperature, tempered

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
