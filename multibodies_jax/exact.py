"""Which numbers and products everything is computed with: the one place that names a precision.

- Trunks, the networks that read images or keypoints, compute in float32 or in bfloat16, as `config.model.dtype` says. Their
  products ask for nothing, so that a device may take its fast ones: TF32 on a GPU, bfloat16 on a TPU.
- Everything else is float32 with products of full precision: geometry, bodies, heads, losses, the flow, fits, K-means and
  metrics. TF32 can cost most of a millimetre.

All other modules take products from here and dense layers from `models/exact_layers.py`
(tests/architecture/precision_test.py).
"""

import functools

import jax
import jax.numpy as jnp

TRUNK_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""Values of `config.model.dtype`."""

PRECISION = jax.lax.Precision.HIGHEST
"""Of every product outside the trunks."""

einsum = functools.partial(jnp.einsum, precision=PRECISION)
dot = functools.partial(jnp.dot, precision=PRECISION)
matmul = functools.partial(jnp.matmul, precision=PRECISION)
convolution = functools.partial(jax.lax.conv_general_dilated, precision=PRECISION)
