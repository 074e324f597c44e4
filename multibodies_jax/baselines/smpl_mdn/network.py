"""SMPL-MDN: a Gaussian mixture over SMPL's log-rotations (3D Multi-bodies, appendix C, eq 9)."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.batch import Inputs
from multibodies_jax.geometry import rotations
from multibodies_jax.hypotheses.hypotheses import split_state
from multibodies_jax.models import exact_layers
from multibodies_jax.models.hmr import HMR

ROOTS = ("shared", "mixture")
SIGMA_MEANS = ("variance", "std")
DRAWS = ("means", "samples")
_LOG_SIGMA_RANGE = (math.log(1e-3), math.log(2.0))  # Of a learned standard deviation, radians.
_ORDER, _NOISE = 0x3D0, 0x3D1  # Purposes of random keys.


class MDN(HMR):
    """HMR's head as a mixture density network (Bishop, 1994; Li and Lee, 2019) with M components.

    A component has a mean of its own for the log-rotations (axis-angles) of the 23 body joints; shape, camera and, with
    root "shared", the global rotation are one for all of them: the mean of the M that the head gives. The head is
    therefore that of `HMR`, and starts from a trained single hypothesis in the same way.

    Attributes:
      root: "shared", the paper's (beta, gamma, t); "mixture" counts the global rotation among the log-rotations.
      sigma: of every component and number at the start, and always without `learn_sigma`.
      sigma_means: what `sigma` is, a "variance" (the paper's word) in square radians, or "std".
      learn_sigma: each component's own, from the feature.
      learn_alpha: mixture weights from the feature; else 1 / M.
      draw: what the M hypotheses are in evaluation: the components' "means" in random order, each drawn without
        replacement in proportion to its weight, or "samples" of the mixture.
    """

    root: str = "shared"
    sigma: float = 0.001
    sigma_means: str = "variance"
    learn_sigma: bool = False
    learn_alpha: bool = False
    draw: str = "means"

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B M 157"]:
        """States of the components' means in training, where "extras" gets `log_alpha` and `log_sigma`; else hypotheses.

        Args:
          inputs: what the trunk reads, and in evaluation `example_hash`, on which alone the random draws depend.
          train: as in `HMR`.
        """
        feature, size = self.read(inputs, train), self.settings.num_hypotheses
        states = _share(self.make_head(size)(feature, train), self.root)
        log_alpha = jnp.full(states.shape[:2], -math.log(size))
        log_sigma = jnp.full(states.shape[:2], log_std(self.sigma, self.sigma_means))
        dense = functools.partial(exact_layers.Dense, size, kernel_init=nn.initializers.zeros)
        if self.learn_alpha:
            log_alpha = jax.nn.log_softmax(dense(name="alpha")(feature))
        if self.learn_sigma:
            change = dense(name="sigma_change")(feature)
            log_sigma = jnp.clip(log_sigma + change, *_LOG_SIGMA_RANGE)
        if train:
            self.sow("extras", "log_alpha", log_alpha)
            self.sow("extras", "log_sigma", log_sigma)
            return states
        hashes = inputs.example_hash
        if self.draw == "means":
            return jax.vmap(_shuffle)(states, log_alpha, hashes)
        return jax.vmap(functools.partial(_sample, root=self.root))(states, log_alpha, log_sigma, hashes)


def log_std(sigma: float, means: str) -> float:
    """The logarithm of the standard deviation that `sigma` says, as a "variance" or a "std"."""
    return 0.5 * math.log(sigma) if means == "variance" else math.log(sigma)


def _share(states: Float[Array, "B M 157"], root: str) -> Float[Array, "B M 157"]:
    """Gives all components the mean shape and camera and, if it is shared, the mean root."""
    pose, *_ = split_state(states)
    own = jnp.arange(states.shape[-1]) < pose.shape[-1]
    own = own & (jnp.arange(states.shape[-1]) >= (6 if root == "shared" else 0))
    return jnp.where(own[None, None], states, jnp.mean(states, axis=1, keepdims=True))


def log_rotations_of(states: Float[Array, "*b 157"], first: int) -> Float[Array, "*b D"]:
    """Axis-angles of the joints from `first` on, radians, D = 3 (24 - first)."""
    pose = split_state(states)[0]
    matrices = rotations.rot6d_to_matrix(pose.reshape(*pose.shape[:-1], 24, 6)[..., first:, :])
    return rotations.matrix_to_axis_angle(matrices).reshape(*pose.shape[:-1], -1)


def with_log_rotations(
    states: Float[Array, "*b 157"], log_rotations: Float[Array, "*b D"], first: int
) -> Float[Array, "*b 157"]:
    """The states with these axis-angles for the joints from `first` on."""
    angles = log_rotations.reshape(*log_rotations.shape[:-1], 24 - first, 3)
    six = rotations.matrix_to_rot6d(rotations.axis_angle_to_matrix(angles)).reshape(*states.shape[:-1], -1)
    return jnp.concatenate([states[..., : 6 * first], six, states[..., 144:]], axis=-1)


def _shuffle(states: Float[Array, "M 157"], log_alpha: Float[Array, "M"], example: Array) -> Float[Array, "M 157"]:
    """The components in random order; the first n are n of them drawn by their weights, all different."""
    gumbel = jax.random.gumbel(_key(_ORDER, example), log_alpha.shape)
    return states[jnp.argsort(-(log_alpha + gumbel))]


def _sample(
    states: Float[Array, "M 157"],
    log_alpha: Float[Array, "M"],
    log_sigma: Float[Array, "M"],
    example: Array,
    root: str,
) -> Float[Array, "M 157"]:
    """M samples of the mixture."""
    first = 1 if root == "shared" else 0
    chosen = jax.random.categorical(_key(_ORDER, example), log_alpha, shape=log_alpha.shape)
    states = states[chosen]
    means = log_rotations_of(states, first)
    noise = jnp.exp(log_sigma[chosen])[:, None] * jax.random.normal(_key(_NOISE, example), means.shape)
    return with_log_rotations(states, means + noise, first)


def _key(purpose: int, example: Array) -> Array:
    return jax.random.fold_in(jax.random.key(purpose), example)
