"""Weighted K-means of one example, from its pairwise squared distances (3D Multi-bodies, eq 3).

K-means over a few hundred points needs their pairwise squared distances only: with `share` a cluster's weights,
normalised to 1, a point's squared distance to the centroid is its mean squared distance to the members minus half the
mean squared distance among them. So the distances are computed once per example, from differences (no cancellation),
and every step of every start is one (M, M) x (M, n) product, whatever the dimension.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from multibodies_jax import exact
from multibodies_jax.hypotheses import empty_clusters

_CANDIDATES = 8  # Draws per new seed; the one that lowers the energy most is kept.
_SCREENING = 2  # Steps that every start takes before the best one goes on alone.


def squared_distances(points: Float[Array, "M D"]) -> Float[Array, "M M"]:
    """Squared distance of every two points."""
    columns = points.T  # The reduced axis first: the inner loop of the sum runs over contiguous memory.
    return jnp.sum(jnp.square(columns[:, :, None] - columns[:, None, :]), axis=0)


def partition(
    squared: Float[Array, "M M"],
    log_w: Float[Array, "M"],
    n: int | Int[Array, ""],
    noise: Float[Array, "N S M"],
    iterations: int,
) -> Int[Array, "M"]:
    """The cluster, 0 to n - 1, of every point: the best of S seedings after a few steps, refined.

    Args:
      squared: `squared_distances`.
      log_w: of `weights.floored`.
      n: clusters, 1 to N; may be traced.
      noise: standard Gumbel draws that choose the seeds; the first n rows are used.
      iterations: most steps of the best start.
    """
    num = len(noise)
    first = jax.lax.top_k(log_w + noise[0, 0], min(noise.shape[1], len(log_w)))[1]

    step = functools.partial(_step, squared, log_w, n, num)

    def start(first, noise):
        assignment = _seed(squared, log_w, n, first, noise)
        # One that stands still stays as it is, so that no step has to be left out.
        assignment = jax.lax.fori_loop(0, _SCREENING, lambda _, assignment: step(assignment)[0], assignment)
        return assignment, energy(squared, log_w, assignment, num)

    def unfinished(state):
        return state[2] & (state[1] < iterations)

    def descend(state):
        assignment, moves = step(state[0])
        return assignment, state[1] + 1, moves

    assignments, energies = jax.vmap(start, (0, 1))(first, noise[:, : len(first)])
    best = assignments[_first_least(energies)]
    return jax.lax.while_loop(unfinished, descend, (best, 0, True))[0]


def shares(
    log_w: Float[Array, "M"], assignment: Int[Array, "M"], num: int
) -> tuple[Bool[Array, "M N"], Float[Array, "M N"]]:
    """Membership in N clusters and the weights within each, relative to its likeliest member: no underflow."""
    own = assignment[:, None] == jnp.arange(num)[None]
    peak = jnp.max(jnp.where(own, log_w[:, None], -jnp.inf), axis=0)
    relative = jnp.where(own, jnp.exp(log_w - peak[assignment])[:, None], 0.0)
    # The sum is at least 1, of the likeliest member, except in an empty cluster.
    return own, relative / jnp.maximum(jnp.sum(relative, axis=0, keepdims=True), 1.0)


def to_centroids(
    squared: Float[Array, "M M"], share: Float[Array, "M N"]
) -> tuple[Float[Array, "M N"], Float[Array, "N"]]:
    """Squared distances to the centroids, and the weighted mean of it over each cluster's members.

    An empty cluster is infinitely far from all points, so that none goes there.
    """
    mean = exact.matmul(squared, share)
    within = 0.5 * jnp.sum(share * mean, axis=0)
    return jnp.where(jnp.any(share > 0, axis=0)[None], jnp.maximum(mean - within[None], 0.0), jnp.inf), within


def masses(log_w: Float[Array, "M"], own: Bool[Array, "M N"]) -> Float[Array, "N"]:
    """Sum of the weights of each cluster."""
    return jnp.sum(jnp.where(own, jnp.exp(log_w)[:, None], 0.0), axis=0)


def energy(
    squared: Float[Array, "M M"], log_w: Float[Array, "M"], assignment: Int[Array, "M"], num: int
) -> Float[Array, ""]:
    """Eq (3): E = sum_k sum_{m in S_k} w_m |X_m - c_k|^2, with c_k the weighted mean of cluster S_k.

    It is the mass of each cluster times its weighted mean squared distance to the centroid, summed.
    """
    own, share = shares(log_w, assignment, num)
    return jnp.sum(masses(log_w, own) * to_centroids(squared, share)[1])


def _seed(
    squared: Float[Array, "M M"],
    log_w: Float[Array, "M"],
    n: int | Int[Array, ""],
    first: Int[Array, ""],
    noise: Float[Array, "N M"],
) -> Int[Array, "M"]:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007), in the log domain; returns the first assignment.

    Gumbel noise draws the candidates of a seed, all different, with probability weight x squared distance to the
    nearest seed so far.
    """
    weights = jnp.exp(log_w)

    def add(k, state):
        nearest, assignment = state
        _, candidates = jax.lax.top_k(log_w + jnp.log(nearest) + noise[k], min(_CANDIDATES, squared.shape[0]))
        left = jnp.minimum(nearest[None], squared[candidates])
        chosen = candidates[_first_least(jnp.sum(left * weights[None], axis=1))]
        closer = (squared[chosen] < nearest) & (k < n)
        return jnp.where(closer, squared[chosen], nearest), jnp.where(closer, k, assignment)

    # Of a number of rounds that is not known a GPU learns after each whether to go on, and waits.
    rounds = jax.lax.platform_dependent(jnp.asarray(n), cpu=lambda n: n, default=lambda n: jnp.full_like(n, len(noise)))
    start = squared[first], jnp.zeros(len(log_w), jnp.int32)
    nearest, assignment = jax.lax.fori_loop(1, rounds, add, start)
    return empty_clusters.fill(assignment, nearest, log_w, n, len(noise))


def _first_least(energies: Float[Array, "x"]) -> Int[Array, ""]:
    """The first of those that are least up to rounding.

    Exact ties are common, and rounding, which can change with the batch, must not decide them: of two points nearer
    to each other than to any seed either is as good a seed, and several starts often end in the same clusters.
    """
    return jnp.argmax(energies <= jnp.min(energies) * (1 + 1e-5))


def _step(
    squared: Float[Array, "M M"],
    log_w: Float[Array, "M"],
    n: int | Int[Array, ""],
    num: int,
    assignment: Int[Array, "M"],
) -> tuple[Int[Array, "M"], Bool[Array, ""]]:
    """A step to a lower energy, Lloyd's, or the best other one where that stands still; and whether there was one."""
    own, share = shares(log_w, assignment, num)
    to_centroid, within = to_centroids(squared, share)
    nearest = jnp.argmin(to_centroid, axis=1)
    nearest = empty_clusters.fill(nearest, jnp.min(to_centroid, axis=1), log_w, n, num)
    lloyd = jnp.any(nearest != assignment)
    mass = masses(log_w, own)
    saved = _saved(to_centroid, log_w, own, mass)
    moved, gain = _best_move(to_centroid, log_w, own, mass, saved, assignment)
    merged, merge_gain = _best_merge(to_centroid, within, share, mass, saved, assignment)
    moved, gain = jnp.where(merge_gain > gain, merged, moved), jnp.maximum(gain, merge_gain)
    # Below rounding of the energy a move could be undone and made again.
    move = gain > 1e-6 * jnp.sum(mass * within)
    return jnp.where(lloyd, nearest, jnp.where(move, moved, assignment)), lloyd | move


def _saved(
    to_centroid: Float[Array, "M N"], log_w: Float[Array, "M"], own: Bool[Array, "M N"], mass: Float[Array, "N"]
) -> Float[Array, "M"]:
    """The energy that a cluster loses when a point leaves it, its centroid following."""
    w = jnp.exp(log_w)
    own_mass = jnp.sum(jnp.where(own, mass[None], 0.0), axis=1)
    own_distance = jnp.sum(jnp.where(own, to_centroid, 0.0), axis=1)
    rest = own_mass - w
    # A member that is nearly all of its cluster saves nothing that the subtraction can resolve.
    movable = rest > 1e-4 * own_mass
    return jnp.where(movable, own_mass * w * own_distance / jnp.where(movable, rest, 1.0), 0.0)


def _best_move(
    to_centroid: Float[Array, "M N"],
    log_w: Float[Array, "M"],
    own: Bool[Array, "M N"],
    mass: Float[Array, "N"],
    saved: Float[Array, "M"],
    assignment: Int[Array, "M"],
) -> tuple[Int[Array, "M"], Float[Array, ""]]:
    """The single reassignment that lowers the energy most, both centroids following (Hartigan and Wong, 1979)."""
    w = jnp.exp(log_w)[:, None]
    paid = mass[None] * w * to_centroid / jnp.maximum(mass[None] + w, 1e-37)
    gain = jnp.where(own | jnp.isinf(to_centroid), -jnp.inf, saved[:, None] - paid)
    point, cluster = jnp.divmod(jnp.argmax(gain), len(mass))
    return jnp.where(jnp.arange(len(w)) == point, cluster, assignment), jnp.max(gain)


def _best_merge(
    to_centroid: Float[Array, "M N"],
    within: Float[Array, "N"],
    share: Float[Array, "M N"],
    mass: Float[Array, "N"],
    saved: Float[Array, "M"],
    assignment: Int[Array, "M"],
) -> tuple[Int[Array, "M"], Float[Array, ""]]:
    """Merges two clusters, and makes the point that costs most where it is, in a third one, a cluster of its own.

    Two clusters of masses p and q whose centroids are d apart cost p q / (p + q) d^2 more together (Ward, 1963).
    """
    point, cluster = jnp.argmax(saved), jnp.arange(len(mass))
    # Columns of empty clusters are not finite; `pairs` leaves them out.
    apart = exact.matmul(share.T, to_centroid) - within[:, None]
    cost = mass[:, None] * mass[None] / jnp.maximum(mass[:, None] + mass[None], 1e-37) * jnp.maximum(apart, 0.0)
    other = jnp.any(share > 0, axis=0) & (cluster != assignment[point])
    pairs = other[:, None] & other[None] & (cluster[:, None] < cluster[None])
    cost = jnp.where(pairs, cost, jnp.inf)
    kept, freed = jnp.divmod(jnp.argmin(cost), len(mass))
    merged = jnp.where(assignment == freed, kept, assignment)
    return jnp.where(jnp.arange(len(saved)) == point, freed, merged), saved[point] - jnp.min(cost)
