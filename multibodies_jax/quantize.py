"""Quantization of M weighted hypotheses to n representatives (3D Multi-bodies, eqs 2 and 3).

K-means over a few hundred points needs their pairwise squared distances only: with `share` a cluster's weights,
normalised to 1, a point's squared distance to the centroid is its mean squared distance to the members minus half the
mean squared distance among them. So the distances are computed once per example, from differences (no cancellation),
and every step of every start is one (M, M) x (M, n) product, whatever the dimension.
"""

import functools
from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from multibodies_jax import lloyd
from multibodies_jax.hypotheses import Hypotheses

READINGS = ("paper", "keep_first", "released")
# Excluded (-inf) and hopeless hypotheses are alike this far below the likeliest; still ordered among themselves above.
_FLOOR = -1e5
_CANDIDATES = 8  # Draws per new seed; the one that lowers the energy most is kept.
_SCREENING = 3  # Steps that every start takes before the best one goes on alone.


@no_type_check  # Tree operations fill it with shapes, shardings or NumPy arrays as well.
class Quantized(flax.struct.PyTreeNode):
    """n representatives of M hypotheses, the most probable cluster first (equal ones by medoid index).

    Attributes:
      medoid: index into M of the member nearest to its cluster's centroid; all different, but with "released".
      centroid: weighted mean of the cluster, in the shape of one point: (24, 3) from `select`.
      prob: mass of the cluster under eq (2); sums to 1.
      assignment: the cluster, 0 to n - 1, of each hypothesis.
      energy: eq (3), mean squared distance to the centroid of the cluster; NaN if the input was not finite.
    """

    medoid: Int[Array, "B n"]
    centroid: Float[Array, "B n ..."]
    prob: Float[Array, "B n"]
    assignment: Int[Array, "B M"]
    energy: Float[Array, "B"]


def quantize(
    points: Float[Array, "B M D"],
    log_weights: Float[Array, "B M"],
    n: int,
    keys: Key[Array, "..."],
    starts: int = 4,
    iterations: int = 30,
) -> Quantized:
    """Weighted K-means of every example on its own (eq 3), by Lloyd's steps refined with single moves.

    Greedy k-means++ seeds `starts` times, a few steps screen them, and the best goes on: Lloyd's steps and, when these
    stand still, the single move that lowers the energy most (Hartigan and Wong, 1979). No result depends on the
    rest of the batch, except that where two distances agree to rounding the compiler's order of summation decides.

    Args:
      points: any unit; finite.
      log_weights: unnormalised log-probabilities; -inf excludes a hypothesis (it represents a cluster only if n exceeds
        the number of the others).
      n: number of representatives, 1 to M; static under jit, like `starts` and `iterations`.
      keys: one random key per example; derive it from the example, not from its place in the batch.
      starts: seedings tried.
      iterations: most steps that the best start may take.

    Returns:
      The representatives; where an example's input is not finite, its energy is NaN.

    Raises:
      ValueError: if n is not in 1..M, or another argument has the wrong size.
    """
    batch, num, _ = points.shape
    _check_counts(n, num, starts, iterations)
    if keys.shape != (batch,) or log_weights.shape != (batch, num):
        raise ValueError(
            f"Expected one key per example and one log-weight per hypothesis, {(batch,)} and {(batch, num)}; "
            f"got {keys.shape} and {log_weights.shape}. Make keys with jax.vmap(jax.random.fold_in, (None, 0)), from one "
            "key and a number of each example."
        )
    return _quantize(points, log_weights, keys, n, starts, iterations)


def select(
    hypotheses: Hypotheses,
    n: int,
    keys: Key[Array, "B"],
    *,
    reading: str = "paper",
    weights: str = "prior",
    temperature: float | Float[Array, ""] = 1.0,
    starts: int = 4,
    iterations: int = 30,
) -> Quantized:
    """Chooses n representatives among M hypotheses by their joints (section 4.1).

    Clusters `joints24`, with the predicted root, under the weights softmax(temperature x log_prior).

    Args:
      hypotheses: with `log_prior` scored if `weights` is "prior".
      n: number of representatives, 1 to M; n = M keeps every hypothesis.
      keys: one random key per example.
      reading: "paper" clusters all M. The other two keep hypothesis 0, with its own weight as its probability, and add
        n - 1 medoids of the others: "keep_first" finds them as "paper" does, "released" as the authors' code does, by
        `iterations` plain steps of Lloyd from random hypotheses (see `_released`).
      weights: "prior" as above; "uniform" ignores the prior.
      temperature: factor on the log-prior; 1 is eq (2) as printed.
      starts: see `quantize`.
      iterations: see `quantize`.

    Returns:
      The representatives, centroids (B, n, 24, 3) in metres.

    Raises:
      ValueError: if n is not in 1..M, an option is unknown, or (outside jit) joints or log-priors are not finite.
    """
    joints = hypotheses.joints24
    batch, num = joints.shape[:2]
    _check_counts(n, num, starts, iterations)
    if reading not in READINGS:
        choices = ", ".join(map(repr, READINGS))
        raise ValueError(f"Unknown reading {reading!r} of the quantizer: choose one of {choices}.")
    if weights not in ("prior", "uniform"):
        raise ValueError(f"Unknown weights {weights!r} of the quantizer: choose 'prior' or 'uniform'.")
    log_weights = jnp.zeros((batch, num)) if weights == "uniform" else temperature * hypotheses.log_prior
    points = joints.reshape(batch, num, -1)
    _check_finite(points, log_weights)
    if reading == "paper":
        found = quantize(points, log_weights, n, keys, starts, iterations)
    elif n == 1:
        found = _first_alone(points, log_weights)
    elif reading == "released":
        found = _released(points, log_weights, n, keys, iterations)
    else:
        found = _with_first(
            points, log_weights, quantize(points[:, 1:], log_weights[:, 1:], n - 1, keys, starts, iterations)
        )
    return found.replace(centroid=found.centroid.reshape(batch, n, *joints.shape[2:]))


def random_subset(num: int, n: int, keys: Key[Array, "B"]) -> Int[Array, "B n"]:
    """Draws n of `num` hypotheses without replacement: the control that quantization has to beat.

    Raises:
      ValueError: if n is not in 1..num.
    """
    _check_counts(n, num)
    choose = functools.partial(jax.random.choice, a=num, shape=(n,), replace=False)
    return jax.vmap(lambda key: choose(key))(keys).astype(jnp.int32)


def _check_counts(n: int, num: int, starts: int = 1, iterations: int = 1) -> None:
    if not 1 <= n <= num:
        raise ValueError(
            f"Cannot choose n={n} of M={num} hypotheses: n must be 1 to M. Ask for fewer, or train with a larger M."
        )
    if starts < 1 or iterations < 1:
        raise ValueError(f"The quantizer needs at least 1 start and 1 iteration; got {starts} and {iterations}.")


def _check_finite(points: Float[Array, "B M D"], log_weights: Float[Array, "B M"]) -> None:
    """Raises on what cannot be clustered; while tracing, values are unknown and the NaN energy tells instead."""
    # -inf excludes one hypothesis; all excluded, +inf and NaN make the greatest one not finite.
    bad_points = ~jnp.all(jnp.isfinite(points), axis=(1, 2))
    bad_weights = ~jnp.isfinite(jnp.max(log_weights, axis=1))
    try:
        if not bool(jnp.any(bad_points | bad_weights)):
            return
    except jax.errors.TracerBoolConversionError:
        return
    raise ValueError(
        f"Cannot cluster what is not finite: of {points.shape[0]} examples {int(bad_points.sum())} have NaN or "
        f"infinite joints and {int(bad_weights.sum())} a NaN, +inf or all -inf log-prior; the first is example "
        f"{int(jnp.argmax(bad_points | bad_weights))} of the batch. Check the model's output and the prior."
    )


def _first_alone(points, log_weights) -> Quantized:
    """Hypothesis 0 stands for all."""
    batch, num, _ = points.shape
    squared = jnp.sum(jnp.square(points - points[:, :1]), axis=2)
    energy = jnp.sum(jax.nn.softmax(log_weights, axis=1) * squared, axis=1)
    first, everything = jnp.zeros((batch, 1), jnp.int32), jnp.zeros((batch, num), jnp.int32)
    return Quantized(first, points[:, :1], jnp.ones((batch, 1)), everything, energy)


@functools.partial(jax.jit, static_argnames=("n", "iterations"))
def _released(points, log_weights, n: int, keys, iterations: int) -> Quantized:
    """The authors' choice (original code, A.5 and B.6): hypothesis 0 and n - 1 medoids of hypotheses 1 to M - 1.

    Medoids are the hypotheses nearest to the centroids of plain Lloyd steps, whichever cluster they are in, so that
    one of them may stand for two clusters. With n = M every hypothesis is kept. Each example draws its own first rows
    from its key, where the original draws one unseeded permutation for a whole batch.
    """
    rest, weights = points[:, 1:], log_weights[:, 1:]
    if n == points.shape[1]:
        medoid = assignment = jnp.broadcast_to(jnp.arange(n - 1, dtype=jnp.int32)[None], weights.shape)
        centroid = rest
    else:
        first_rows = random_subset(rest.shape[1], n - 1, keys)
        assignment, centroid = lloyd.lloyd(rest, weights, first_rows, iterations)
        medoid = lloyd.nearest_points(rest, centroid)
    share = jax.nn.softmax(weights, axis=1)
    own = jax.nn.one_hot(assignment, n - 1)
    squared = jnp.sum(jnp.square(rest - jnp.take_along_axis(centroid, assignment[..., None], axis=1)), axis=2)
    prob = jnp.einsum("bm,bmk->bk", share, own, precision="highest")
    found = Quantized(medoid, centroid, prob, assignment, jnp.sum(share * squared, axis=1))
    return _with_first(points, log_weights, found)


def _with_first(points, log_weights, others: Quantized) -> Quantized:
    """Hypothesis 0, a cluster of its own, beside the clusters of hypotheses 1 to M - 1."""
    weights = jax.nn.softmax(log_weights, axis=1)
    rest = jnp.sum(weights[:, 1:], axis=1)
    first = jnp.zeros((len(points), 1), jnp.int32)
    medoid = jnp.concatenate([first, others.medoid + 1], axis=1)
    centroid = jnp.concatenate([points[:, :1], others.centroid], axis=1)
    prob = jnp.concatenate([weights[:, :1], rest[:, None] * others.prob], axis=1)
    assignment = jnp.concatenate([first, others.assignment + 1], axis=1)
    return jax.vmap(_likeliest_first)(Quantized(medoid, centroid, prob, assignment, rest * others.energy))


def _likeliest_first(found: Quantized) -> Quantized:
    """Orders the clusters of one example (no leading axis) by falling probability, then by medoid."""
    # Equal clusters differ by rounding. The offset keeps the usual fractions, k / M, off the edges of the steps.
    steps = jnp.floor(found.prob * 1e5 + 0.37)
    order = jnp.lexsort((found.medoid, -steps))
    return found.replace(
        medoid=found.medoid[order],
        centroid=found.centroid[order],
        prob=found.prob[order],
        assignment=jnp.argsort(order).astype(jnp.int32)[found.assignment],
    )


@functools.partial(jax.jit, static_argnames=("n", "starts", "iterations"))
def _quantize(points, log_weights, keys, n: int, starts: int, iterations: int) -> Quantized:
    one = functools.partial(_quantize_one, n=n, starts=starts, iterations=iterations)
    return jax.vmap(one)(points, log_weights, keys)


def _quantize_one(
    points: Float[Array, "M D"], log_weights: Float[Array, "M"], key, n: int, starts: int, iterations: int
):
    log_w = jax.nn.log_softmax(log_weights)
    excluded = log_w == -jnp.inf
    log_w = jnp.maximum(log_w, _FLOOR)
    squared = _squared_distances(points)

    def start(noise):
        assignment = _seed(squared, log_w, noise)
        assignment = _descend(squared, log_w, assignment, n, _SCREENING)
        return assignment, _energy(squared, log_w, assignment, n)

    assignments, energies = jax.vmap(start)(jax.random.gumbel(key, (starts, n, len(log_w))))
    assignment = _descend(squared, log_w, assignments[_first_least(energies)], n, iterations)
    own, share = _shares(log_w, assignment, n)
    to_centroid, _ = _to_centroids(squared, share)
    # An excluded hypothesis comes after every other member.
    rank = jnp.where(own, to_centroid + jnp.where(excluded, 1e30, 0.0)[:, None], jnp.inf)
    medoid = jnp.argmin(rank, axis=0).astype(jnp.int32)
    centroid = jnp.einsum("mn,md->nd", share, points, precision="highest")
    prob = _masses(log_w, own)
    energy = _energy(squared, log_w, assignment, n)
    return _likeliest_first(Quantized(medoid, centroid, prob, assignment.astype(jnp.int32), energy))


def _squared_distances(points: Float[Array, "M D"]) -> Float[Array, "M M"]:
    columns = points.T  # The reduced axis first: the inner loop of the sum runs over contiguous memory.
    return jnp.sum(jnp.square(columns[:, :, None] - columns[:, None, :]), axis=0)


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
    return _fill_empty(jnp.argmin(squared[:, seeds], axis=1), jnp.min(squared[:, seeds], axis=1), log_w, len(noise))


def _first_least(energies: Float[Array, "x"]):
    """The first of those that are least but for rounding.

    Exact ties are common, and rounding, which can change with the batch, must not decide them: of two points nearer
    to each other than to any seed either is as good a seed, and several starts often end in the same clusters.
    """
    return jnp.argmax(energies <= jnp.min(energies) * (1 + 1e-5))


def _shares(log_w: Float[Array, "M"], assignment: Int[Array, "M"], n: int):
    """Membership (M, n) and the weights within each cluster, relative to its likeliest member: no underflow."""
    own = assignment[:, None] == jnp.arange(n)[None]
    peak = jnp.max(jnp.where(own, log_w[:, None], -jnp.inf), axis=0)
    relative = jnp.where(own, jnp.exp(log_w - peak[assignment])[:, None], 0.0)
    return own, relative / jnp.sum(relative, axis=0, keepdims=True)


def _to_centroids(squared: Float[Array, "M M"], share: Float[Array, "M n"]):
    """Squared distances (M, n) to the centroids, and the weighted mean of it (n,) over each cluster's members."""
    mean = jnp.matmul(squared, share, precision="highest")
    within = 0.5 * jnp.sum(share * mean, axis=0)
    return jnp.maximum(mean - within[None], 0.0), within


def _masses(log_w: Float[Array, "M"], own) -> Float[Array, "n"]:
    return jnp.sum(jnp.where(own, jnp.exp(log_w)[:, None], 0.0), axis=0)


def _energy(squared: Float[Array, "M M"], log_w: Float[Array, "M"], assignment: Int[Array, "M"], n: int):
    own, share = _shares(log_w, assignment, n)
    return jnp.sum(_masses(log_w, own) * _to_centroids(squared, share)[1])


def _descend(squared: Float[Array, "M M"], log_w: Float[Array, "M"], assignment, n: int, iterations: int):
    """Up to `iterations` steps, each to a lower energy: Lloyd's, or the best single move where that stands still."""

    def step(state):
        assignment, count, _ = state
        own, share = _shares(log_w, assignment, n)
        to_centroid, within = _to_centroids(squared, share)
        nearest = jnp.argmin(to_centroid, axis=1)
        nearest = _fill_empty(nearest, jnp.min(to_centroid, axis=1), log_w, n)
        lloyd = jnp.any(nearest != assignment)
        moved, gain = _best_move(to_centroid, own, log_w, assignment)
        # Below rounding of the energy a move could be undone and made again.
        move = gain > 1e-6 * jnp.sum(_masses(log_w, own) * within)
        assignment = jnp.where(lloyd, nearest, jnp.where(move, moved, assignment))
        return assignment, count + 1, lloyd | move

    def unfinished(state):
        return state[2] & (state[1] < iterations)

    return jax.lax.while_loop(unfinished, step, (assignment, 0, True))[0]


def _best_move(to_centroid: Float[Array, "M n"], own, log_w: Float[Array, "M"], assignment: Int[Array, "M"]):
    """The single reassignment that lowers the energy most, both centroids following (Hartigan and Wong, 1979)."""
    n = to_centroid.shape[1]
    w, mass = jnp.exp(log_w), _masses(log_w, own)
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


def _fill_empty(assignment: Int[Array, "M"], distance: Float[Array, "M"], log_w: Float[Array, "M"], n: int):
    """Gives each empty cluster the point that costs most where it is, from a cluster that keeps another."""
    cost = jnp.maximum(log_w + jnp.log(distance), -1e30)  # Duplicates cost nothing, but are there to be taken.

    def sizes(assignment):
        return jnp.sum(assignment[:, None] == jnp.arange(n)[None], axis=0)

    def fill(assignment):
        size = sizes(assignment)
        point = jnp.argmax(jnp.where(size[assignment] > 1, cost, -jnp.inf))
        return assignment.at[point].set(jnp.argmin(size))

    return jax.lax.while_loop(lambda assignment: jnp.any(sizes(assignment) == 0), fill, assignment)
