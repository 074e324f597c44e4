"""Filters of motions at any times: local polynomials for numbers and for rotations, and gaps bridged.

A sample is replaced by the value at its time of a polynomial that is fitted to its neighbours under Gaussian weights
(Savitzky and Golay, 1964; Cleveland, 1979). The window reaches equally far into the past and the future, and a quadratic
keeps accelerations, so that the result does not lag. Rotations are fitted as rotation vectors relative to an estimate,
which stays a rotation.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import transform

from multibodies_jax.geometry import rotations_np

WIDTH_S = 0.1
"""Seconds: the standard deviation of the Gaussian weights for joints and places."""
WEIGHT_WIDTH_S = 0.3
"""The same for probabilities."""

_REACH = 3.0  # Standard deviations beyond which samples do not count.
_LEAST_SHARE = 1e-3  # Of the weight that a sample must have to count as one of the points of a polynomial.
_FAR, _FAR_RAD = 2.0, 1.0  # A rotation this many times the median angle, and this angle, from the agreed one is wrong.


def window(seconds: Float[np.ndarray, "T"], at: int, width_s: float = WIDTH_S) -> slice:
    """The samples that count for sample `at`."""
    low = np.searchsorted(seconds, seconds[at] - _REACH * width_s, "left")
    high = np.searchsorted(seconds, seconds[at] + _REACH * width_s, "right")
    return slice(int(low), int(high))


def kernel(
    seconds: Float[np.ndarray, "T"], at_s: float | np.floating, width_s: float = WIDTH_S, degree: int = 2
) -> Float[np.ndarray, "T"]:
    """The factors of the samples in the value at one time of the polynomial fitted to them.

    Args:
      seconds: of the samples.
      at_s: the time.
      width_s: standard deviation of the Gaussian weights.
      degree: of the polynomial; lower where there are too few samples for it.

    Returns:
      Factors that sum to 1 and, for degree d, reproduce every polynomial of degree d.
    """
    offset = (seconds - at_s) / width_s
    weight = np.exp(-0.5 * offset**2)
    points = np.count_nonzero(weight > _LEAST_SHARE * weight.max())
    powers = offset[:, None] ** np.arange(min(degree, max(points - 1, 0)) + 1)
    root = np.sqrt(weight)
    return np.linalg.pinv(powers * root[:, None])[0] * root


def smooth_values(
    seconds: Float[np.ndarray, "T"],
    values: Float[np.ndarray, "T *shape"],
    width_s: float = WIDTH_S,
    degree: int = 2,
) -> Float[np.ndarray, "T *shape"]:
    """Filters numbers; memory beyond the result is that of one window.

    Args:
      seconds: of the samples, increasing.
      values: at these times.
      width_s: standard deviation of the Gaussian weights.
      degree: of the polynomial; 0 is a weighted mean, which keeps non-negative numbers so.
    """
    result = np.empty(values.shape)
    for at in range(len(seconds)):
        part = window(seconds, at, width_s)
        result[at] = np.tensordot(kernel(seconds[part], seconds[at], width_s, degree), values[part], 1)
    return result


def smooth_rotations(
    seconds: Float[np.ndarray, "W"], rotations: Float[np.ndarray, "W *shape 3 3"], at: int, width_s: float = WIDTH_S
) -> Float[np.ndarray, "*shape 3 3"]:
    """The filtered rotations of one sample.

    A sample that is far from what its window agrees on, such as a body that faces backwards in one frame, counts as
    missing: it is replaced by what lies between its neighbours.

    Args:
      seconds: of the samples in the window (`window`).
      rotations: at these times, of any number of joints.
      at: index of the sample.
      width_s: standard deviation of the Gaussian weights.
    """
    factors = kernel(seconds, seconds[at], width_s)
    flat = rotations.reshape(len(seconds), -1, 3, 3).astype(np.float64)
    estimate = _agreed(flat, np.exp(-0.5 * ((seconds - seconds[at]) / width_s) ** 2))
    vectors = _relative(estimate, flat)
    angle = np.linalg.norm(vectors, axis=-1)
    wrong = angle > _FAR_RAD + _FAR * np.median(angle, axis=0)
    for joint in np.flatnonzero(wrong.any(axis=0)):
        bad = wrong[:, joint]
        for axis in range(3):
            vectors[bad, joint, axis] = np.interp(seconds[bad], seconds[~bad], vectors[~bad, joint, axis])
    # The first estimate may be that of another time, and rotation vectors add up only near each other: a second fit.
    near = estimate @ _exp(np.tensordot(factors, vectors, 1))
    again = _relative(near, estimate @ _exp(vectors))
    return (near @ _exp(np.tensordot(factors, again, 1))).reshape(rotations.shape[1:])


def _agreed(flat: Float[np.ndarray, "W K 3 3"], weight: Float[np.ndarray, "W"]) -> Float[np.ndarray, "K 3 3"]:
    """Of each joint the sample with the smallest weighted sum of angles to all samples."""
    stacked = flat.reshape(*flat.shape[:2], 9).transpose(1, 0, 2)
    angles = np.arccos(np.clip((stacked @ stacked.transpose(0, 2, 1) - 1) / 2, -1, 1))
    return flat[(angles @ weight).argmin(axis=1), np.arange(flat.shape[1])]


def _relative(base: Float[np.ndarray, "K 3 3"], flat: Float[np.ndarray, "W K 3 3"]) -> Float[np.ndarray, "W K 3"]:
    """Rotation vectors from a base to samples."""
    return rotations_np.matrix_to_axis_angle(np.swapaxes(base, -1, -2) @ flat)


def _exp(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    return transform.Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)


def between_rotations(
    first: Float[np.ndarray, "*shape 3 3"], second: Float[np.ndarray, "*shape 3 3"], share: float | np.floating
) -> Float[np.ndarray, "*shape 3 3"]:
    """Rotations on the shortest way from the first to the second (Shoemake, 1985).

    Args:
      first: at share 0.
      second: at share 1.
      share: of the way.
    """
    start = first.reshape(-1, 3, 3).astype(np.float64)
    way = rotations_np.matrix_to_axis_angle(np.swapaxes(start, 1, 2) @ second.reshape(-1, 3, 3))
    return (start @ transform.Rotation.from_rotvec(share * way).as_matrix()).reshape(first.shape)


def neighbours(observed: Bool[np.ndarray, "T"], at: int) -> tuple[int, int]:
    """The nearest observed samples before and after one, itself where it is observed.

    Raises:
      ValueError: there is none on one side; only gaps between samples are bridged.
    """
    before, after = at, at
    while before >= 0 and not observed[before]:
        before -= 1
    while after < len(observed) and not observed[after]:
        after += 1
    if before < 0 or after == len(observed):
        raise ValueError(f"Sample {at} of {len(observed)} is not between observed ones.")
    return before, after
