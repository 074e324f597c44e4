"""Filters of motions at any times: local polynomials for numbers and for rotations, and gaps bridged.

A sample is replaced by the value at its time of a polynomial that is fitted to its neighbours under Gaussian weights
(Savitzky and Golay, 1964; Cleveland, 1979). The window reaches equally far into the past and the future, and a quadratic
keeps accelerations, so that the result does not lag. Rotations are fitted as rotation vectors relative to the estimate
itself, which stays a rotation.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import transform

WIDTH_S = 0.1
"""Seconds: the standard deviation of the Gaussian weights for joints and places."""
WEIGHT_WIDTH_S = 0.3
"""The same for probabilities."""

_REACH = 3.0  # Standard deviations beyond which samples do not count.
_LEAST_SHARE = 1e-3  # Of the weight that a sample must have to count as one of the points of a polynomial.
_ROUNDS = 2  # The second fits about the first estimate, so that a noisy middle sample has no say in what is near.


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

    Args:
      seconds: of the samples in the window (`window`).
      rotations: at these times, of any number of joints.
      at: index of the sample.
      width_s: standard deviation of the Gaussian weights.
    """
    factors = kernel(seconds, seconds[at], width_s)
    flat = rotations.reshape(len(seconds), -1, 3, 3).astype(np.float64)
    estimate = flat[at]
    for _ in range(_ROUNDS):
        relative = np.einsum("jba,tjbc->tjac", estimate, flat)
        vectors = transform.Rotation.from_matrix(relative.reshape(-1, 3, 3)).as_rotvec()
        step = np.tensordot(factors, vectors.reshape(len(seconds), -1, 3), 1)
        estimate = estimate @ transform.Rotation.from_rotvec(step).as_matrix()
    return estimate.reshape(rotations.shape[1:])


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
    relative = np.swapaxes(start, 1, 2) @ second.reshape(-1, 3, 3)
    way = transform.Rotation.from_matrix(relative).as_rotvec()
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
