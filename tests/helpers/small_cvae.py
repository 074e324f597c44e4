"""A tiny SMPL-CVAE, inputs for it, and its answers in training and evaluation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.baselines.smpl_cvae import network
from multibodies_jax.models import hmr
from multibodies_jax.models.keypoint_trunk import KeypointTrunk
from tests.helpers import batches

RNG = np.random.default_rng(0)
MEAN = tuple(RNG.normal(size=157).tolist())
TRUNK = KeypointTrunk(width=16, blocks=1)
VERTICES, Z, M, B = 7, 3, 5, 4
INPUTS = batches.inputs(
    kp2d=jnp.asarray(RNG.uniform(-1, 1, (B, 24, 2)), jnp.float32),
    kp2d_input=jnp.asarray(RNG.integers(0, 2, (B, 24)), jnp.float32),
    example_hash=jnp.asarray([7, 2**32 - 1, 0, 7], jnp.uint32),
)
TRAINING = network.EncoderInputs(
    INPUTS.evidence,
    INPUTS.kp2d_input,
    INPUTS.example_hash,
    mesh=jnp.asarray(0.3 * RNG.normal(size=(B, VERTICES, 3)), jnp.float32),
    mesh_valid=jnp.asarray([1.0, 0.0, 1.0, 0.0]),
)


def build(samples=M, **fields):
    every: dict[str, Any] = {"vertices": VERTICES, "z_size": Z, "width": 9} | fields
    return network.CVAE(TRUNK, hmr.HeadSettings(MEAN, samples, hidden=8), **every)


hmr_of_one = hmr.HMR(TRUNK, hmr.HeadSettings(MEAN, 1, hidden=8))
single = jax.jit(hmr_of_one.apply, static_argnames="train")
evaluate = jax.jit(build().apply)


def random_parameters(module):
    """Of ordinary size everywhere: the initial ones ignore z."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), INPUTS)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), shapes)


@jax.jit
def train(variables, inputs, latent):
    """The states (B, 1, 157) of a training step, and the encoder's means and log variances (B, Z)."""
    rngs = {"latent": latent, "dropout": jax.random.key(0)}
    states, changed = build().apply(variables, inputs, True, rngs=rngs, mutable=["extras"])
    return states, changed["extras"]["mean"][0], changed["extras"]["log_var"][0]
