"""The optimiser of the regressor: Adam, its schedule, weight decay and clipping (`optim` of the config)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from configs import default
from multibodies_jax.models import scores


def make_optimizer(config: Any, trained: Any, steps: int, learning_rate: float) -> optax.GradientTransformation:
    """Adam with clipping, warm-up, a schedule and weight decay (`optim`).

    `optim.l2` is added to the gradient, where Adam rescales it with the rest (PyTorch's Adam, the authors' code);
    `optim.weight_decay` is not (AdamW). The gradient of a score head is clipped by its own norm, so that the updates of
    all other parameters are the same without it.

    Args:
      config: of the experiment.
      trained: which parameters learn, a tree of booleans (`models.trained`); the others get no updates.
      steps: of the whole training.
      learning_rate: after the warm-up.
    """
    o = config.optim
    chain = [optax.clip_by_global_norm(o.clip)] if math.isfinite(o.clip) else []
    l2 = default.optional(config, "optim.l2")
    chain += [optax.add_decayed_weights(l2)] if l2 else []
    optimizer = optax.chain(*chain, optax.adamw(_schedule(config, steps, learning_rate), weight_decay=o.weight_decay))
    if all(jax.tree.leaves(trained)) and scores.NAME not in trained:
        return optimizer
    labels = {
        name: jax.tree.map(
            lambda learns, own="scores" if name == scores.NAME else "trained": own if learns else "frozen", part
        )
        for name, part in trained.items()
    }
    return optax.multi_transform({"trained": optimizer, "scores": optimizer, "frozen": optax.set_to_zero()}, labels)


def _schedule(config: Any, steps: int, learning_rate: float) -> optax.ScalarOrSchedule:
    warmup, kind = min(config.optim.warmup, steps // 10), default.optional(config, "optim.schedule")
    if kind == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps)
    start = optax.linear_schedule(0.0, learning_rate, warmup) if warmup else optax.constant_schedule(learning_rate)
    if kind == "constant":
        return start if warmup else learning_rate
    return lambda step: jnp.where(step < config.optim.decay_step, 1.0, 0.1) * start(step)
