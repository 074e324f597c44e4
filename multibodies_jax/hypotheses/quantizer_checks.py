"""What the quantizer refuses, each with a ValueError that says what was expected."""

import numpy as np
from jax import core
from jaxtyping import Array, Bool, Float


def check_counts(n: int, num: int, starts: int = 1, iterations: int = 1) -> None:
    """Raises where n of num hypotheses cannot be chosen, or a count is below 1."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= num:
        raise ValueError(
            f"Cannot choose n={n!r} of M={num} hypotheses: n must be 1 to M, whole. Ask for fewer, or train with a larger M."
        )
    if starts < 1 or iterations < 1:
        raise ValueError(f"The quantizer needs at least 1 start and 1 iteration; got {starts} and {iterations}.")


def check_keys(points: Float[Array, "B M D"], log_weights: Array, keys: Array) -> None:
    """Raises where there is not one key per example and one log-weight per hypothesis."""
    batch, num, _ = points.shape
    if keys.shape != (batch,) or log_weights.shape != (batch, num):
        raise ValueError(
            f"Expected one key per example and one log-weight per hypothesis, {(batch,)} and {(batch, num)}; "
            f"got {keys.shape} and {log_weights.shape}. Make keys with jax.vmap(jax.random.fold_in, (None, 0)), from one "
            "key and a number of each example."
        )


def check_temperature(temperature: float | Float[Array, ""]) -> None:
    """Raises where a temperature is below 0 or NaN; one that is traced is unknown, and passes."""
    if not isinstance(temperature, core.Tracer) and not np.all(np.asarray(temperature) >= 0):  # NaN is refused as well.
        raise ValueError(
            f"The temperature is {temperature}; it has to be 0 (all hypotheses alike) or more: below 0 the least likely "
            "ones would count most."
        )


def check_finite(unusable: Bool[Array, "2 B"]) -> None:
    """Raises on what cannot be clustered; while tracing, values are unknown and the energy becomes NaN instead.

    Args:
      unusable: whether an example has points, and weights, that are not finite.
    """
    if isinstance(unusable, core.Tracer):
        return
    bad_points, bad_weights = np.asarray(unusable)
    if not (bad_points | bad_weights).any():
        return
    raise ValueError(
        f"Cannot cluster what is not finite: of {len(bad_points)} examples {int(bad_points.sum())} have NaN or "
        f"infinite joints and {int(bad_weights.sum())} a NaN, +inf or all -inf log-prior; the first is example "
        f"{int(np.argmax(bad_points | bad_weights))} of the batch. Check the model's output and the prior."
    )
