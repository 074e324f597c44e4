"""The density of a trained `flow.Flow`, with everything worked out once that does not depend on X.

A mask that multiplies what a network reads is a part of its first kernel, one that multiplies what it gives a part of its
last one; and the networks of scale and shift have the same sizes, so that each layer of both is one product of matrices.
That is exact: only the rounding differs. A coupling is three products then, where it was six with three selections
between them; at batch 1 a GPU waits for the start of each. Of M = 100 it starts 143 kernels where it started 406, and a
CPU takes as long (docs/benchmarks.md, `python -m benchmarks launches`).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.models import flow as flow_lib

UNROLLED_ON_ACCELERATORS = 4
"""Couplings in one round of the loop, unless it runs on a CPU."""

_COLLECTION = "folded"
_NETWORKS = ("scale", "shift")


class FoldedFlow(nn.Module):
    """`flow.Flow` for evaluation: the same density and the same samples, with the variables that `fold` makes.

    Attributes:
      unrolled: couplings in one round of the loop.
    """

    unrolled: int = 1

    def log_prob(self, X: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
        """Eq (4), log p(X) in nats; see `flow.Flow.log_prob`.

        Raises:
          ValueError: X has another number of coordinates.
        """
        stats, layers = self._stats(), self._layers()
        size = len(stats["mean"])
        flow_lib.check_size(X, size)

        def undo(carry: tuple[Array, Array], layer: Mapping[str, Array]) -> tuple[tuple[Array, Array], None]:
            x, log_det = carry
            log_scale, shift = _scale_and_shift(layer, x)
            return ((x - shift) * jnp.exp(-log_scale), log_det - log_scale), None

        start = (X.reshape(-1, size) - stats["mean"][None]) / stats["std"][None]
        log_det = jnp.broadcast_to(-jnp.log(stats["std"])[None], start.shape)
        (z, log_det), _ = jax.lax.scan(undo, (start, log_det), layers, reverse=True, unroll=self.unrolled)
        log_prob = jnp.sum(log_det - 0.5 * jnp.square(z) - 0.5 * np.log(2 * np.pi).astype(np.float32), axis=1)
        return log_prob.reshape(X.shape[:-1])

    def sample(self, key: Array, num: int) -> Float[Array, "num D"]:
        """Draws `num` skeletons X, metres."""
        stats, layers = self._stats(), self._layers()

        def follow(x: Array, layer: Mapping[str, Array]) -> tuple[Array, None]:
            log_scale, shift = _scale_and_shift(layer, x)
            return x * jnp.exp(log_scale) + shift, None

        x, _ = jax.lax.scan(follow, jax.random.normal(key, (num, len(stats["mean"]))), layers, unroll=self.unrolled)
        return x * stats["std"][None] + stats["mean"][None]

    def _layers(self) -> Any:
        return self.get_variable(_COLLECTION, "couplings")

    def _stats(self) -> Any:
        return self.get_variable(_COLLECTION, "stats")


def _scale_and_shift(
    layer: Mapping[str, Array], x: Float[Array, "N D"]
) -> tuple[Float[Array, "N D"], Float[Array, "N D"]]:
    """The log-scale and the shift of one coupling; both are 0 for the coordinates that stay."""
    hidden = exact.matmul(x, layer["kernel_0"]) + layer["bias_0"][None]
    hidden = nn.leaky_relu(hidden, flow_lib.LEAK).reshape(len(x), 2, -1)
    hidden = exact.einsum("nki,kij->knj", hidden, layer["kernel_1"]) + layer["bias_1"][:, None]
    hidden = nn.leaky_relu(hidden, flow_lib.LEAK)
    both = exact.einsum("kni,kid->knd", hidden, layer["kernel_2"]) + layer["bias_2"][:, None]
    return jnp.tanh(both[0]), both[1]


def fold(variables: Mapping[str, Any], unrolled: int | None = None) -> tuple[FoldedFlow, dict[str, Any]]:
    """The folded density of a flow's variables ("params", "masks", "stats"), and its own variables, on the host.

    Args:
      variables: of `flow.Flow`.
      unrolled: of `FoldedFlow`. Each round costs a GPU the start of a copy of every parameter, and a CPU nothing; more
        couplings in it take longer to compile. None is what suits the device.
    """
    if unrolled is None:
        unrolled = 1 if jax.default_backend() == "cpu" else UNROLLED_ON_ACCELERATORS
    params = variables["params"]["couplings"]
    stays = np.asarray(variables["masks"]["couplings"], np.float32)

    def stacked(layer: int, part: str) -> Float[np.ndarray, "L 2 ..."]:
        return np.stack([np.asarray(params[f"{name}_{layer}"][part]) for name in _NETWORKS], axis=1)

    def side_by_side(part: str) -> Float[np.ndarray, "L ..."]:
        return np.concatenate([np.asarray(params[f"{name}_0"][part]) for name in _NETWORKS], axis=-1)

    couplings = {
        "kernel_0": side_by_side("kernel") * stays[:, :, None],
        "bias_0": side_by_side("bias"),
        "kernel_1": stacked(1, "kernel"),
        "bias_1": stacked(1, "bias"),
        "kernel_2": stacked(2, "kernel") * (1 - stays)[:, None, None],
        "bias_2": stacked(2, "bias") * (1 - stays)[:, None],
    }
    return FoldedFlow(unrolled), {_COLLECTION: {"couplings": couplings, "stats": dict(variables["stats"])}}
