"""Layers of everything that is no trunk; apart from `exact`, which modules without networks import, so that these need no flax."""

import functools

import flax.linen as nn

from multibodies_jax import exact

Dense = functools.partial(nn.Dense, precision=exact.PRECISION)
