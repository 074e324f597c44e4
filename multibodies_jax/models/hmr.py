"""The regressor: a trunk and HMR's iterative head whose final layer is M times larger (paper, section 4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from multibodies_jax.hypotheses.hypotheses import STATE_SIZE, split_state

ACTIVATIONS = {"none": lambda x: x, "relu": nn.relu}
_HIGHEST = jax.lax.Precision.HIGHEST
# How hypotheses differ at the start, per unit of noise: on biases, absolute. Cameras must stay in front of the body.
_BIAS_SPREAD = np.concatenate([np.full(154, 0.3), np.full(3, 0.03)]).astype(np.float32)


class HMR(nn.Module):
    """Predicts M bodies per example; with M = 1 it is HMR (Kanazawa et al., 2018) and SPIN's network.

    Attributes:
      trunk: module whose `(batch, train)` gives the feature (B, F).
      mean_state: 157 numbers, the mean body and camera from which every hypothesis starts (rot6d, betas, cam).
      num_hypotheses: M.
      iterations: how often the head corrects its own estimate.
      hidden: width of the head's two layers.
      dropout: rate after each of them in training.
      activation: after each of them: "none" (SPIN) or "relu" (HMR 2018).
      init_noise: spread of the hypotheses at the start; see `expand_to_hypotheses`.
      frozen: unless "", the trunk's batch norms keep their running statistics in training.
    """

    trunk: nn.Module
    mean_state: tuple[float, ...]
    num_hypotheses: int = 100
    iterations: int = 3
    hidden: int = 1024
    dropout: float = 0.5
    activation: str = "none"
    init_noise: float = 0.1
    frozen: str = ""

    @nn.compact
    def __call__(self, batch: Mapping[str, Array], train: bool = False) -> Float[Array, "B M 157"]:
        """States of all hypotheses; `hypotheses.decode` turns them into bodies.

        Args:
          batch: what the trunk reads (docs/interfaces.md, section 2), or its `feature` (B, F), kept from before.
          train: dropout (needs the rng "dropout") and batch statistics (mutable collection "batch_stats").
        """
        return self.make_head(self.num_hypotheses)(self.read(batch, train), train)

    def read(self, batch: Mapping[str, Array], train: bool = False) -> Float[Array, "B F"]:
        """The feature of a batch, which the head reads; only from compact methods."""
        if "feature" in batch:
            return batch["feature"]
        return self.trunk(batch, train and not self.frozen)

    def make_head(self, num_hypotheses: int) -> "IterativeHead":
        """The head; only from compact methods, once."""
        return IterativeHead(
            mean_state=self.mean_state,
            num_hypotheses=num_hypotheses,
            iterations=self.iterations,
            hidden=self.hidden,
            dropout=self.dropout,
            activation=self.activation,
            init_noise=self.init_noise,
            name="head",
        )


class IterativeHead(nn.Module):
    """Iterative error feedback on the stacked state of all hypotheses (docs/interfaces.md, "Network heads").

    Each iteration adds `dec(fc2(fc1([feature, state])))` to the state. Rows of fc1's kernel: the F of the feature, then
    for each hypothesis its 157 in the order of a state; columns of dec's kernel: the same 157 for each hypothesis. With
    M = 1 these are SPIN's fc1, fc2 and its decpose, decshape and deccam side by side. The layer divides fc1's state rows
    by M: hypotheses that agree then push fc1 as one would, and so does a step of Adam, whose size knows nothing of M.
    """

    mean_state: tuple[float, ...]
    num_hypotheses: int
    iterations: int
    hidden: int
    dropout: float
    activation: str
    init_noise: float

    @nn.compact
    def __call__(self, feature: Float[Array, "B F"], train: bool = False) -> Float[Array, "B M 157"]:
        _check_head(self.mean_state, self.num_hypotheses, self.iterations, self.activation)
        M, (B, F) = self.num_hypotheses, feature.shape
        size = M * STATE_SIZE
        fc1, fc1_bias = _Affine((F + size, self.hidden), nn.initializers.lecun_normal(), name="fc1")()
        fc2, fc2_bias = _Affine((self.hidden, self.hidden), nn.initializers.lecun_normal(), name="fc2")()
        dec, dec_bias = _Affine((self.hidden, size), _decoder_init(M), _bias_init(M, self.init_noise), name="dec")()
        act, drop = ACTIVATIONS[self.activation], nn.Dropout(self.dropout, deterministic=not train)

        start = jnp.tile(jnp.array(self.mean_state, jnp.float32), M)
        fc1_state = fc1[F:] / M
        total, pre = jnp.zeros((B, self.hidden)), _dot(feature, fc1[:F]) + (_dot(start, fc1_state) + fc1_bias)[None]
        feed_back = _feed_back(fc1_state, dec, dec_bias, B)
        for iteration in range(self.iterations):
            if iteration > 0:
                pre = pre + feed_back(x)
            x = drop(act(_dot(drop(act(pre)), fc2) + fc2_bias[None]))
            total = total + x
        # The sum of all corrections, decoded at once.
        state = _dot(total, dec) + (start + self.iterations * dec_bias)[None]
        return state.reshape(B, M, STATE_SIZE)


def expand_to_hypotheses(params: Mapping[str, Any], num_hypotheses: int, noise: float, key: Key[Array, ""]) -> dict:
    """Makes the parameters of an M-hypothesis `HMR` from those of a trained M = 1 model (appendix D).

    The state rows of fc1, which the layer divides by M, and dec are tiled, so that without noise and dropout every
    hypothesis equals the source. Noise makes them differ; it is all that does, so training needs it.

    Args:
      params: the "params" collection of `HMR` with num_hypotheses = 1.
      num_hypotheses: M.
      noise: std of what is added to dec: on its weights in units of their own std (pose, shape and camera each), on its
        biases 0.3 (camera 0.03) in absolute numbers. 0.1 leaves no hypothesis unused at M = 25 and 100.
      key: of the noise.

    Returns:
      A new "params" collection; the trunk is shared with the source.

    Raises:
      ValueError: `params` is not of a single-hypothesis HMR.
    """
    head = params.get("head", {})
    if set(head) != {"fc1", "fc2", "dec"} or head["dec"]["kernel"].shape[1] != STATE_SIZE:
        got = {name: layer["kernel"].shape for name, layer in head.items() if "kernel" in layer}
        raise ValueError(
            f"Expected the parameters of an HMR with one hypothesis (head/dec/kernel with {STATE_SIZE} columns), "
            f"got the head {got or 'missing'}: start from a model trained with model.name='hmr'."
        )
    fc1, dec = head["fc1"], head["dec"]
    features = fc1["kernel"].shape[0] - STATE_SIZE
    state_rows = jnp.tile(fc1["kernel"][features:], (num_hypotheses, 1))
    key_kernel, key_bias = jax.random.split(key)
    kernel = jnp.tile(dec["kernel"], (1, num_hypotheses))
    kernel_spread = noise * jnp.tile(_spread_of_parts(dec["kernel"]), num_hypotheses)
    bias_spread = noise * jnp.tile(_BIAS_SPREAD, num_hypotheses)
    bias = jnp.tile(dec["bias"], num_hypotheses)
    return dict(params) | {
        "head": {
            "fc1": {"kernel": jnp.concatenate([fc1["kernel"][:features], state_rows]), "bias": fc1["bias"]},
            "fc2": head["fc2"],
            "dec": {
                "kernel": kernel + kernel_spread[None] * jax.random.normal(key_kernel, kernel.shape),
                "bias": bias + bias_spread * jax.random.normal(key_bias, bias.shape),
            },
        }
    }


class _Affine(nn.Module):
    """The parameters of a dense layer, named as those of `nn.Dense`, for products in another order."""

    shape: tuple[int, int]
    kernel_init: Callable
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "I O"], Float[Array, "O"]]:
        kernel = self.param("kernel", self.kernel_init, self.shape)
        return kernel, self.param("bias", self.bias_init, self.shape[1:])


def _feed_back(
    fc1_state: Float[Array, "S H"], dec: Float[Array, "H S"], dec_bias: Float[Array, "S"], batch: int
) -> Callable[[Float[Array, "B H"]], Float[Array, "B H"]]:
    """What a correction `x` of the state adds to the next iteration's fc1: nothing nonlinear lies between dec and fc1.

    Multiplying the weights first is exact too. It costs 2 H^2 S once and then only H^2 per example instead of 4 H S;
    with both gradients of all iterations they are equal at 4 B = H.
    """
    if 4 * batch < dec.shape[0]:
        return lambda x: _dot(_dot(x, dec) + dec_bias[None], fc1_state)
    loop, loop_bias = _dot(dec, fc1_state), _dot(dec_bias, fc1_state)
    return lambda x: _dot(x, loop) + loop_bias[None]


def _dot(x: Array, y: Array) -> Array:
    return jnp.dot(x, y, precision=_HIGHEST)  # The state is geometry.


def _decoder_init(num_hypotheses: int) -> Callable:
    """SPIN's: Xavier with gain 0.01 for the layer of one hypothesis, drawn for each."""

    def init(key: Key[Array, ""], shape: tuple[int, int]) -> Array:
        bound = 0.01 * np.sqrt(6.0 / (shape[0] + shape[1] // num_hypotheses))
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    return init


def _bias_init(num_hypotheses: int, noise: float) -> Callable:
    """Zero for one hypothesis; several must not start alike, or the same one is always the best."""

    def init(key: Key[Array, ""], shape: tuple[int]) -> Array:
        if num_hypotheses == 1:
            return jnp.zeros(shape)
        return noise * jnp.tile(_BIAS_SPREAD, num_hypotheses) * jax.random.normal(key, shape)

    return init


def _spread_of_parts(kernel: Float[Array, "H 157"]) -> Float[Array, "157"]:
    """The std of the weights of pose, shape and camera, each repeated for its columns."""
    parts = split_state(kernel)
    return jnp.concatenate([jnp.full(part.shape[1], part.std()) for part in parts])


def _check_head(mean_state: Sequence[float], num_hypotheses: int, iterations: int, activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"Unknown model.activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}.")
    if len(mean_state) != STATE_SIZE:
        raise ValueError(
            f"mean_state must hold {STATE_SIZE} numbers (144 rot6d, 10 betas, 3 camera), got {len(mean_state)}."
        )
    if num_hypotheses < 1 or iterations < 1:
        raise ValueError(
            f"model.num_hypotheses and model.iterations must be at least 1, got {num_hypotheses} and {iterations}."
        )
