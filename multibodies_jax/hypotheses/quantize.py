"""Quantization of M weighted hypotheses to n representatives (3D Multi-bodies, eqs 2 and 3)."""

import functools
import inspect
from typing import Protocol, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from multibodies_jax import exact, traced
from multibodies_jax.hypotheses import kmeans, quantizer_checks, sharpening
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.hypotheses.weight_kinds import log_weights_of
from multibodies_jax.hypotheses.weights import floored
from multibodies_jax.registry import Registry


@traced.register
@no_type_check  # Tree operations fill it with shapes, shardings or NumPy arrays as well.
class Quantized(flax.struct.PyTreeNode):
    """n representatives of M hypotheses, the most probable cluster first (equal ones by medoid index).

    Attributes:
      medoid: index into M of the member nearest to its cluster's centroid; all different under the paper's reading.
      centroid: weighted mean of the cluster, in the shape of one point: (24, 3) from `select`.
      prob: mass of the cluster under eq (2), from `select` sharpened (`sharpening.sharpened`); sums to 1.
      assignment: the cluster, 0 to n - 1, of each hypothesis.
      energy: eq (3), mean squared distance to the centroid of the cluster; NaN if the input was not finite.
    """

    medoid: Int[Array, "B n"]
    centroid: Float[Array, "B n ..."]
    prob: Float[Array, "B n"]
    assignment: Int[Array, "B M"]
    energy: Float[Array, "B"]


class Quantizer(Protocol):
    """Chooses n representatives of M weighted points; registered in `QUANTIZERS` by the name of its reading."""

    def __call__(
        self,
        points: Float[Array, "B M D"],
        log_weights: Float[Array, "B M"],
        n: int,
        keys: Key[Array, "B"],
        starts: int,
        iterations: int,
    ) -> Quantized:
        """See `quantize`; called by `select`, which has checked the arguments."""
        ...


QUANTIZERS: Registry[Quantizer] = Registry("quantizer.reading")
"""The readings of section 4.1: "paper" clusters all M hypotheses; others are registered by their own modules."""


def quantize(
    points: Float[Array, "B M D"],
    log_weights: Float[Array, "B M"],
    n: int,
    keys: Key[Array, "..."],
    starts: int = 4,
    iterations: int = 30,
) -> Quantized:
    """Eq (3): the centroids c that minimise E = sum_m w_m min_j |X_m - c_j|^2, for every example on its own.

    Weighted K-means: the weights w are those of eq (2). Each cluster is represented by its medoid, the member nearest
    to the centroid, and its probability is the sum of its weights.

    Greedy k-means++ seeds `starts` times, each time from another first point, a few steps screen them, and the best goes
    on: Lloyd's steps and, when these stand still, the single move (Hartigan and Wong, 1979) or the merging of two
    clusters, which frees one, that lowers the energy most. No result depends on the rest of the batch or on other n, except
    that where two distances agree to rounding the compiler's order of summation decides.

    Args:
      points: any unit; finite.
      log_weights: unnormalised log-probabilities; -inf excludes a hypothesis (it represents a cluster only if n exceeds
        the number of the others).
      n: number of representatives, 1 to M; static under jit, like `starts` and `iterations`. Several n share one compiled
        program.
      keys: one random key per example; derive it from the example, not from its place in the batch.
      starts: seedings tried.
      iterations: most steps that the best start may take.

    Returns:
      The representatives; where an example's input is not finite, its energy is NaN.

    Raises:
      ValueError: if n is not in 1..M, or another argument has the wrong size.
    """
    num = points.shape[1]
    quantizer_checks.check_counts(n, num, starts, iterations)
    quantizer_checks.check_keys(points, log_weights, keys)
    room = min(num, next((room for room in ROOMS if n <= room), num))
    return _first(_quantize(points, log_weights, keys, n, room, starts, iterations), n)


QUANTIZERS.register("paper", quantize)

ROOMS = (10, 25, 50)
"""One compiled program serves all n up to each of these, and one all others; n of the paper's tables waste no room.

A program for an n of its own takes 6 to 8 s of CPU to compile, and each run of 64 images with room for more clusters some
tens of milliseconds more (docs/benchmarks.md, `python -m benchmarks quantizer`)."""


def select(
    hypotheses: Hypotheses,
    n: int,
    keys: Key[Array, "B"],
    *,
    reading: str = "paper",
    weights: str = "prior",
    temperature: float | Float[Array, ""] = 1.0,
    sharpness: float = 1.0,
    starts: int = 4,
    iterations: int = 30,
    first_rows: Int[Array, "B rows"] | None = None,
) -> Quantized:
    """Chooses n representatives among M hypotheses by their joints (section 4.1).

    Clusters `joints24`, with the predicted root, under the weights of eq (2) at the temperature.

    Args:
      hypotheses: with `log_prior` scored if `weights` is "prior".
      n: number of representatives, 1 to M; n = M keeps every hypothesis.
      keys: one random key per example.
      reading: a name in `QUANTIZERS`; "paper" clusters all M.
      weights: one of `hypotheses.weight_kinds.KINDS`.
      temperature: factor on the log-prior, at least 0; 1 is eq (2) as printed.
      sharpness: of the probabilities (`sharpening.sharpened`), at least 0; it does not change the clusters, and 1 leaves
        their masses.
      starts: see `quantize`.
      iterations: see `quantize`.
      first_rows: of a reading that starts from rows of its points: those rows, instead of drawn ones.

    Returns:
      The representatives, centroids (B, n, 24, 3) in metres.

    Raises:
      ValueError: if n is not in 1..M, temperature or sharpness is below 0, an option is unknown, the reading takes no first rows, or (outside jit) joints or log-priors are not finite.
    """
    joints = hypotheses.joints24
    batch, num = joints.shape[:2]
    quantizer_checks.check_counts(n, num, starts, iterations)
    quantizer_checks.check_temperature(temperature)
    sharpening.check_sharpness(sharpness)
    quantizer = QUANTIZERS[reading]
    log_prior, log_scores = hypotheses.log_prior, hypotheses.log_scores
    points, log_weights, unusable = _weighted_points(joints, log_prior, log_scores, temperature, weights)
    quantizer_checks.check_keys(points, log_weights, keys)
    options = {} if first_rows is None else {"first_rows": first_rows}
    if options.keys() - inspect.signature(quantizer).parameters.keys():
        raise ValueError(f"The reading {reading!r} takes no first_rows: it does not start from rows of the points.")
    found = quantizer(points, log_weights, n, keys, starts, iterations, **options)
    found = found.replace(centroid=found.centroid.reshape(batch, n, *joints.shape[2:]))
    found = found.replace(prob=sharpening.sharpened(found.prob, sharpness))
    # Last: a GPU has all programs by now, and need not wait for the answer between them.
    quantizer_checks.check_finite(unusable)
    return found


def random_subset(num: int, n: int, keys: Key[Array, "B"]) -> Int[Array, "B n"]:
    """Draws n of `num` hypotheses without replacement: the control that quantization has to beat.

    Raises:
      ValueError: if n is not in 1..num.
    """
    quantizer_checks.check_counts(n, num)
    choose = functools.partial(jax.random.choice, a=num, shape=(n,), replace=False)
    return jax.vmap(lambda key: choose(key))(keys).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="kind")
def _weighted_points(
    joints: Float[Array, "B M J 3"],
    log_prior: Float[Array, "B M"],
    log_scores: Float[Array, "B M"] | None,
    temperature: float | Float[Array, ""],
    kind: str,
) -> tuple[Float[Array, "B M D"], Float[Array, "B M"], Bool[Array, "2 B"]]:
    """What is clustered, its unnormalised log-weights, and which examples have points, and which weights, that cannot be."""
    log_weights = log_weights_of(kind, log_prior, log_scores, temperature)
    points = joints.reshape(*joints.shape[:2], -1)
    # -inf excludes one hypothesis; all excluded, +inf and NaN make the greatest one not finite.
    finite = jnp.all(jnp.isfinite(points), axis=(1, 2)), jnp.isfinite(jnp.max(log_weights, axis=1))
    return points, log_weights, ~jnp.stack(finite)


def likeliest_first(found: Quantized) -> Quantized:
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


@functools.partial(
    traced.jit,
    static_argnames=("room", "starts", "iterations"),
    per_example=("points", "log_weights", "keys"),
)
def _quantize(points, log_weights, keys, n: Int[Array, ""], room: int, starts: int, iterations: int) -> Quantized:
    """`quantize` with room for `room` clusters, those from n on empty: one program serves every n up to it (`ROOMS`)."""

    def one(points, log_weights, key):
        log_w, excluded = floored(log_weights)
        squared = kmeans.squared_distances(points)
        noise = jax.random.gumbel(key, (room, starts, len(log_w)))
        assignment = kmeans.partition(squared, log_w, n, noise, iterations)
        own, share = kmeans.shares(log_w, assignment, room)
        to_centroid, _ = kmeans.to_centroids(squared, share)
        # An excluded hypothesis comes after every other member.
        rank = jnp.where(own, to_centroid + jnp.where(excluded, 1e30, 0.0)[:, None], jnp.inf)
        medoid = jnp.argmin(rank, axis=0).astype(jnp.int32)
        centroid = exact.einsum("mn,md->nd", share, points)
        prob = jnp.where(jnp.arange(room) < n, kmeans.masses(log_w, own), -1.0)  # Empty clusters come last.
        energy = kmeans.energy(squared, log_w, assignment, room)
        return likeliest_first(Quantized(medoid, centroid, prob, assignment.astype(jnp.int32), energy))

    return jax.vmap(one)(points, log_weights, keys)


@functools.partial(jax.jit, static_argnames="n")
def _first(found: Quantized, n: int) -> Quantized:
    """The first n clusters; those that follow are empty."""
    return found.replace(medoid=found.medoid[:, :n], centroid=found.centroid[:, :n], prob=found.prob[:, :n])
