"""Plain K-means from given first rows: the clustering of the authors' released code, without its faults."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.hypotheses.weights import floored_below_peak


@functools.partial(jax.jit, static_argnames="iterations")
def lloyd(
    points: Float[Array, "B N D"],
    log_weights: Float[Array, "B N"],
    first_rows: Int[Array, "B K"],
    iterations: int = 30,
) -> tuple[Int[Array, "B N"], Float[Array, "B K D"]]:
    """Lloyd's iterations of every example on its own, with no restart and no other move.

    Weights enter only the centroids. They are normalised within each cluster in the log domain, so that no weight
    underflows; a cluster that loses its last point stays where it is. The original overwrites data rows there, lets
    weights below exp(-128) pull a centroid to the origin, and stops a batch as one (`utils/kmeans.py`).

    Args:
      points: any unit; finite.
      log_weights: unnormalised log-weights of the points.
      first_rows: the points that are the first centroids.
      iterations: most steps; an example that no longer changes stops.

    Returns:
      The nearest centroid of each point, and the centroids: those of scikit-learn's KMeans(init=points[first_rows],
      n_init=1, algorithm="lloyd", max_iter=iterations, tol=0) except for ties and clusters that it finds empty.
    """
    run = functools.partial(_lloyd_one, iterations=iterations)
    return jax.vmap(run)(points, log_weights, first_rows)


def nearest_points(points: Float[Array, "B N D"], centroids: Float[Array, "B K D"]) -> Int[Array, "B K"]:
    """The point nearest to each centroid, of any cluster.

    As in the original, one point may be the nearest of several centroids and is then repeated.
    """
    return jax.vmap(lambda p, c: jnp.argmin(_squared(p, c), axis=0).astype(jnp.int32))(points, centroids)


def _squared(points: Float[Array, "N D"], centroids: Float[Array, "K D"]) -> Float[Array, "N K"]:
    # From differences: the original's Gram form loses digits far from the origin.
    return jnp.sum(jnp.square(points[:, None] - centroids[None]), axis=2)


def _lloyd_one(points, log_weights, first_rows, iterations: int):
    log_w = floored_below_peak(log_weights)
    clusters = jnp.arange(len(first_rows))

    def update(assignment, centroids):
        own = assignment[:, None] == clusters[None]
        peak = jnp.max(jnp.where(own, log_w[:, None], -jnp.inf), axis=0)
        weights = jnp.where(own, jnp.exp(log_w - peak[assignment])[:, None], 0.0)
        total = jnp.sum(weights, axis=0)
        share = weights / jnp.where(total > 0, total, 1.0)[None]
        means = jnp.einsum("nk,nd->kd", share, points, precision="highest")
        return jnp.where((total > 0)[:, None], means, centroids)

    def step(state):
        assignment, centroids, count, _ = state
        centroids = update(assignment, centroids)
        nearest = jnp.argmin(_squared(points, centroids), axis=1).astype(jnp.int32)
        return nearest, centroids, count + 1, jnp.any(nearest != assignment)

    def unfinished(state):
        return state[3] & (state[2] < iterations)

    centroids = points[first_rows]
    assignment = jnp.argmin(_squared(points, centroids), axis=1).astype(jnp.int32)
    assignment, centroids, _, _ = jax.lax.while_loop(unfinished, step, (assignment, centroids, 0, True))
    return assignment, centroids
