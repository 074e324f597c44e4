"""The gradient of a batch in parts, for devices whose memory does not hold the whole (`train.accumulate`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def accumulated_gradient(
    loss_fn: Callable[[Any, Any, Any, Array], tuple[Array, tuple[Any, dict[str, Array]]]],
    params: Any,
    carried: Any,
    batch: Any,
    keys: Array,
    whole: bool,
) -> tuple[Array, Any, Any, dict[str, Array]]:
    """The mean loss and gradient over the parts of a batch, one part after the other.

    Args:
      loss_fn: (params, carried, part of the batch, key) -> loss, (carried, metrics).
      params: of the network.
      carried: what passes from part to part: statistics and memory.
      batch: arrays with leading axis B, which is cut into the parts.
      keys: one for each part; their number is the number of parts.
      whole: every part gets the whole `batch` and draws its own examples of it.

    Returns:
      Loss, gradient, what is carried, and the mean of each metric.
    """
    parts = len(keys)

    def add_part(carry: tuple, part_and_key: tuple) -> tuple[tuple, dict[str, Array]]:
        carried, total, gradient = carry
        (loss, (carried, metrics)), g = jax.value_and_grad(loss_fn, has_aux=True)(params, carried, *part_and_key)
        return (carried, total + loss / parts, jax.tree.map(lambda a, b: a + b / parts, gradient, g)), metrics

    start = (carried, jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    if parts == 1:  # Not through `scan`: on CPUs XLA runs convolutions inside a loop many times slower.
        (carried, loss, gradient), metrics = add_part(start, (batch, keys[0]))
    elif whole:
        (carried, loss, gradient), metrics = jax.lax.scan(lambda c, k: add_part(c, (batch, k)), start, keys)
    else:
        shaped = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
        (carried, loss, gradient), metrics = jax.lax.scan(add_part, start, (shaped, keys))
    return loss, gradient, carried, {name: jnp.mean(value) for name, value in metrics.items()}
