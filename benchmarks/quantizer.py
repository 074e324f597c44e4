"""Time and energy of the quantizer against scikit-learn, on the same problems in one run.

    python -m benchmarks.quantizer [--batch=64] [--repeats=5]

Prints one JSON line per weighting and n. Problems are clustered Gaussians in few directions of 72 numbers, M = 100. The
time of scikit-learn is of a loop of fits with 10 starts, best of its own threads and one thread; "at equal energy" is the
time of the fewest of its starts (1, 3, 10 or 30) whose median energy is at most 1.02 times ours, null if 30 do not do.

Then, without scikit-learn: the share of 2,000 problems of five and of eight points whose energy is more than 1 % above the
optimum, found by trying every partition; and what it costs that one compiled program has room for several n.
"""

import contextlib
import itertools
import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.cluster
import threadpoolctl
from absl import app, flags
from jaxtyping import Float

from benchmarks import figures
from multibodies_jax.hypotheses import quantize
from multibodies_jax.hypotheses.weights import normalized

KMeans: Any = sklearn.cluster.KMeans  # Not annotated: the type checker takes the types of its defaults.
_BATCH = flags.DEFINE_integer("batch", 64, "Problems.")
_OURS = flags.DEFINE_bool("ours", False, "Only the time of ours: no scikit-learn, no small problems.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed calls of ours; the median counts.")


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
    energies, seconds = np.zeros(len(points)), []
    for limit in (contextlib.nullcontext(), threadpoolctl.threadpool_limits(1)):
        with limit:
            start = time.perf_counter()
            for b, (x, w) in enumerate(zip(points, weights, strict=True)):
                model = KMeans(n, n_init=starts, random_state=0)
                energies[b] = model.fit(x, sample_weight=w).inertia_
            seconds.append(time.perf_counter() - start)
    return energies, min(seconds)


def compare(points: np.ndarray, log_weights: np.ndarray, n: int, repeats: int) -> dict[str, float | None]:
    keys = jax.random.split(jax.random.key(0), len(points))
    on_device = jnp.array(points), jnp.array(log_weights)
    energy = np.asarray(quantize.quantize(*on_device, n, keys).energy)  # Compiles.
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(quantize.quantize(*on_device, n, keys))
        seconds.append(time.perf_counter() - start)
    ours = float(np.median(seconds))
    if _OURS.value:
        return {"ms": 1e3 * ours}
    weights = np.asarray(normalized(on_device[1]))
    fits = {starts: fit_loop(points, weights, n, starts) for starts in (1, 3, 10, 30)}
    ratio = {starts: np.median(energy / reference) for starts, (reference, _) in fits.items()}
    equal = min((took for starts, (_, took) in fits.items() if ratio[starts] >= 1 / 1.02), default=None)
    return {
        "ms": 1e3 * ours,
        "scikit-learn, 10 starts, ms": 1e3 * fits[10][1],
        "times as fast": fits[10][1] / ours,
        "at equal energy": equal and equal / ours,
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
    arguments = jnp.array(points), jnp.array(log_weights), n, jax.random.split(jax.random.key(0), len(points))

    def call() -> float:
        start = time.process_time()
        jax.block_until_ready(quantize.quantize(*arguments))
        return time.process_time() - start

    call()
    shared = min(call() for _ in range(repeats))
    with mock.patch.object(quantize, "ROOMS", (n,)):
        first = call()
        alone = min(call() for _ in range(repeats))
    return {
        "shared, CPU ms": 1e3 * shared,
        "alone, CPU ms": 1e3 * alone,
        "first call alone, CPU ms": 1e3 * first,
    }


def main(argv: list[str]) -> None:
    del argv
    points = problems(_BATCH.value)
    normal = np.random.default_rng(1).normal(size=points.shape[:2]).astype(np.float32)
    for name, log_weights in (("uniform", 0 * normal), ("weighted", normal), ("spread of 6 nats", 6 * normal)):
        for n in (5, 10, 25):
            result = compare(points, log_weights, n, _REPEATS.value)
            figures.tell("quantizer", f"{len(points)} problems, {name}", "ours", result, n)
    if _OURS.value:
        return
    for num, size, n in itertools.product((5, 8), (1, 2), (2, 3, 4)):
        share = share_above_optimum(num, size, n)
        where = f"{num} points, {size} dimension{'s' * (size > 1)}"
        figures.tell("optimum", where, "ours", {"% above the optimum": round(100 * share, 2)}, n)
    for n in (1, 5, 12):
        cost = cost_of_room(points, normal, n, _REPEATS.value)
        figures.tell("room for several n", f"{len(points)} problems", "ours", cost, n)


if __name__ == "__main__":
    app.run(main)
