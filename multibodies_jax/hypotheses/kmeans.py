"""Weighted K-means of one example, from its pairwise squared distances (3D Multi-bodies, eq 3).

K-means over a few hundred points needs their pairwise squared distances only: with `share` a cluster's weights,
normalised to 1, a point's squared distance to the centroid is its mean squared distance to the members minus half the
mean squared distance among them. So the distances are computed once per example, from differences (no cancellation),
and every step of every start is one (M, M) x (M, n) product, whatever the dimension.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_CANDIDATES = 8  # Draws per new seed; the one that lowers the energy most is kept.
_SCREENING = 3  # Steps that every start takes before the best one goes on alone.


def squared_distances(points: Float[Array, "M D"]) -> Float[Array, "M M"]:
    """Squared distance of every two points."""
    columns = points.T  # The reduced axis first: the inner loop of the sum runs over contiguous memory.
    return jnp.sum(jnp.square(columns[:, :, None] - columns[:, None, :]), axis=0)


def partition(
    squared: Float[Array, "M M"],
    log_w: Float[Array, "M"],
    noise: Float[Array, "S n M"],
    iterations: int,
) -> Int[Array, "M"]:
    """The cluster of every point: the best of S seedings after a few steps, refined.

    Args:
      squared: `squared_distances`.
      log_w: of `weights.floored`.
      noise: standard Gumbel draws that choose the seeds.
      iterations: most steps of the best start.
    """
    n = noise.shape[1]

    def start(noise):
        assignment = _seed(squared, log_w, noise)
        assignment = _descend(squared, log_w, assignment, n, _SCREENING)
        return assignment, energy(squared, log_w, assignment, n)

    assignments, energies = jax.vmap(start)(noise)
    return _descend(squared, log_w, assignments[_first_least(energies)], n, iterations)


def shares(
    log_w: Float[Array, "M"], assignment: Int[Array, "M"], n: int
) -> tuple[Bool[Array, "M n"], Float[Array, "M n"]]:
    """Membership and the weights within each cluster, relative to its likeliest member: no underflow."""
    own = assignment[:, None] == jnp.arange(n)[None]
    peak = jnp.max(jnp.where(own, log_w[:, None], -jnp.inf), axis=0)
    relative = jnp.where(own, jnp.exp(log_w - peak[assignment])[:, None], 0.0)
    return own, relative / jnp.sum(relative, axis=0, keepdims=True)


def to_centroids(
    squared: Float[Array, "M M"], share: Float[Array, "M n"]
) -> tuple[Float[Array, "M n"], Float[Array, "n"]]:
    """Squared distances to the centroids, and the weighted mean of it over each cluster's members."""
    mean = jnp.matmul(squared, share, precision="highest")
    within = 0.5 * jnp.sum(share * mean, axis=0)
    return jnp.maximum(mean - within[None], 0.0), within


def masses(log_w: Float[Array, "M"], own: Bool[Array, "M n"]) -> Float[Array, "n"]:
    """Sum of the weights of each cluster."""
    return jnp.sum(jnp.where(own, jnp.exp(log_w)[:, None], 0.0), axis=0)


def energy(
    squared: Float[Array, "M M"], log_w: Float[Array, "M"], assignment: Int[Array, "M"], n: int
) -> Float[Array, ""]:
    """Eq (3): E = sum_k sum_{m in S_k} w_m |X_m - c_k|^2, with c_k the weighted mean of cluster S_k.

    It is the mass of each cluster times its weighted mean squared distance to the centroid, summed.
    """
    own, share = shares(log_w, assignment, n)
    return jnp.sum(masses(log_w, own) * to_centroids(squared, share)[1])


def _seed(squared: Float[Array, "M M"], log_w: Float[Array, "M"], noise: Float[Array, "n M"]) -> Int[Array, "M"]:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007), in the log domain; returns the first assignment.

    Gumbel noise draws the candidates of a seed, all different, with probability weight x squared distance to the
    nearest seed so far.
    """
    first = jnp.argmax(log_w + noise[0])
    weights = jnp.exp(log_w)

    def add(nearest, noise):
        _, candidates = jax.lax.top_k(log_w + jnp.log(nearest) + noise, min(_CANDIDATES, squared.shape[0]))
        left = jnp.minimum(nearest[None], squared[candidates])
        chosen = candidates[_first_least(jnp.sum(left * weights[None], axis=1))]
        return jnp.minimum(nearest, squared[chosen]), chosen

    _, others = jax.lax.scan(add, squared[first], noise[1:])
    seeds = jnp.concatenate([first[None], others])
    to_seeds = squared[:, seeds]
    return _fill_empty(jnp.argmin(to_seeds, axis=1), jnp.min(to_seeds, axis=1), log_w, len(noise))


def _first_least(energies: Float[Array, "x"]) -> Int[Array, ""]:
    """The first of those that are least up to rounding.

    Exact ties are common, and rounding, which can change with the batch, must not decide them: of two points nearer
    to each other than to any seed either is as good a seed, and several starts often end in the same clusters.
    """
    return jnp.argmax(energies <= jnp.min(energies) * (1 + 1e-5))


def _descend(
    squared: Float[Array, "M M"], log_w: Float[Array, "M"], assignment: Int[Array, "M"], n: int, iterations: int
) -> Int[Array, "M"]:
    """Up to `iterations` steps, each to a lower energy: Lloyd's, or the best single move where that stands still."""

    def step(state):
        assignment, done, _ = state
        own, share = shares(log_w, assignment, n)
        to_centroid, within = to_centroids(squared, share)
        nearest = jnp.argmin(to_centroid, axis=1)
        nearest = _fill_empty(nearest, jnp.min(to_centroid, axis=1), log_w, n)
        lloyd = jnp.any(nearest != assignment)
        moved, gain = _best_move(to_centroid, own, log_w, assignment)
        # Below rounding of the energy a move could be undone and made again.
        move = gain > 1e-6 * jnp.sum(masses(log_w, own) * within)
        assignment = jnp.where(lloyd, nearest, jnp.where(move, moved, assignment))
        return assignment, done + 1, lloyd | move

    def unfinished(state):
        return state[2] & (state[1] < iterations)

    return jax.lax.while_loop(unfinished, step, (assignment, 0, True))[0]


def _best_move(
    to_centroid: Float[Array, "M n"],
    own: Bool[Array, "M n"],
    log_w: Float[Array, "M"],
    assignment: Int[Array, "M"],
) -> tuple[Int[Array, "M"], Float[Array, ""]]:
    """The single reassignment that lowers the energy most, both centroids following (Hartigan and Wong, 1979)."""
    n = to_centroid.shape[1]
    w, mass = jnp.exp(log_w), masses(log_w, own)
    own_distance = jnp.take_along_axis(to_centroid, assignment[:, None], axis=1)[:, 0]
    own_mass = mass[assignment]
    rest = own_mass - w
    # A member that is nearly all of its cluster saves nothing that the subtraction can resolve.
    movable = rest > 1e-4 * own_mass
    saved = jnp.where(movable, own_mass * w * own_distance / jnp.where(movable, rest, 1.0), 0.0)
    paid = mass[None] * w[:, None] * to_centroid / jnp.maximum(mass[None] + w[:, None], 1e-37)
    gain = jnp.where(own, -jnp.inf, saved[:, None] - paid)
    best = jnp.argmax(gain)
    return assignment.at[best // n].set(best % n), gain.ravel()[best]


def _fill_empty(
    assignment: Int[Array, "M"], distance: Float[Array, "M"], log_w: Float[Array, "M"], n: int
) -> Int[Array, "M"]:
    """Gives each empty cluster the point that costs most where it is, from a cluster that keeps another."""
    cost = jnp.maximum(log_w + jnp.log(distance), -1e30)  # Duplicates cost nothing, but are there to be taken.

    def sizes(assignment):
        return jnp.sum(assignment[:, None] == jnp.arange(n)[None], axis=0)

    def fill(assignment):
        size = sizes(assignment)
        point = jnp.argmax(jnp.where(size[assignment] > 1, cost, -jnp.inf))
        return assignment.at[point].set(jnp.argmin(size))

    return jax.lax.while_loop(lambda assignment: jnp.any(sizes(assignment) == 0), fill, assignment)
