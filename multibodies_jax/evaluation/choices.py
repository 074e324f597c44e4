"""Errors of what may be chosen among M measured bodies: single ones, growing sets, sets of every size."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.evaluation import protocols
from multibodies_jax.hypotheses import kmeans
from multibodies_jax.hypotheses.weights import floored_below_peak

SINGLE = ("first", "most probable", "expected", "random")
CURVES = ("mpjpe", "pa_mpjpe")  # Metrics whose error at every n is kept.


def single(errors: dict[str, Float[Array, "B M"]], weights: Float[Array, "B M"]) -> dict[str, dict[str, Array]]:
    """The error of one body, chosen without the truth.

    Args:
      errors: metric -> error of each body.
      weights: of the bodies; sum to 1.

    Returns:
      For each of SINGLE metric -> (B,): hypothesis 0; the one of the largest weight (the first of equal ones); the mean
      error under the weights; that of a body drawn with equal chances.
    """
    likeliest = jnp.argmax(weights, axis=1)[:, None]
    found: dict[str, dict[str, Array]] = {name: {} for name in SINGLE}
    for metric, error in errors.items():
        found["first"][metric] = error[:, 0]
        found["most probable"][metric] = jnp.take_along_axis(error, likeliest, axis=1)[:, 0]
        found["expected"][metric] = jnp.sum(weights * error, axis=1)
        found["random"][metric] = jnp.mean(error, axis=1)
    return found


def growing(
    errors: dict[str, Float[Array, "B M"]], order: Int[Array, "B M"], protocol: protocols.Protocol
) -> dict[str, Float[Array, "B M"]]:
    """Errors of the sets of the first 1, 2, ..., M bodies in an order: `metrics.reduce_set` at every n in one pass."""
    ordered = {name: jnp.take_along_axis(error, order, axis=1) for name, error in errors.items()}
    if protocol.selection == protocols.MINIMUM:
        return {name: jax.lax.cummin(ordered[name], axis=1) for name in CURVES}
    least = jax.lax.cummin(ordered["squared24"], axis=1)
    before = jnp.pad(least[:, :-1], ((0, 0), (1, 0)), constant_values=jnp.inf)
    places = jnp.arange(least.shape[1])[None]
    best = jax.lax.cummax(jnp.where(ordered["squared24"] < before, places, 0), axis=1)
    return {name: jnp.take_along_axis(ordered[name], best, axis=1) for name in CURVES}


def of_every(
    errors: dict[str, Float[Array, "B M"]], medoids: Int[Array, "B N n"], protocol: protocols.Protocol
) -> dict[str, Float[Array, "B N"]]:
    """Errors of N sets of each example, their members from `quantize.select_every` (-1 is none)."""

    def members(error: Float[Array, "B M"]) -> Float[Array, "B N n"]:
        found = jnp.take_along_axis(error[:, None], jnp.maximum(medoids, 0), axis=2)
        return jnp.where(medoids >= 0, found, jnp.inf)

    if protocol.selection == protocols.MINIMUM:
        return {name: jnp.min(members(errors[name]), axis=2) for name in CURVES}
    best = jnp.argmin(members(errors["squared24"]), axis=2)[..., None]
    return {name: jnp.take_along_axis(members(errors[name]), best, axis=2)[..., 0] for name in CURVES}


def centroid_joints(
    joints: Float[Array, "B M J 3"], log_weights: Float[Array, "B M"], assignment: Int[Array, "B M"], n: int
) -> Float[Array, "B n J 3"]:
    """The weighted mean of the joints of each cluster's members: the alternative to its medoid.

    Args:
      joints: any set of joints of each hypothesis, rooted alike.
      log_weights: of eq (2), unnormalised.
      assignment: the cluster, 0 to n - 1, of each hypothesis.
      n: number of clusters; none is empty.
    """
    # Above the floor, so that a cluster of excluded hypotheses has a mean.
    log_w = floored_below_peak(log_weights)
    _, share = jax.vmap(functools.partial(kmeans.shares, n=n))(log_w, assignment)
    return jnp.einsum("bmk,bmja->bkja", share, joints, precision="highest")
