"""Random sets of hypotheses, their keys, and the softmax in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.hypotheses.hypotheses import Hypotheses


def keys(batch, seed=0):
    return jax.random.split(jax.random.key(seed), batch)


def softmax(log_weights) -> np.ndarray:
    weights = np.exp(np.asarray(log_weights, np.float64) - np.max(log_weights, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def poses(seed, batch, num=100, size=72) -> np.ndarray:
    """Clusters in few directions of a skeleton's numbers, as the hypotheses of an image are."""
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


def make_hypotheses(seed=0, batch=3, num=12):
    rng = np.random.default_rng(seed)
    return Hypotheses(
        rotmats=jnp.zeros((batch, num, 24, 3, 3)),
        betas=jnp.zeros((batch, num, 10)),
        cam=jnp.ones((batch, num, 3)),
        joints24=jnp.array(poses(seed, batch, num).reshape(batch, num, 24, 3)),
        midhip=jnp.zeros((batch, num, 3)),
        log_prior=jnp.asarray(rng.normal(size=(batch, num)) * 10, jnp.float32),
    )
