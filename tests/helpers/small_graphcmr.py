"""A tiny GraphCMR on a closed body of 162 vertices, its variables, and its answers."""

import functools

import jax
import numpy as np

from multibodies_jax.baselines.graphcmr import hierarchy, network
from multibodies_jax.models import hmr
from multibodies_jax.models.keypoint_trunk import KeypointTrunk
from tests.helpers import batches, sphere_body

B = 3
MEAN = tuple(np.concatenate([np.tile([1.0, 0, 0, 1, 0, 0], 24), np.zeros(10), [0.9, 0, 0]]).tolist())


def module(**fields) -> network.GraphCMR:
    body = sphere_body.body()
    return network.GraphCMR(
        trunk=KeypointTrunk(width=16, blocks=1),
        settings=hmr.HeadSettings(MEAN, 1),
        frozen="",
        levels=hierarchy.of_body(body),
        template=hierarchy.template_of(np.asarray(body.v_template)),
        **{"channels": 16, "blocks": 1, "hidden": 8, **fields},
    )


@functools.cache
def build():
    """(model, variables, inputs of B examples)."""
    model, inputs = module(), batches.inputs(**sphere_body.images(B))
    return model, jax.jit(model.init)(jax.random.key(0), inputs), inputs


@functools.partial(jax.jit, static_argnums=(0, 3))
def answer(model, variables, inputs, train=False):
    """States, and what else the model tells: "extras", and in training "batch_stats"."""
    return model.apply(variables, inputs, train, mutable=["extras", "batch_stats"])
