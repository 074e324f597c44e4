"""Time and energy of the quantizer against scikit-learn, on the same problems in one run.

    python -m benchmarks.quantizer [--batch=64] [--repeats=5]
    python -m benchmarks.quantizer --ours                      # only the time of ours, which needs no scikit-learn

Prints one JSON line per weighting and n. Problems are clustered Gaussians in few directions of 72 numbers, M = 100. The
time of scikit-learn is of a loop of fits with 10 starts, best of its own threads and one thread; "at equal energy" is the
time of the fewest of its starts (1, 3, 10 or 30) whose median energy is at most 1.02 times ours, null if 30 do not do.

Then, without scikit-learn: the share of 2,000 problems of five and of eight points whose energy is more than 1 % above the
optimum, found by trying every partition; and what it costs that one compiled program has room for several n.
"""

import argparse
import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks import figures, needs, turns
from multibodies_jax.hypotheses import quantize
from multibodies_jax.hypotheses.weights import normalized


def problems(batch: int, num: int = 100, size: int = 72, seed: int = 0) -> np.ndarray:
    """(batch, num, size) points: 3 to 11 clusters, most of the variance in a dozen directions."""
    rng = np.random.default_rng(seed)
    spread = 0.25 * np.exp(-np.arange(size) / 8)
    sets = []
    for _ in range(batch):
        k = rng.integers(3, 12)
        label = rng.choice(k, num, p=rng.dirichlet(np.ones(k)))
        centres, width = rng.normal(size=(k, size)) * spread, rng.uniform(0.2, 0.8, (k, 1))
        turn = np.linalg.qr(rng.normal(size=(size, size)))[0]
        sets.append((centres[label] + rng.normal(size=(num, size)) * spread * width[label]) @ turn)
    return np.array(sets, np.float32)


def fit_loop(points: np.ndarray, weights: np.ndarray, n: int, starts: int) -> tuple[np.ndarray, float]:
    """Energies of a loop over the problems, and its shorter time of two: with its own threads and with one."""
    import sklearn.cluster
    import threadpoolctl

    kmeans: Any = sklearn.cluster.KMeans  # Not annotated: the type checker takes the types of its defaults.
    energies, seconds = np.zeros(len(points)), []
    # Made one after the other: a limit holds from when it is made.
    for limit in (contextlib.nullcontext, functools.partial(threadpoolctl.threadpool_limits, 1)):
        with limit():
            start = time.perf_counter()
            for b, (x, w) in enumerate(zip(points, weights, strict=True)):
                model = kmeans(n, n_init=starts, random_state=0)
                energies[b] = model.fit(x, sample_weight=w).inertia_
            seconds.append(time.perf_counter() - start)
    return energies, min(seconds)


def time_of_ours(
    points: np.ndarray, log_weights: np.ndarray, n: int, repeats: int
) -> tuple[Float[np.ndarray, "B"], float]:
    """Energies of all problems, and the median seconds of a call."""
    call = _call(points, log_weights, n)
    energy = np.asarray(call().energy)  # Compiles.
    (seconds,) = turns.medians([call], repeats)
    return energy, seconds


def _call(points: np.ndarray, log_weights: np.ndarray, n: int) -> Callable[[], quantize.Quantized]:
    arguments = jnp.array(points), jnp.array(log_weights), n, jax.random.split(jax.random.key(0), len(points))
    return lambda: quantize.quantize(*arguments)


def beside_scikit_learn(
    points: np.ndarray, log_weights: np.ndarray, n: int, energy: Float[np.ndarray, "B"], seconds: float
) -> dict[str, float | None]:
    """Time and energy of scikit-learn on the same problems, and ratios; `energy` and `seconds` are of `time_of_ours`."""
    weights = np.asarray(normalized(jnp.array(log_weights)))
    fits = {starts: fit_loop(points, weights, n, starts) for starts in (1, 3, 10, 30)}
    ratio = {starts: np.median(energy / reference) for starts, (reference, _) in fits.items()}
    equal = min((took for starts, (_, took) in fits.items() if ratio[starts] >= 1 / 1.02), default=None)
    return {
        "scikit-learn, 10 starts, ms": 1e3 * fits[10][1],
        "times as fast": fits[10][1] / seconds,
        "at equal energy": equal and equal / seconds,
        "median energy / its": round(float(ratio[10]), 4),
        "mean energy / its": round(float(np.mean(energy / fits[10][0])), 4),
    }


def least_energies(
    points: Float[np.ndarray, "B M D"], weights: Float[np.ndarray, "B M"], n: int
) -> Float[np.ndarray, "B"]:
    """Eq (3) at its optimum, by trying every partition of the points into n clusters."""
    every = itertools.product(range(n), repeat=points.shape[1])
    labels = np.array([one for one in every if list(dict.fromkeys(one)) == list(range(n))])
    own, points = np.eye(n)[labels], np.array(points, np.float64)
    mass = np.einsum("bm,pmn->bpn", weights, own)
    total = np.einsum("bm,bmd,pmn->bpnd", weights, points, own)
    second = np.einsum("bm,bmd->b", weights, points**2)
    return (second[:, None] - (np.square(total).sum(axis=3) / mass).sum(axis=2)).min(axis=1)


def share_above_optimum(num: int, size: int, n: int, batch: int = 2000) -> float:
    """Of problems of `num` normal points with weights of 0.01 to 0.3 before they are normalised."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(batch, num, size)).astype(np.float32)
    weights = rng.uniform(0.01, 0.3, (batch, num))
    keys = jax.random.split(jax.random.key(0), batch)
    found = quantize.quantize(jnp.array(points), jnp.log(jnp.array(weights, jnp.float32)), n, keys).energy
    weights /= weights.sum(axis=1, keepdims=True)
    return float(np.mean(np.asarray(found) > 1.01 * least_energies(points, weights, n) + 1e-6))


def cost_of_room(points: np.ndarray, log_weights: np.ndarray, n: int, repeats: int) -> dict[str, float]:
    """CPU time of a compiled call, with room for several n and for n alone, and of the first call for n alone."""
    call = _call(points, log_weights, n)

    def seconds() -> list[float]:
        return turns.seconds([call], 1 + repeats, time.process_time)[:, 0].tolist()

    _, *shared = seconds()
    with mock.patch.object(quantize, "ROOMS", (n,)):
        first, *alone = seconds()
    return {
        "shared, CPU ms": 1e3 * min(shared),
        "alone, CPU ms": 1e3 * min(alone),
        "first call alone, CPU ms": 1e3 * first,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantizer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64, help="problems")
    parser.add_argument("--ours", action="store_true", help="only the time of ours: no scikit-learn, no small problems")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of ours; the median counts")
    args = parser.parse_args(argv)
    if min(args.batch, args.repeats) < 1:
        parser.error("--batch and --repeats must be at least 1.")
    if not args.ours and needs.are_missing(needs.SCIKIT_LEARN):
        return 2
    points = problems(args.batch)
    normal = np.random.default_rng(1).normal(size=points.shape[:2]).astype(np.float32)
    for name, log_weights in (("uniform", 0 * normal), ("weighted", normal), ("spread of 6 nats", 6 * normal)):
        for n in (5, 10, 25):
            energy, seconds = time_of_ours(points, log_weights, n, args.repeats)
            result = {"ms": 1e3 * seconds}
            if not args.ours:
                result |= beside_scikit_learn(points, log_weights, n, energy, seconds)
            figures.tell("quantizer", f"{len(points)} problems, {name}", "ours", result, n)
    if args.ours:
        return 0
    for num, size, n in itertools.product((5, 8), (1, 2), (2, 3, 4)):
        share = share_above_optimum(num, size, n)
        where = f"{num} points, {size} dimension{'s' * (size > 1)}"
        figures.tell("optimum", where, "ours", {"% above the optimum": round(100 * share, 2)}, n)
    for n in (1, 5, 12):
        cost = cost_of_room(points, normal, n, args.repeats)
        figures.tell("room for several n", f"{len(points)} problems", "ours", cost, n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
