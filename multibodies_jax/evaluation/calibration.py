"""Calibration of a quantized set: does the truth fall in cluster k as often as its probability says?"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from multibodies_jax.evaluation import metrics, set_errors
from multibodies_jax.hypotheses import quantize, sharpening, weights

SHARPNESSES = tuple(round(0.1 * k, 1) for k in range(41))
"""Of probabilities (`sharpening.sharpened`), among which `fit` chooses: 0 makes all clusters equal, 1 leaves them."""

BINS = 10
"""Of equal width, of a reliability diagram."""

Masses = tuple[Float[np.ndarray, "_ _"], Int[np.ndarray, "_"]]
"""The masses (N, n) of n clusters of N examples, and which cluster the truth falls in (N,)."""

_ROUNDING = 1e-4  # Sums of float32 weights end this near to 1.
_LEAST = 1e-7  # Probability that the log-loss reads instead of a smaller one: a softmax in float32 reaches 0.


@no_type_check  # Tree operations fill it with NumPy arrays as well.
class Calibration(flax.struct.PyTreeNode):
    """In which of n clusters the truth falls, and what the clusters' probabilities were.

    Attributes:
      hit: see `nearest`.
      prob: (B, n) by the ending of their scores' names: "" the masses under the weights of the quantizer, "_uniform" under
        equal ones, "_scores" under learned scores, where there are any; "_fitted" and "_scores_fitted" are sharpened ones
        (`sharpening.sharpened`), where a sharpness was fitted.
    """

    hit: Int[Array, "B"]
    prob: dict[str, Float[Array, "B n"]]


def measure(
    log_weights: Float[Array, "B M"],
    log_scores: Float[Array, "B M"] | None,
    clusters: Mapping[str, quantize.Quantized],
    truth: set_errors.Truth,
    sharpness: Mapping[str, float],
) -> dict[str, Calibration]:
    """The calibration of quantized sets by their n.

    Args:
      log_weights: of the quantizer.
      log_scores: learned; None without a score head.
      clusters: by n.
      truth: what falls in one of them.
      sharpness: that was fitted (`fit`).
    """
    logs = {"": log_weights, "_uniform": jnp.zeros_like(log_weights)}
    logs |= {} if log_scores is None else {"_scores": log_scores}
    stacked, result = jnp.stack([*logs.values()], axis=1), {}
    for n, found in clusters.items():
        mass = probabilities(stacked, found.assignment, int(n))
        prob = {ending: mass[:, place] for place, ending in enumerate(logs)}
        for ending in logs:
            if ending in sharpness:
                prob[f"{ending}_fitted"] = jnp.asarray(sharpening.sharpened(prob[ending], sharpness[ending]))
        result[n] = Calibration(_hits(found.centroid, truth), prob)
    return result


def masses(
    found: quantize.Quantized,
    truth: set_errors.Truth,
    keep: Bool[np.ndarray, "B"],
    log_scores: Float[Array, "B M"] | None = None,
) -> dict[str, Masses]:
    """Those of the quantized sets of the examples that are kept, by the endings of `Calibration.prob`: "" and "_scores"."""
    prob, n = {"": found.prob}, found.prob.shape[1]
    if log_scores is not None:
        prob["_scores"] = probabilities(log_scores[:, None], found.assignment, n)[:, 0]
    hits = np.asarray(_hits(found.centroid, truth))[keep]
    return {ending: (np.asarray(its)[keep], hits) for ending, its in prob.items()}


@jax.jit
def _hits(centroids: Float[Array, "B n 24 3"], truth: set_errors.Truth) -> Int[Array, "B"]:
    return nearest(centroids, truth.joints24, truth.valid24)


@functools.partial(jax.jit, static_argnames="n")
def probabilities(log_weights: Float[Array, "B T M"], assignment: Int[Array, "B M"], n: int) -> Float[Array, "B T n"]:
    """Mass of each cluster: the sum of the weights of eq (2) over its members.

    Args:
      log_weights: T of each hypothesis, unnormalised, finite.
      assignment: the cluster, 0 to n - 1, of each hypothesis.
      n: number of clusters.
    """
    return weights.of_clusters(weights.normalized(log_weights), assignment, n)


def nearest(
    centroids: Float[Array, "B n J 3"], truth: Float[Array, "B J 3"], valid: Float[Array, "B J"]
) -> Int[Array, "B"]:
    """The cluster in which the truth falls: of the nearest centroid, by the squared distances of the valid joints.

    -1 where a centroid or a valid joint of the truth is not finite.
    """
    squared, valid = jnp.sum(jnp.square(centroids - truth[:, None]), axis=3), valid[:, None]
    return metrics.nearest(jnp.sum(jnp.where(valid == 0, 0.0, valid * squared), axis=2))


def log_loss(prob: Float[np.ndarray, "N n"], hit: Int[np.ndarray, "N"]) -> float:
    """Mean of `losses`, nats.

    Raises:
      ValueError: as `losses`.
    """
    return float(losses(prob, hit).mean())


def losses(prob: Float[np.ndarray, "N n"], hit: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """-log of the probability of the cluster in which the truth falls, nats; from 0 to -log 1e-7.

    Raises:
      ValueError: a probability is not one, or the truth of an example falls in no cluster (`nearest`).
    """
    _check(prob)
    if np.any(hit < 0):
        raise ValueError(
            f"The truth of example {int(np.argmax(hit < 0))} falls in no cluster: its joints or the clusters' are not finite."
        )
    found = np.take_along_axis(np.asarray(prob, np.float64), hit[:, None], axis=1)
    return -np.log(np.clip(found[:, 0], _LEAST, 1.0))


def fit(batches: Sequence[Sequence[Mapping[str, Masses]]], examples: int | None = None) -> dict[str, float]:
    """The sharpness of least log-loss, in the mean over sets of several sizes n; of equal ones the first in `SHARPNESSES`.

    Args:
      batches: `masses` of the sets of each size, for each batch.
      examples: take as many, the first; None takes all.

    Returns:
      It by the ending of the masses; empty where there are no sets.

    Raises:
      ValueError: as `losses`.
    """
    endings = batches[0][0] if batches and batches[0] else ()
    return {ending: _fit([[its[ending] for its in sets] for sets in batches], examples) for ending in endings}


def _fit(batches: Sequence[Sequence[Masses]], examples: int | None) -> float:
    of_each_n = [
        [np.concatenate(arrays)[:examples] for arrays in zip(*parts, strict=True)]
        for parts in zip(*batches, strict=True)
    ]
    found = [
        np.mean([log_loss(np.asarray(sharpening.sharpened(prob, s)), hit) for prob, hit in of_each_n])
        for s in SHARPNESSES
    ]
    return SHARPNESSES[int(np.argmin(found))]


def outcomes(hit: Int[np.ndarray, "N"], n: int) -> np.ndarray:
    """Whether the truth falls in each of n clusters, (N, n)."""
    return np.arange(n)[None] == hit[:, None]


def bins(prob: Float[np.ndarray, "*b"], outcome: np.ndarray) -> list[dict[str, Any]]:
    """The reliability diagram: ten bins of equal width of the predictions, empty ones left out.

    Args:
      prob: one prediction each, in [0, 1].
      outcome: whether it came true, of the same shape.

    Returns:
      A row per bin: `probability` (mean), `frequency` (share that came true), `count`.

    Raises:
      ValueError: a prediction is not in [0, 1].
    """
    _check(prob)
    p, y = np.asarray(prob, np.float64).ravel(), np.asarray(outcome, bool).ravel()
    place = bin_of(p)
    rows = []
    for k in np.unique(place):
        some = place == k
        row = {"probability": float(p[some].mean()), "frequency": float(y[some].mean()), "count": int(some.sum())}
        rows.append(row)
    return rows


def bin_of(prob: Float[np.ndarray, "*b"]) -> Int[np.ndarray, "*b"]:
    """In which of the ten bins a prediction in [0, 1] lies."""
    return np.clip((np.asarray(prob, np.float64) * BINS).astype(int), 0, BINS - 1)


def expected_error(rows: list[dict[str, Any]]) -> float:
    """Expected calibration error: the mean of |probability - frequency| over all predictions (Guo et al., 2017)."""
    total = sum(row["count"] for row in rows)
    return sum(row["count"] * abs(row["probability"] - row["frequency"]) for row in rows) / total


def describe(
    hit: Int[np.ndarray, "N"],
    tuned: Float[np.ndarray, "N n"],
    uniform: Float[np.ndarray, "N n"],
) -> dict[str, Any]:
    """Errors of the cluster probabilities of N images, every (image, cluster) pair being one prediction.

    Args:
      hit: the cluster in which the truth falls.
      tuned: under the weights that the quantizer uses.
      uniform: every hypothesis of the same weight.

    Returns:
      `count` of images; `ece`, `ece_uniform`; `top_ece`, `top_ece_uniform`, of each image's most probable cluster alone
      (the first of equal ones); `log_loss`, `log_loss_uniform` (nats); `bins` of `tuned`.
    """
    of_uniform = scores(hit, uniform)
    return {
        "count": len(hit),
        **scores(hit, tuned),
        **{f"{name}_uniform": value for name, value in of_uniform.items()},
        "bins": bins(tuned, outcomes(hit, tuned.shape[1])),
    }


def scores(hit: Int[np.ndarray, "N"], prob: Float[np.ndarray, "N n"]) -> dict[str, float]:
    """`ece`, `top_ece` and `log_loss` of the cluster probabilities of N images; see `describe`."""
    return {
        "ece": expected_error(bins(prob, outcomes(hit, prob.shape[1]))),
        "top_ece": expected_error(bins(*top(prob, hit))),
        "log_loss": log_loss(prob, hit),
    }


def top(prob: Float[np.ndarray, "N n"], hit: Int[np.ndarray, "N"]) -> tuple[Float[np.ndarray, "N"], np.ndarray]:
    """The probability of each image's most probable cluster (the first of equal ones), and whether the truth falls in it."""
    most = prob.argmax(axis=1)
    return np.take_along_axis(prob, most[:, None], axis=1)[:, 0], most == hit


def per_image(hit: Int[np.ndarray, "N"], prob: Float[np.ndarray, "N n"]) -> dict[str, Float[np.ndarray, "N"]]:
    """What intervals of the scores of N images are made of: `log_loss`, `top_probability` and `top_true` (0 or 1) of each."""
    probability, true = top(prob, hit)
    found = {"log_loss": losses(prob, hit), "top_probability": np.clip(probability, 0.0, 1.0), "top_true": true}
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def _check(prob: np.ndarray) -> None:
    bad = ~((np.asarray(prob) >= 0) & (np.asarray(prob) <= 1 + _ROUNDING))
    if bad.any():
        raise ValueError(
            f"A probability is {np.asarray(prob)[bad][0]}, of example {int(np.argwhere(bad)[0][0])}, and not between 0 "
            "and 1: the log-priors or the temperature are not finite."
        )
