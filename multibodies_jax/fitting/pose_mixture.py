"""A mixture of Gaussians as the prior of SMPL's pose, as SMPLify has it: of the 69 axis-angle numbers without the root.

The energy of a pose p under components with weight w_m, mean mu_m and covariance S_m is

    E(p) = min_m [1/2 (p - mu_m)^T S_m^-1 (p - mu_m) - log w_m + 69/2 log 2 pi + 1/2 log(det S_m / min_k det S_k)],

the negative log-likelihood under the best component, up to one constant for all (Bogo et al., 2016). Everything is
computed from Cholesky factors and logarithms of determinants, which neither overflow nor underflow.
"""

import functools
import pathlib
from typing import no_type_check

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact, untrusted
from multibodies_jax.body import pickles

POSE_SIZE = 69
"""Numbers of a pose: the axis-angles of all joints except the root, joint by joint."""

ASSET = pathlib.Path(__file__).parent / "assets" / "pose_mixture.npz"
_KEYS = ("means", "covars", "weights")
_MOST_COMPONENTS = 1000
_ORIGIN = (
    "It is the file gmm_08.pkl of SMPLify's prior, which SPIN's fetch_data.sh and the site of SMPL-X's code "
    "(https://smpl-x.is.tue.mpg.de, registration) bring. Without it the mixture that ships with this package is used, "
    "fitted to motion capture of the CMU database"
)


@no_type_check  # Tree operations fill it with tracers and shapes as well.
@flax.struct.dataclass
class PoseMixture:
    """A mixture of K Gaussians, made by `build`.

    Attributes:
      whitening: L_m^-1 of S_m = L_m L_m^T: it turns a difference from the mean into one of unit covariance.
      shift: L_m^-1 mu_m.
      constant: what each component's energy is at its mean.
    """

    whitening: Float[Array, "K 69 69"]
    shift: Float[Array, "K 69"]
    constant: Float[Array, "K"]


def build(means: np.ndarray, covars: np.ndarray, weights: np.ndarray) -> PoseMixture:
    """Makes the mixture of its components, in float64.

    Args:
      means: (K, 69), radians.
      covars: (K, 69, 69), square radians.
      weights: (K,), not negative; only their ratios change which component is the best.

    Raises:
      ValueError: other shapes, numbers that are not finite, or a covariance that is not positive definite.
    """
    means, covars, weights = (np.asarray(x, np.float64) for x in (means, covars, weights))
    K = len(weights) if weights.ndim == 1 else 0
    if not 1 <= K <= _MOST_COMPONENTS or means.shape != (K, POSE_SIZE) or covars.shape != (K, POSE_SIZE, POSE_SIZE):
        raise ValueError(
            f"means {means.shape}, covars {covars.shape} and weights {weights.shape} were given; (K, {POSE_SIZE}), "
            f"(K, {POSE_SIZE}, {POSE_SIZE}) and (K,) are expected, of 1 to {_MOST_COMPONENTS} components"
        )
    finite = all(np.isfinite(x).all() for x in (means, covars, weights))
    if not finite or (weights < 0).any() or not weights.any():
        raise ValueError("the mixture has numbers that are not finite, or weights that are negative or all 0")
    try:
        factors = np.linalg.cholesky((covars + covars.transpose(0, 2, 1)) / 2)
    except np.linalg.LinAlgError:
        raise ValueError("a covariance of the mixture is not positive definite") from None
    whitening = np.stack([np.linalg.solve(factor, np.eye(POSE_SIZE)) for factor in factors])
    half_log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    with np.errstate(divide="ignore"):  # A component without weight costs infinitely much: it never wins.
        log_weights = np.log(weights)
    constant = POSE_SIZE / 2 * np.log(2 * np.pi) - log_weights + half_log_det - half_log_det.min()
    as_float = functools.partial(jnp.asarray, dtype=jnp.float32)
    return PoseMixture(as_float(whitening), as_float(np.einsum("kpq,kq->kp", whitening, means)), as_float(constant))


def load(path: str | pathlib.Path | None = None) -> PoseMixture:
    """Reads a mixture: the one that ships, SMPLify's pickle, or an .npz with the same arrays.

    Args:
      path: a file with `means` (K, 69), `covars` (K, 69, 69) and `weights` (K,); a pickle is read without running what it
        may contain. None: the mixture that ships.

    Raises:
      FileNotFoundError: there is no such file; the message says what it is, where it comes from, and what is used instead.
      ValueError: the file cannot be used.
    """
    path = ASSET if path is None else pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no mixture of poses {path}. {_ORIGIN}: leave the path at None.")
    try:
        return build(**{key: np.asarray(array) for key, array in _read(path).items()})
    except ValueError as error:
        raise ValueError(f"{path} is no mixture of poses: {error}. {_ORIGIN}.") from error


def energy(mixture: PoseMixture, pose: Float[Array, "*b 69"]) -> Float[Array, "*b"]:
    """E of poses, as this module defines it; the gradient flows through the best component alone.

    Args:
      mixture: the prior.
      pose: axis-angles of all joints except the root, radians.
    """
    return jnp.min(_energies(mixture, pose), axis=-1)


def curvature(mixture: PoseMixture, pose: Float[Array, "*b 69"]) -> Float[Array, "*b 69 69"]:
    """The second derivative of E at poses: the inverse covariance of the best component."""
    precisions = exact.einsum("kpq,kpr->kqr", mixture.whitening, mixture.whitening)
    return precisions[jnp.argmin(_energies(mixture, pose), axis=-1)]


def _energies(mixture: PoseMixture, pose: Float[Array, "*b 69"]) -> Float[Array, "*b K"]:
    """Of each component."""
    K = len(mixture.constant)
    columns = mixture.whitening.reshape(K * POSE_SIZE, POSE_SIZE).T
    whitened = exact.dot(pose, columns).reshape(*pose.shape[:-1], K, POSE_SIZE)
    leading = (None,) * (pose.ndim - 1)
    squared = jnp.sum((whitened - mixture.shift[leading]) ** 2, axis=-1)
    return 0.5 * squared + mixture.constant[leading]


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with untrusted.open_npz(path, "Download it again.") as file:
            return {key: file[key] for key in _KEYS}
    content = pickles.load(path)
    if not isinstance(content, dict) or not set(_KEYS) <= set(content):
        found = ", ".join(sorted(map(str, content))) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"a dictionary with {', '.join(_KEYS)} was expected, and {found or 'nothing'} is there")
    arrays = {key: np.asarray(content[key]) for key in _KEYS}
    if wrong := [key for key, array in arrays.items() if array.dtype.kind not in "fiu"]:
        raise ValueError(f"{', '.join(wrong)} of it are no arrays of numbers")
    return arrays
