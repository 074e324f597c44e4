"""Statistics over images and seeds: means with bootstrap intervals, paired comparisons. Percentages and millimetres alike."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import scipy.stats
from jaxtyping import Float

from multibodies_jax.evaluation import calibration, intervals

RESAMPLES = 10_000
CHUNK = 2_000_000  # Draws held at once.

Key = TypeVar("Key", bound=Hashable)
Values = Float[np.ndarray, "_ N"]  # One row a seed, one column an image; NaN where an image has no such value.


def bootstrap(
    values: Float[np.ndarray, "N K"],
    resamples: int = RESAMPLES,
    seed: int = 0,
    timeline: intervals.Timeline | None = None,
) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
    """The percentile 95 % interval of each column's mean, images drawn with replacement.

    All columns see the same draws, so that equal columns have equal intervals.

    Args:
      values: of N images; NaN is left out, but at least one of a column is finite.
      resamples: how often the N images are drawn.
      seed: of the draws.
      timeline: of images that are frames of videos: blocks of frames are drawn instead (`Timeline.interval`, whose draws
        are always the same).

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
    """
    size = len(values)
    known = np.isfinite(values)
    if not known.any(axis=0).all():
        raise ValueError(
            f"Column {int(np.argmin(known.any(axis=0)))} of {values.shape[1]} has no finite value: leave it out."
        )
    if timeline is not None:
        ends = [timeline.rows(its).interval(column[its]) for column, its in zip(values.T, known.T, strict=True)]
        return np.array([low for low, _ in ends]), np.array([high for _, high in ends])
    center = np.nanmean(values, axis=0)
    centered = np.where(known, values - center[None], 0.0)
    means = []
    for counts in _draws(size, resamples, seed):
        total = np.float64(size) if known.all() else np.maximum(counts @ known, 1.0)
        means.append(counts @ centered / total)
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5), axis=0)
    return center + low, center + high


def _draws(size: int, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "R N"]]:
    """How often each of N images is drawn, for some resamples at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, rows := max(CHUNK // size, 1)):
        rows_now = min(rows, resamples - start)
        draws = rng.integers(size, size=(rows_now, size)) + size * np.arange(rows_now)[:, None]
        yield np.bincount(draws.ravel(), minlength=rows_now * size).reshape(rows_now, size).astype(np.float64)


def calibration_error(
    probability: Values, true: Values, timeline: intervals.Timeline | None = None
) -> tuple[float, float, float]:
    """The expected calibration error of one prediction for each image, as the mean over seeds, and its 95 % interval.

    Images (with a timeline: blocks of frames) are drawn with replacement, all seeds of an image together. Few images
    have an error even where predictions are exact, and draws of them more of it: the interval is rather too high.

    Args:
      probability: of each prediction, [0, 1].
      true: 1 where it came true, else 0.
      timeline: of images that are frames of videos.

    Returns:
      (the error, the ends of its interval).
    """
    seeds, size = probability.shape
    gaps = np.zeros((size, seeds, calibration.BINS))
    place = calibration.bin_of(probability)
    np.put_along_axis(gaps, place.T[..., None], (probability - true).T[..., None], axis=2)
    flat = gaps.reshape(size, -1)
    # |sum of gaps| of a bin is its count times |mean probability - frequency|.
    drawn = (
        np.concatenate([counts @ flat / size for counts in _draws(size, RESAMPLES, 0)])
        if timeline is None
        else timeline.resampled_means(flat)
    )
    errors = np.abs(drawn).reshape(-1, seeds, calibration.BINS).sum(axis=2).mean(axis=1)
    own = np.abs(flat.mean(axis=0)).reshape(seeds, -1).sum(axis=1).mean()
    low, high = np.percentile(errors, (2.5, 97.5))
    return float(own), float(low), float(high)


def summarize(columns: Mapping[Key, Values], timeline: intervals.Timeline | None = None) -> dict[Key, dict[str, Any]]:
    """Mean, bootstrap interval over images (with a timeline over blocks of frames) and spread over seeds of each column.

    Returns:
      Of each key: `mean`; `low`, `high`: 95 % interval over images of the mean over seeds; `seeds`: their number;
      `seed_min`, `seed_max`: the least and the greatest mean of a seed.
    """
    if not columns:
        return {}
    stacked = np.stack([_over_seeds(values) for values in columns.values()], axis=1)
    low, high = bootstrap(stacked, timeline=timeline)
    result = {}
    for i, (key, values) in enumerate(columns.items()):
        means = np.nanmean(values, axis=1)
        result[key] = {
            "mean": float(np.nanmean(_over_seeds(values))),
            "low": float(low[i]),
            "high": float(high[i]),
            "seeds": len(values),
            "seed_min": float(means.min()),
            "seed_max": float(means.max()),
        }
    return result


def compare(
    pairs: Mapping[Key, tuple[Values, Values]], timeline: intervals.Timeline | None = None, ranked: bool = True
) -> dict[Key, dict[str, Any]]:
    """Paired differences a - b over the same images and seeds.

    Args:
      pairs: key -> (a, b), row s of both from the same seed, column i of both from the same image.
      timeline: of images that are frames of videos.
      ranked: whether `p` is wanted, which takes most of the time.

    Returns:
      Of each key: `mean`; `low`, `high`: bootstrap 95 % interval over images of the difference averaged over seeds;
      `p`: two-sided, of Wilcoxon's signed-rank test of those differences, None where it is not `ranked` and with a
      timeline, because the test takes images for independent; `seeds`; `same_sign`: how many of the seeds have a mean
      difference of the sign of `mean`.

    Raises:
      ValueError: the arrays of a pair differ in shape.
    """
    for key, (a, b) in pairs.items():
        if a.shape != b.shape:
            raise ValueError(
                f"{key}: a paired comparison needs the same seeds and images, got {a.shape} and {b.shape}."
            )
    differences = {key: np.asarray(a, np.float64) - np.asarray(b, np.float64) for key, (a, b) in pairs.items()}
    result = {}
    for key, summary in summarize(differences, timeline).items():
        signs = np.sign(np.nanmean(differences[key], axis=1))
        result[key] = {name: summary[name] for name in ("mean", "low", "high")} | {
            "p": _signed_rank(_over_seeds(differences[key])) if ranked and timeline is None else None,
            "seeds": summary["seeds"],
            "same_sign": int((signs == np.sign(summary["mean"])).sum()),
        }
    return result


def verdict(low: float, high: float, more_is_better: bool = False) -> str:
    """ "better" or "worse" where the interval of a difference excludes 0, else ""."""
    if low <= 0 <= high:
        return ""
    return "better" if (low > 0) == more_is_better else "worse"


def _over_seeds(values: Values) -> Float[np.ndarray, "N"]:
    """Mean over the seeds; an image without a value in one seed is without one in all."""
    return np.asarray(values, np.float64).mean(axis=0)


def _signed_rank(differences: Float[np.ndarray, "N"]) -> float:
    known = differences[np.isfinite(differences) & (differences != 0)]
    return float(scipy.stats.wilcoxon(known)[1]) if len(known) else 1.0  # pyright: ignore[reportArgumentType]
