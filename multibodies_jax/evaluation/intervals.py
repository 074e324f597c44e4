"""Means of an error over examples, with their 95 % intervals."""

import numpy as np
from jaxtyping import Float
from scipy import special


def summary(values: Float[np.ndarray, "N"]) -> dict[str, float | int]:
    """Sum, count, mean and `ci95`, the half-width of the normal 95 % interval of the mean over examples.

    A single value has no interval: its `ci95` is 0.

    Raises:
      ValueError: if there is no value, or one is not finite.
    """
    values = _finite(values)
    count = len(values)
    ci95 = 1.96 * values.std(ddof=1) / np.sqrt(count) if count > 1 else 0.0
    return {"sum": float(values.sum()), "count": count, "mean": float(values.mean()), "ci95": float(ci95)}


def paired(a: Float[np.ndarray, "N"], b: Float[np.ndarray, "_"]) -> dict[str, float | int]:
    """Mean of a - b over the same examples, with its 95 % interval `low` to `high` by Student's t.

    Raises:
      ValueError: if the lengths differ, there are fewer than 2 examples, or a value is not finite.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"A paired interval needs at least 2 examples measured in both; got {len(a)} and {len(b)}.")
    difference = _finite(a) - _finite(b)
    mean, count = difference.mean(), len(difference)
    half = special.stdtrit(count - 1, 0.975) * difference.std(ddof=1) / np.sqrt(count)
    return {"mean": float(mean), "low": float(mean - half), "high": float(mean + half), "count": count}


def _finite(values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    values = np.asarray(values, np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if values.ndim != 1 or not len(values) or len(bad):
        raise ValueError(
            f"Statistics need finite values, one per example; got shape {values.shape} with {len(bad)} not finite"
            f"{f', the first at {bad[0]}' if len(bad) else ''}. Leave out what was not measured."
        )
    return values
