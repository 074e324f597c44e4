"""Plain K-means from given first rows: the clustering of the authors' released code, without its faults."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax import exact
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
    log_w = floored_below_peak(log_weights)
    nearest = jax.vmap(lambda points, centroids: jnp.argmin(_squared(points, centroids), axis=1).astype(jnp.int32))

    def step(state):
        assignment, centroids, count, _ = state
        centroids = jax.vmap(_update)(points, log_w, assignment, centroids)
        found = nearest(points, centroids)
        # An example that no longer changes stays as it is, so that it may be computed on with the others.
        return found, centroids, count + 1, jnp.any(found != assignment)

    def unfinished(state):
        return state[3] & (state[2] < iterations)

    centroids = jnp.take_along_axis(points, first_rows[:, :, None], axis=1)
    start = nearest(points, centroids), centroids, 0, True
    assignment, centroids, _, _ = jax.lax.while_loop(unfinished, step, start)
    return assignment, centroids


def nearest_points(points: Float[Array, "B N D"], centroids: Float[Array, "B K D"]) -> Int[Array, "B K"]:
    """The point nearest to each centroid, of any cluster.

    As in the original, one point may be the nearest of several centroids and is then repeated.
    """
    return jax.vmap(lambda p, c: jnp.argmin(_squared(p, c), axis=0).astype(jnp.int32))(points, centroids)


def _squared(points: Float[Array, "N D"], centroids: Float[Array, "K D"]) -> Float[Array, "N K"]:
    # From differences: the original's Gram form loses digits far from the origin.
    return jnp.sum(jnp.square(points[:, None] - centroids[None]), axis=2)


def _update(points, log_w, assignment, centroids):
    """The weighted mean of each cluster; one without points keeps its centroid."""
    own = jnp.arange(len(centroids))[:, None] == assignment[None]
    share = jax.nn.softmax(jnp.broadcast_to(log_w[None], own.shape), axis=1, where=own)
    means = exact.einsum("kn,nd->kd", share, points)
    return jnp.where(jnp.any(own, axis=1)[:, None], means, centroids)
