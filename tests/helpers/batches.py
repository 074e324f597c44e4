"""Batches and inputs of what a test says, with zeros for the rest."""

import jax.numpy as jnp

from multibodies_jax.batch import Batch, Inputs, batch_of, inputs_of

_SHAPES = {"kp2d": (24, 2), "kp2d_valid": (24,), "kp2d_input": (24,), "joints3d": (24, 3), "joints3d_valid": (24,)}
_SHAPES |= {"rotmats": (24, 3, 3), "betas": (10,), "smpl_valid": (), "valid": ()}


def _filled(rows):
    size = len(next(iter(rows.values())))
    zeros = {name: jnp.zeros((size, *shape)) for name, shape in _SHAPES.items()}
    return zeros | {"example_hash": jnp.zeros(size, jnp.uint32)} | rows


def batch(**rows) -> Batch:
    return batch_of(_filled(rows))


def inputs(**rows) -> Inputs:
    return inputs_of(_filled(rows))
