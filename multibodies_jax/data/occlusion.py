"""Ambiguous views of a person: which keypoints are hidden, and the crop around those that stay visible (appendix B).

Pixels are never painted: hiding is the crop and the keypoints. Works on NumPy and on JAX arrays (also under `jit`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from multibodies_jax import io

Array = np.ndarray | jax.Array

STRATEGIES = ("none", "legs", "arms_head", "head")
PROBABILITIES = (0.1, 0.3, 0.3, 0.3)  # Appendix B, footnote 3.

_LEGS = (0, 1, 2, 3, 4, 5)
_ARMS = (6, 7, 8, 9, 10, 11)
_HEAD = (
    12,
    13,
    17,
    18,
    19,
    20,
    21,
    22,
    23,
)  # Neck, head top, jaw, head, face. Pelvis, thorax and spine are never hidden.
HIDDEN_JOINTS = ((), _LEGS, _ARMS + _HEAD, _HEAD)  # Indices into J24, by strategy.


def _hidden_table() -> Bool[np.ndarray, "4 24"]:
    table = np.zeros((len(STRATEGIES), 24), bool)
    for row, joints in zip(table, HIDDEN_JOINTS, strict=True):
        row[list(joints)] = True
    return table


HIDDEN = _hidden_table()
_EDGES = np.cumsum(PROBABILITIES)[:-1]  # Of the strategies' shares of [0, 1).


def draw(rng: np.random.Generator, n: int | None = None) -> Int[np.ndarray, "*n"] | np.int32:
    """Appendix B: p(none) = 0.1, p(legs) = p(arms and head) = p(head) = 0.3; draws `n` strategies.

    Returns:
      Indices into `STRATEGIES` (n,), or one index where `n` is None.
    """
    return _from_uniform(rng.random(n))


def strategy_for(example_id: str, seed: int) -> int:
    """Returns the strategy of one example of an ambiguous set.

    It depends on nothing but the arguments: neither on the order of the examples nor on the process that asks.

    Args:
      example_id: the stable id of the example.
      seed: of the set; another seed gives other crops of the same people.

    Returns:
      An index into `STRATEGIES`, distributed as `PROBABILITIES` over ids.
    """
    return int(_from_uniform(io.number_of(f"{seed}/{example_id}", 6, "big") / 2**48))


def hide(
    strategy: Int[Array, "*batch"] | int | np.integer, kp2d_valid: Float[Array, "*batch 24"]
) -> tuple[Float[Array, "*batch 24"], Int[Array, "*batch"] | np.integer]:
    """Appendix B: visible_k = valid_k (1 - hidden_k), where `HIDDEN` lists the keypoints that the strategy hides.

    Where no keypoint would stay visible, none is hidden.

    Args:
      strategy: indices into `STRATEGIES`.
      kp2d_valid: 1 where a J24 keypoint is annotated, 0 elsewhere.

    Returns:
      `kp2d_input`: 1 where a keypoint is annotated and visible; and the strategy used, 0 (`none`) after a fall-back.

    Raises:
      ValueError: a strategy that does not exist (NumPy arrays only: traced values cannot be looked at).
    """
    xp = _namespace(strategy, kp2d_valid)
    if xp is np and not set(np.ravel(strategy).tolist()) <= set(range(len(STRATEGIES))):
        raise ValueError(f"Occlusion strategies are indices into {STRATEGIES}, got {strategy}.")
    strategy = xp.asarray(strategy, xp.int32)
    visible = xp.where(xp.asarray(HIDDEN)[strategy], 0, kp2d_valid)
    nothing = xp.all(visible <= 0, axis=-1, keepdims=True)
    used = xp.where(nothing[..., 0], 0, strategy)
    return xp.where(nothing, kp2d_valid, visible), used


def _namespace(*arrays):
    """JAX as soon as one argument is a JAX array (or is traced), else NumPy."""
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np


def _from_uniform(u) -> np.ndarray | np.int32:
    """Inverts the cumulative distribution of the strategies at numbers in [0, 1)."""
    return _EDGES.searchsorted(u, side="right").astype(np.int32)
