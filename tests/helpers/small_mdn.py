"""A tiny SMPL-MDN whose components differ, and its answers in training and evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.baselines.smpl_mdn import network
from multibodies_jax.models import hmr
from multibodies_jax.models.keypoint_trunk import KeypointTrunk
from tests.helpers import batches

B, M = 3, 5
MEAN = tuple(np.concatenate([np.tile([1.0, 0, 0, 1, 0, 0], 24), np.zeros(10), [0.9, 0, 0]]).tolist())
log_rotations = jax.jit(network.log_rotations_of, static_argnums=1)


def build():
    """(model, variables, inputs of B examples)."""
    inputs = batches.inputs(
        kp2d=jnp.asarray(np.random.default_rng(0).normal(size=(B, 24, 2)), jnp.float32),
        kp2d_input=jnp.ones((B, 24)),
        example_hash=jnp.array([7, 8, 9], jnp.uint32),
    )
    model = network.MDN(
        trunk=KeypointTrunk(width=16, blocks=1),
        settings=hmr.HeadSettings(MEAN, M, hidden=8, init_noise=1.0),
        learn_alpha=True,
        learn_sigma=True,
    )
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    # Weights and deviations that differ, else order and samples show nothing.
    params = dict(variables["params"])
    params["alpha"] = params["alpha"] | {"bias": jnp.linspace(0.0, 3.0, M)}
    params["sigma_change"] = params["sigma_change"] | {"bias": jnp.linspace(-2.0, 2.0, M)}
    return model, {"params": params}, inputs


@functools.partial(jax.jit, static_argnums=0)
def train(model, variables, inputs):
    return model.apply(variables, inputs, train=True, rngs={"dropout": jax.random.key(0)}, mutable=["extras"])


@functools.partial(jax.jit, static_argnums=0)
def answer(model, variables, inputs):
    return model.apply(variables, inputs)


def mixture(built):
    """The states (B, M, 157), log weights and log deviations (B, M) in training, of what `build` returns."""
    states, extras = train(*built)
    return states, extras["extras"]["log_alpha"][0], extras["extras"]["log_sigma"][0]
