"""A mean state, images and random variables for networks, and the check that a folded network has the same states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import build, folding, winograd
from tests.helpers import batches

RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=157).astype(np.float32)
IMAGE = batches.inputs(image=jnp.asarray(RNG.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)))
_RNG = np.random.default_rng(0)
KEYPOINTS = batches.inputs(
    kp2d=jnp.asarray(_RNG.uniform(-1, 1, (4, 24, 2)), jnp.float32),
    kp2d_input=jnp.asarray(_RNG.integers(0, 2, (4, 24)), jnp.float32),
)
evaluate = jax.jit(lambda model, variables, inputs: model.apply(variables, inputs), static_argnums=0)
answer = jax.jit(lambda model, variables, inputs: model.apply(variables, inputs, mutable=["extras"]), static_argnums=0)
"""(network, variables, inputs) -> states, and what the network sows into "extras"."""


def fill(shapes, seed):
    """Variables of ordinary size everywhere, statistics away from 0 and 1."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        kind = path[-1].key
        size = shape.shape
        if kind in ("var", "scale"):
            value = rng.uniform(0.5, 1.5, size)
        elif kind == "kernel":
            value = rng.standard_normal(size, np.float32) / np.sqrt(np.prod(size[:-1]))
        else:
            value = 0.2 * rng.standard_normal(size, np.float32)
        return jnp.asarray(value, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_tree(model):
    """Statistics away from 0 and 1, parameters that let every iteration matter."""
    return fill(jax.eval_shape(model.init, jax.random.key(0), KEYPOINTS.replace(image=IMAGE.image)), 3)


def check_folded(fields, layers):
    """The folded network of `build.build(**fields)` has its states and `layers` layers, and cannot be trained."""
    sizes = {"crop_size": 64, "width": 4}
    model = build.build(mean_state=MEAN, **{"hidden": 16} | sizes | fields)
    variables = random_tree(model)
    inputs = KEYPOINTS if fields["trunk"] == "keypoints" else IMAGE
    expected, sown = jax.tree.map(np.asarray, answer(model, variables, inputs))
    folded, fewer = build.HEADS[fields.get("head", "paper")].fold(model, variables)
    assert isinstance(folded, folding.Folded) and len(folded.sizes) == layers
    assert not any("mean" in str(path) for path, _ in jax.tree_util.tree_leaves_with_path(fewer))
    template = jax.eval_shape(folded.init, jax.random.key(0), inputs)
    assert jax.tree.map(jnp.shape, winograd.plain(fewer)) == jax.tree.map(jnp.shape, template)
    scale = np.abs(expected - MEAN.reshape(1, 1, -1)).max()
    assert expected.std(axis=0).max() > 0.01 * scale  # It depends on the evidence.
    found, also_sown = answer(folded, fewer, inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    assert sown["extras"]["feature"][0].ndim == 2
    np.testing.assert_allclose(also_sown["extras"]["feature"][0], sown["extras"]["feature"][0], rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="cannot be trained"):
        folded.apply(fewer, inputs, True)
