"""Means of an error over examples, with their 95 % intervals."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import special

RESAMPLES = 2000
"""How often blocks of frames are drawn."""


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


def half_width(summary: Mapping[str, float | int]) -> float:
    """Half of the interval of a summary: that of a timeline where it has one, else `ci95`."""
    return (summary["high"] - summary["low"]) / 2 if "low" in summary else float(summary["ci95"])


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Examples that are frames of videos: neighbours in time are alike, so N of them say less than N independent examples.

    Attributes:
      frame: of each example; several cameras may have the same one.
      block: consecutive frames that are drawn together.
    """

    frame: Int[np.ndarray, "N"]
    block: int

    @classmethod
    def of_ids(cls, ids: Sequence[str], block: int) -> "Timeline":
        """That of examples whose ids end in CAMERA/FRAME.

        Raises:
          ValueError: an id does not end in the number of a frame.
        """
        frames = [name.rpartition("/")[2] for name in ids]
        if not all(frame.isdecimal() for frame in frames):
            raise ValueError(f"Frames of videos have ids that end in CAMERA/FRAME; got {ids[0]!r}.")
        return cls(np.array(frames, np.int64), block)

    def rows(self, some: np.ndarray) -> "Timeline":
        """That of some examples."""
        return dataclasses.replace(self, frame=self.frame[some])

    def summary(self, values: Float[np.ndarray, "N"]) -> dict[str, float | int]:
        """As `summary` (whose `ci95` takes examples for independent), with the interval `low` to `high` of `interval`."""
        low, high = self.interval(values)
        return summary(values) | {"low": low, "high": high}

    def paired(self, a: Float[np.ndarray, "N"], b: Float[np.ndarray, "_"]) -> dict[str, float | int]:
        """As `paired`, with the interval of `interval`."""
        low, high = self.interval(_finite(a) - _finite(b))
        return paired(a, b) | {"low": low, "high": high}

    def interval(self, values: Float[np.ndarray, "N"]) -> tuple[float, float]:
        """95 % interval of the mean over examples, by resampling blocks of consecutive frames.

        Frames are drawn in blocks, which begin at any frame and go on at the first one after the last (circular block
        bootstrap: Politis and Romano, 1992). All examples of a frame stay together. A block is at most half of the frames.
        The draws are the same in every call.
        """
        low, high = np.percentile(self.resampled_means(_finite(values)[:, None])[:, 0], (2.5, 97.5))
        return float(low), float(high)

    def resampled_means(self, values: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "R K"]:
        """The means over examples of each draw of `interval`."""
        frames, place = np.unique(self.frame, return_inverse=True)
        counts, length = np.bincount(place), len(frames)
        block = max(1, min(self.block, length // 2))
        starts = np.random.default_rng(0).integers(0, length, (RESAMPLES, -(-length // block)))
        drawn = ((starts[:, :, None] + np.arange(block)) % length).reshape(RESAMPLES, -1)[:, :length]
        examples = counts[drawn].sum(axis=1)
        sums = (np.bincount(place, column) for column in values.T)
        return np.stack([of_frames[drawn].sum(axis=1) / examples for of_frames in sums], axis=1)


def _finite(values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    values = np.asarray(values, np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if values.ndim != 1 or not len(values) or len(bad):
        raise ValueError(
            f"Statistics need finite values, one per example; got shape {values.shape} with {len(bad)} not finite"
            f"{f', the first at {bad[0]}' if len(bad) else ''}. Leave out what was not measured."
        )
    return values
