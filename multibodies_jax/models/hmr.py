"""The regressor: a trunk and HMR's iterative head whose final layer is M times larger (paper, section 4)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from multibodies_jax.batch import Inputs
from multibodies_jax.hypotheses.hypotheses import STATE_SIZE, split_state
from multibodies_jax.models import exact_layers, scores

ACTIVATIONS = {"none": lambda x: x, "relu": nn.relu}
# How hypotheses differ at the start, per unit of noise: on biases, absolute. Cameras must stay in front of the body.
_BIAS_SPREAD = np.concatenate([np.full(154, 0.3), np.full(3, 0.03)]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """What an iterative head is made of.

    Attributes:
      mean_state: 157 numbers, the mean body and camera from which every hypothesis starts (rot6d, betas, cam).
      num_hypotheses: M.
      iterations: how often the head corrects its own estimate.
      hidden: width of the head's two layers.
      dropout: rate after each of them in training.
      activation: after each of them: "none" (SPIN) or "relu" (HMR 2018).
      init_noise: spread of the hypotheses at the start; see `expand_to_hypotheses`.

    Raises:
      ValueError: an unknown activation, a mean state that is not of 157 numbers, no hypothesis or no iteration.
    """

    mean_state: tuple[float, ...]
    num_hypotheses: int = 100
    iterations: int = 3
    hidden: int = 1024
    dropout: float = 0.5
    activation: str = "none"
    init_noise: float = 0.1

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"Unknown model.activation {self.activation!r}; choose one of {', '.join(ACTIVATIONS)}.")
        if len(self.mean_state) != STATE_SIZE:
            raise ValueError(
                f"mean_state must hold {STATE_SIZE} numbers (144 rot6d, 10 betas, 3 camera), got {len(self.mean_state)}."
            )
        if self.num_hypotheses < 1 or self.iterations < 1:
            raise ValueError(
                "model.num_hypotheses and model.iterations must be at least 1, "
                f"got {self.num_hypotheses} and {self.iterations}."
            )


class IterativeHead(nn.Module):
    """Iterative error feedback on the stacked state of all hypotheses (docs/interfaces.md, "Network heads").

      state <- state + dec(drop(act(fc2(drop(act(fc1([feature, state / M])))))))      `iterations` times

    (Kanazawa et al., 2018, section 3.2; 3D Multi-bodies, section 4). Rows of fc1's kernel: the F of the feature, then for
    each hypothesis its 157 in the order of a state; columns of dec's kernel: the same 157 for each hypothesis. With M = 1
    these are SPIN's fc1, fc2 and its decpose, decshape and deccam side by side. The state is divided by M: hypotheses
    that agree then push fc1 as one would, and so does a step of Adam, whose size does not scale with M.
    """

    settings: HeadSettings

    @nn.compact
    def __call__(self, feature: Float[Array, "B F"], train: bool = False) -> Float[Array, "B M 157"]:
        """States of all hypotheses from the feature; `train` switches dropout on, which needs the rng "dropout"."""
        its = self.settings
        M, B = its.num_hypotheses, feature.shape[0]
        fc1 = exact_layers.Dense(its.hidden, name="fc1")
        fc2 = exact_layers.Dense(its.hidden, name="fc2")
        dec = exact_layers.Dense(
            M * STATE_SIZE, kernel_init=decoder_init(M), bias_init=decoder_bias_init(M, its.init_noise), name="dec"
        )
        act, drop = ACTIVATIONS[its.activation], nn.Dropout(its.dropout, deterministic=not train)
        state = jnp.tile(jnp.array(its.mean_state, jnp.float32), (B, M))
        for _ in range(its.iterations):
            x = jnp.concatenate([feature, state / M], axis=1)
            state = state + dec(drop(act(fc2(drop(act(fc1(x)))))))
        return state.reshape(B, M, STATE_SIZE)


class HMR(nn.Module):
    """Predicts M bodies per example; with M = 1 it is HMR (Kanazawa et al., 2018) and SPIN's network.

    Attributes:
      trunk: module whose `(inputs, train)` gives the feature (B, F).
      settings: of the head, M among them.
      frozen: unless "", the trunk's batch norms keep their running statistics in training.
      head_class: the textbook loop, or `hmr_preactivated.PreactivatedHead`, which computes the same with fewer products.
    """

    trunk: nn.Module
    settings: HeadSettings
    frozen: str = ""
    head_class: type[IterativeHead] = IterativeHead

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B M 157"]:
        """States of all hypotheses; `hypotheses.decode` turns them into bodies.

        Args:
          inputs: with what the trunk reads, or with its `feature`, kept from before.
          train: dropout (needs the rng "dropout") and batch statistics (mutable collection "batch_stats").

        The collection "extras" gets the feature.
        """
        feature = self.read(inputs, train)
        scores.sow_feature(self, feature)
        return self.make_head(self.settings.num_hypotheses)(feature, train)

    def read(self, inputs: Inputs, train: bool = False) -> Float[Array, "B F"]:
        """The feature that the head reads; only from compact methods."""
        if inputs.feature is not None:
            return inputs.feature
        return self.trunk(inputs, train and not self.frozen)

    def make_head(self, num_hypotheses: int) -> IterativeHead:
        """The head; only from compact methods, once."""
        return self.head_class(dataclasses.replace(self.settings, num_hypotheses=num_hypotheses), name="head")


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


def decoder_init(num_hypotheses: int) -> Callable:
    """SPIN's: Xavier with gain 0.01 for the layer of one hypothesis, drawn for each."""

    def init(key: Key[Array, ""], shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        bound = 0.01 * np.sqrt(6.0 / (shape[0] + shape[1] // num_hypotheses))
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return init


def decoder_bias_init(num_hypotheses: int, noise: float) -> Callable:
    """Zero for one hypothesis; several must not start alike, or the same one is always the best."""

    def init(key: Key[Array, ""], shape: tuple[int], dtype: Any = jnp.float32) -> Array:
        if num_hypotheses == 1:
            return jnp.zeros(shape, dtype)
        return noise * jnp.tile(_BIAS_SPREAD, num_hypotheses) * jax.random.normal(key, shape, dtype)

    return init


def _spread_of_parts(kernel: Float[Array, "H 157"]) -> Float[Array, "157"]:
    """The std of the weights of pose, shape and camera, each repeated for its columns."""
    parts = split_state(kernel)
    return jnp.concatenate([jnp.full(part.shape[1], part.std()) for part in parts])
