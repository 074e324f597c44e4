"""The readings of section 4.1 that keep hypothesis 0: "keep_first", and the authors' own, "released".

Both return hypothesis 0, with its own weight as its probability, and n - 1 representatives of hypotheses 1 to M - 1.
"""

import functools

import jax
import jax.numpy as jnp
from jax import core
from jaxtyping import Array, Float, Int, Key

from multibodies_jax.hypotheses.quantize import (
    QUANTIZERS,
    Quantized,
    likeliest_first,
    quantize,
    random_subset,
)
from multibodies_jax.hypotheses.weights import normalized, of_clusters
from multibodies_jax.released import lloyd


def keep_first(
    points: Float[Array, "B M D"],
    log_weights: Float[Array, "B M"],
    n: int,
    keys: Key[Array, "B"],
    starts: int = 4,
    iterations: int = 30,
) -> Quantized:
    """Hypothesis 0 and the n - 1 medoids of the paper's K-means over the other hypotheses.

    Arguments and errors are those of `quantize.quantize`.
    """
    if n == 1:
        return first_alone(points, log_weights)
    rest, weights = _without_first(points, log_weights)
    others = quantize(rest, weights, n - 1, keys, starts, iterations)
    return with_first(points, log_weights, others)


def released(
    points: Float[Array, "B M D"],
    log_weights: Float[Array, "B M"],
    n: int,
    keys: Key[Array, "B"],
    starts: int = 1,
    iterations: int = 30,
    first_rows: Int[Array, "B rows"] | None = None,
) -> Quantized:
    """The choice of the authors' released code: hypothesis 0 and n - 1 medoids of hypotheses 1 to M - 1.

    Medoids are the hypotheses nearest to the centroids of plain Lloyd steps, whichever cluster they are in, so that
    one of them may stand for two clusters. With n = M every hypothesis is kept. Each example draws its own first rows
    from its key, where the original draws one unseeded permutation for a whole batch.

    Args:
      points: as of `quantize.quantize`, like `log_weights`, `n` and `keys`.
      starts: has no effect: the original starts once.
      iterations: most steps of Lloyd.
      first_rows: the n - 1 rows of each example from which Lloyd starts, counted from hypothesis 1 as 0, so that a run of
        the original is reproduced from its permutation; None draws them.

    Raises:
      ValueError: there are not n - 1 rows for each example, or (outside jit) one is no row of hypotheses 1 to M - 1.
    """
    del starts
    batch, num, _ = points.shape
    if first_rows is not None and first_rows.shape != (batch, n - 1):
        raise ValueError(f"Expected first_rows {(batch, n - 1)}, n - 1 for each example, got {first_rows.shape}.")
    if (
        first_rows is not None
        and not isinstance(first_rows, core.Tracer)
        and bool(jnp.any((first_rows < 0) | (first_rows >= num - 1)))
    ):
        raise ValueError(f"first_rows are counted from hypothesis 1 as 0, to {num - 2}; got one outside.")
    if n == 1:
        return first_alone(points, log_weights)
    return _lloyd_medoids(points, log_weights, n, keys, first_rows, iterations)


@jax.jit
def first_alone(points, log_weights) -> Quantized:
    """Hypothesis 0 stands for all."""
    batch, num, _ = points.shape
    squared = jnp.sum(jnp.square(points - points[:, :1]), axis=2)
    energy = jnp.sum(normalized(log_weights) * squared, axis=1)
    first, everything = jnp.zeros((batch, 1), jnp.int32), jnp.zeros((batch, num), jnp.int32)
    return Quantized(first, points[:, :1], jnp.ones((batch, 1)), everything, energy)


@functools.partial(jax.jit, static_argnames=("n", "iterations"))
def _lloyd_medoids(points, log_weights, n: int, keys, first_rows, iterations: int) -> Quantized:
    """`released` for n > 1."""
    num = points.shape[1]
    rest, weights = points[:, 1:], log_weights[:, 1:]
    if n == num:
        medoid = assignment = jnp.broadcast_to(jnp.arange(n - 1, dtype=jnp.int32)[None], weights.shape)
        centroid = rest
    else:
        first_rows = random_subset(num - 1, n - 1, keys) if first_rows is None else first_rows
        assignment, centroid = lloyd.lloyd(rest, weights, first_rows, iterations)
        medoid = lloyd.nearest_points(rest, centroid)
    share = normalized(weights)
    squared = jnp.sum(jnp.square(rest - jnp.take_along_axis(centroid, assignment[..., None], axis=1)), axis=2)
    prob = of_clusters(share, assignment, n - 1)
    found = Quantized(medoid, centroid, prob, assignment, jnp.sum(share * squared, axis=1))
    return with_first(points, log_weights, found)


@jax.jit
def _without_first(points, log_weights):
    return points[:, 1:], log_weights[:, 1:]


@jax.jit
def with_first(points, log_weights, others: Quantized) -> Quantized:
    """Hypothesis 0, a cluster of its own, beside the clusters of hypotheses 1 to M - 1."""
    weights = normalized(log_weights)
    rest = jnp.sum(weights[:, 1:], axis=1)
    first = jnp.zeros((len(points), 1), jnp.int32)
    medoid = jnp.concatenate([first, others.medoid + 1], axis=1)
    centroid = jnp.concatenate([points[:, :1], others.centroid], axis=1)
    prob = jnp.concatenate([weights[:, :1], rest[:, None] * others.prob], axis=1)
    assignment = jnp.concatenate([first, others.assignment + 1], axis=1)
    together = Quantized(medoid, centroid, prob, assignment, rest * others.energy)
    return jax.vmap(likeliest_first)(together)


QUANTIZERS.register("keep_first", keep_first)
QUANTIZERS.register("released", released)
