"""Quantization of M weighted hypotheses to n representatives (3D Multi-bodies, eqs 2 and 3)."""

import functools
from collections.abc import Sequence
from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from multibodies_jax.hypotheses import kmeans
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.hypotheses.weights import floored, posterior_weights, tempered
from multibodies_jax.released import lloyd

READINGS = ("paper", "keep_first", "released")
_WIDTHS = (
    1,
    10,
    25,
    50,
)  # `select_every` clusters all n up to one of these, or up to the largest, in arrays of its size.


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
    _check_counts(n, points.shape[1], starts, iterations)
    _check_keys(points, log_weights, keys)
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
    points, log_weights = _weighted_points(hypotheses, reading, weights, temperature)
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


def select_every(
    hypotheses: Hypotheses,
    ns: Sequence[int],
    keys: Key[Array, "B"],
    *,
    reading: str = "paper",
    weights: str = "prior",
    temperature: float | Float[Array, ""] = 1.0,
    starts: int = 4,
    iterations: int = 30,
) -> Int[Array, "B N n"]:
    """The medoids of `select` for many n at once, in one compiled program.

    Draws, steps and order are those of `select`, and so are the medoids, but where distances agree to rounding.

    Args:
      hypotheses: see `select`, like all options.
      ns: sizes of the sets, each 1 to M.
      keys: one random key per example.
      reading: "paper" or "keep_first".

    Returns:
      For each n of `ns`, in its order, the medoids, the most probable first, then -1 up to the largest n.

    Raises:
      ValueError: as `select`; if `ns` is empty or `reading` is "released", whose steps have no common shape.
    """
    num = hypotheses.joints24.shape[1]
    if not ns:
        raise ValueError("select_every needs at least one n; got none.")
    for n in ns:
        _check_counts(n, num, starts, iterations)
    points, log_weights = _weighted_points(hypotheses, reading, weights, temperature)
    if reading == "released":
        raise ValueError("select_every has no reading 'released': call select for each n, or choose 'paper'.")
    _check_keys(points, log_weights, keys)
    return _medoids_of_every(points, log_weights, keys, tuple(ns), reading == "keep_first", starts, iterations)


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


def _check_keys(points: Float[Array, "B M D"], log_weights: Array, keys: Array) -> None:
    batch, num, _ = points.shape
    if keys.shape != (batch,) or log_weights.shape != (batch, num):
        raise ValueError(
            f"Expected one key per example and one log-weight per hypothesis, {(batch,)} and {(batch, num)}; "
            f"got {keys.shape} and {log_weights.shape}. Make keys with jax.vmap(jax.random.fold_in, (None, 0)), from one "
            "key and a number of each example."
        )


def _weighted_points(
    hypotheses: Hypotheses, reading: str, weights: str, temperature: float | Float[Array, ""]
) -> tuple[Float[Array, "B M D"], Float[Array, "B M"]]:
    """What is clustered, and its unnormalised log-weights."""
    batch, num = hypotheses.joints24.shape[:2]
    if reading not in READINGS:
        choices = ", ".join(map(repr, READINGS))
        raise ValueError(f"Unknown reading {reading!r} of the quantizer: choose one of {choices}.")
    if weights not in ("prior", "uniform"):
        raise ValueError(f"Unknown weights {weights!r} of the quantizer: choose 'prior' or 'uniform'.")
    log_weights = jnp.zeros((batch, num)) if weights == "uniform" else tempered(hypotheses.log_prior, temperature)
    points = hypotheses.joints24.reshape(batch, num, -1)
    _check_finite(points, log_weights)
    return points, log_weights


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
    energy = jnp.sum(posterior_weights(log_weights) * squared, axis=1)
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
    share = posterior_weights(weights)
    own = jax.nn.one_hot(assignment, n - 1)
    squared = jnp.sum(jnp.square(rest - jnp.take_along_axis(centroid, assignment[..., None], axis=1)), axis=2)
    prob = jnp.einsum("bm,bmk->bk", share, own, precision="highest")
    found = Quantized(medoid, centroid, prob, assignment, jnp.sum(share * squared, axis=1))
    return _with_first(points, log_weights, found)


def _with_first(points, log_weights, others: Quantized, count: kmeans.Count = None) -> Quantized:
    """Hypothesis 0, a cluster of its own, beside the clusters of hypotheses 1 to M - 1; `count` of all are in use."""
    weights = posterior_weights(log_weights)
    rest = jnp.sum(weights[:, 1:], axis=1)
    first = jnp.zeros((len(points), 1), jnp.int32)
    medoid = kmeans.used(jnp.concatenate([first, others.medoid + 1], axis=1), count, -1)
    centroid = jnp.concatenate([points[:, :1], others.centroid], axis=1)
    prob = jnp.concatenate([weights[:, :1], rest[:, None] * others.prob], axis=1)
    assignment = jnp.concatenate([first, others.assignment + 1], axis=1)
    together = Quantized(medoid, centroid, prob, assignment, rest * others.energy)
    return jax.vmap(functools.partial(_likeliest_first, count=count))(together)


def _likeliest_first(found: Quantized, count: kmeans.Count = None) -> Quantized:
    """Orders the clusters of one example (no leading axis) by falling probability, then by medoid; unused ones last."""
    # Equal clusters differ by rounding. The offset keeps the usual fractions, k / M, off the edges of the steps.
    steps = kmeans.used(jnp.floor(found.prob * 1e5 + 0.37), count, -1.0)
    order = jnp.lexsort((found.medoid, -steps))
    return found.replace(
        medoid=found.medoid[order],
        centroid=found.centroid[order],
        prob=found.prob[order],
        assignment=jnp.argsort(order).astype(jnp.int32)[found.assignment],
    )


@functools.partial(jax.jit, static_argnames=("n", "starts", "iterations"))
def _quantize(points, log_weights, keys, n: int, starts: int, iterations: int) -> Quantized:
    def one(points, log_weights, key):
        log_w, excluded = floored(log_weights)
        squared = kmeans.squared_distances(points)
        noise = jax.random.gumbel(key, (starts, n, len(log_w)))
        return _represent(points, squared, log_w, excluded, noise, iterations)

    return jax.vmap(one)(points, log_weights, keys)


def _represent(
    points: Float[Array, "M D"],
    squared: Float[Array, "M M"],
    log_w: Float[Array, "M"],
    excluded: Array,
    noise: Float[Array, "S n M"],
    iterations: int,
    count: kmeans.Count = None,
) -> Quantized:
    """The clusters of one example and their representatives; of unused clusters (see `kmeans`) medoid -1."""
    n = noise.shape[1]
    assignment = kmeans.partition(squared, log_w, noise, iterations, count)
    own, share = kmeans.shares(log_w, assignment, n, count)
    to_centroid, _ = kmeans.to_centroids(squared, share, count)
    # An excluded hypothesis comes after every other member.
    rank = jnp.where(own, to_centroid + jnp.where(excluded, 1e30, 0.0)[:, None], jnp.inf)
    medoid = kmeans.used(jnp.argmin(rank, axis=0).astype(jnp.int32), count, -1)
    centroid = jnp.einsum("mn,md->nd", share, points, precision="highest")
    prob = kmeans.masses(log_w, own)
    energy = kmeans.energy(squared, log_w, assignment, n, count)
    return _likeliest_first(Quantized(medoid, centroid, prob, assignment.astype(jnp.int32), energy), count)


@functools.partial(jax.jit, static_argnames=("ns", "keep_first", "starts", "iterations"))
def _medoids_of_every(points, log_weights, keys, ns, keep_first: bool, starts: int, iterations: int):
    """The medoids (B, N, max(ns)) of every n of `ns`, padded with -1; several n share the arrays of the largest."""
    widest, widths = max(ns), [width for width in _WIDTHS if width < max(ns)] + [max(ns)]
    least, found = 0, jnp.full((len(points), len(ns), widest), -1, jnp.int32)
    for width in widths:
        places = [i for i, n in enumerate(ns) if least < n <= width]
        least = width
        if not places:
            continue
        few = _medoids_up_to(
            points, log_weights, keys, jnp.array([ns[i] for i in places]), width, keep_first, starts, iterations
        )
        found = found.at[:, jnp.array(places), :width].set(jnp.moveaxis(few, 0, 1))
    return found


def _medoids_up_to(points, log_weights, keys, counts, width: int, keep_first: bool, starts: int, iterations: int):
    """The medoids (K, B, width) of each number in `counts`."""
    rest = slice(int(keep_first), None)
    width, counts = width - int(keep_first), counts - int(keep_first)
    if width == 0:
        return jnp.zeros((len(counts), len(points), 1), jnp.int32)
    clustered = points[:, rest]
    squared = jax.vmap(kmeans.squared_distances)(clustered)
    log_w, excluded = jax.vmap(floored)(log_weights[:, rest])
    # Draws are numbered through: those of (starts, n, M) are the first of this longer array.
    draws = jax.vmap(lambda key: jax.random.gumbel(key, (starts * width, clustered.shape[1])))(keys)

    def medoids(count):
        rows = jnp.arange(starts)[:, None] * count + jnp.arange(width)[None]
        noise = draws[:, jnp.minimum(rows, starts * width - 1)]
        represent = functools.partial(_represent, iterations=iterations, count=count)
        found = jax.vmap(represent)(clustered, squared, log_w, excluded, noise)
        return (_with_first(points, log_weights, found, count + 1) if keep_first else found).medoid

    return jax.lax.map(medoids, counts)
