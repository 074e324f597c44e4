"""Time and energy of the quantizer against scikit-learn, on the same problems in one run.

    python -m benchmarks.quantizer [--batch=64] [--repeats=5]

Prints one JSON line per n and weighting. Problems are clustered Gaussians in few directions of 72 numbers, M = 100. The
time of scikit-learn is of a loop of fits with 10 starts, best of its own threads and one thread; `at_equal_energy` is
the time of the fewest of its starts (1, 3, 10 or 30) whose median energy is at most 1.02 times ours, null if 30 do not do.
"""

import contextlib
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.cluster
import threadpoolctl
from absl import app, flags

from multibodies_jax.hypotheses import quantize
from multibodies_jax.hypotheses.weights import posterior_weights

KMeans: Any = sklearn.cluster.KMeans  # Not annotated: the type checker takes the types of its defaults.
_BATCH = flags.DEFINE_integer("batch", 64, "Problems.")
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
    weights = np.asarray(posterior_weights(on_device[1]))
    fits = {starts: fit_loop(points, weights, n, starts) for starts in (1, 3, 10, 30)}
    ratio = {starts: np.median(energy / reference) for starts, (reference, _) in fits.items()}
    equal = min((took for starts, (_, took) in fits.items() if ratio[starts] >= 1 / 1.02), default=None)
    return {
        "ms": round(1e3 * ours, 1),
        "sklearn_10_starts_ms": round(1e3 * fits[10][1], 1),
        "speedup": round(fits[10][1] / ours, 1),
        "at_equal_energy": equal and round(equal / ours, 1),
        "median_energy_ratio": round(float(ratio[10]), 4),
        "mean_energy_ratio": round(float(np.mean(energy / fits[10][0])), 4),
    }


def main(argv: list[str]) -> None:
    del argv
    points = problems(_BATCH.value)
    normal = np.random.default_rng(1).normal(size=points.shape[:2]).astype(np.float32)
    for name, log_weights in (("uniform", 0 * normal), ("weighted", normal), ("spread of 6 nats", 6 * normal)):
        for n in (5, 10, 25):
            result = compare(points, log_weights, n, _REPEATS.value)
            print(json.dumps({"batch": len(points), "n": n, "weights": name} | result), flush=True)


if __name__ == "__main__":
    app.run(main)
