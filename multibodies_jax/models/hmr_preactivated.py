"""The head of `hmr.IterativeHead` with fewer products: the same function of the same parameters, for training.

The textbook loop multiplies the whole state, 157 M numbers, with fc1 and makes it with dec in every iteration. Nothing
nonlinear lies between dec and fc1, so that the argument of fc1's activation can be carried instead of the state. Let
x_t = drop(act(fc2(drop(act(a_t))))) and s_t the state before iteration t, with W, b the kernels and biases, W1 split into
the rows of the feature, W1f, and of the state, W1s. Then

  a_0     = feature W1f + s_0 W1s / M + b1
  a_{t+1} = a_t + (x_t Wd + bd) W1s / M               because s_{t+1} = s_t + x_t Wd + bd
  s_T     = s_0 + (x_0 + ... + x_{T-1}) Wd + T bd     all corrections are decoded at once

The second line may multiply the weights first, x_t (Wd W1s / M): H^2 instead of 2 H S products per example, S = 157 M.
Dropout is drawn in the order of the textbook loop, so that training draws the same masks.

A training step takes less time with it, a single image more; evaluation runs the folded head (`folding`) instead. Both are
measured by `python -m benchmarks.heads` (docs/benchmarks.md).
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.hypotheses.hypotheses import STATE_SIZE
from multibodies_jax.models import hmr


class PreactivatedHead(hmr.IterativeHead):
    """`IterativeHead`, its fields and its parameters, by the identity above."""

    @nn.compact
    def __call__(self, feature: Float[Array, "B F"], train: bool = False) -> Float[Array, "B M 157"]:
        """States of all hypotheses, as `IterativeHead` returns them, to float32 rounding."""
        its = self.settings
        M, (B, F) = its.num_hypotheses, feature.shape
        S, init = M * STATE_SIZE, nn.initializers.lecun_normal()
        W1, b1 = _Affine((F + S, its.hidden), init, name="fc1")()
        W2, b2 = _Affine((its.hidden, its.hidden), init, name="fc2")()
        decoder = hmr.decoder_init(M), hmr.decoder_bias_init(M, its.init_noise)
        Wd, bd = _Affine((its.hidden, S), *decoder, name="dec")()
        act, drop = hmr.ACTIVATIONS[its.activation], nn.Dropout(its.dropout, deterministic=not train)

        start = jnp.tile(jnp.array(its.mean_state, jnp.float32), M)
        W1f, W1s = W1[:F], W1[F:] / M
        total, pre = jnp.zeros((B, its.hidden)), exact.dot(feature, W1f) + (exact.dot(start, W1s) + b1)[None]
        feed_back = _feed_back(W1s, Wd, bd, B)
        for iteration in range(its.iterations):
            if iteration > 0:
                pre = pre + feed_back(x)
            x = drop(act(exact.dot(drop(act(pre)), W2) + b2[None]))
            total = total + x
        state = exact.dot(total, Wd) + (start + its.iterations * bd)[None]
        return state.reshape(B, M, STATE_SIZE)


class _Affine(nn.Module):
    """The parameters of a dense layer, named and drawn as those of `nn.Dense`, for products in another order."""

    shape: tuple[int, int]
    kernel_init: Callable
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "I O"], Float[Array, "O"]]:
        kernel = self.param("kernel", self.kernel_init, self.shape)
        return kernel, self.param("bias", self.bias_init, self.shape[1:])


def _feed_back(
    W1s: Float[Array, "S H"], Wd: Float[Array, "H S"], bd: Float[Array, "S"], batch: int
) -> Callable[[Float[Array, "B H"]], Float[Array, "B H"]]:
    """x -> (x Wd + bd) W1s, what a correction of the state adds to the argument of fc1's activation.

    Multiplying the weights first costs 2 H^2 S once and then only H^2 per example instead of 4 H S; with both gradients
    of all iterations they are equal at 4 B = H.
    """
    if 4 * batch < Wd.shape[0]:
        return lambda x: exact.dot(exact.dot(x, Wd) + bd[None], W1s)
    loop, loop_bias = exact.dot(Wd, W1s), exact.dot(bd, W1s)
    return lambda x: exact.dot(x, loop) + loop_bias[None]
