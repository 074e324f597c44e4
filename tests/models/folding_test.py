"""Folded networks against the networks that they were made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import build, folding
from tests.released import network_test as released_test

RNG = np.random.default_rng(0)
BATCH = {
    "image": released_test.IMAGE["image"],
    "kp2d": jnp.asarray(RNG.uniform(-1, 1, (4, 24, 2)), jnp.float32),
    "kp2d_input": jnp.asarray(RNG.integers(0, 2, (4, 24)), jnp.float32),
}


def random_tree(model):
    """Statistics away from 0 and 1, parameters that let every iteration matter."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), BATCH)
    return released_test.fill(shapes, 3)


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({"trunk": "keypoints", "num_hypotheses": 5, "iterations": 2}, 2),
        ({"trunk": "resnet_small", "name": "hmr", "hidden": 400}, 1),
        ({"trunk": "resnet50", "head": "released", "num_hypotheses": 3}, 2),
    ],
)
def test_states_are_those_of_the_source(fields, layers):
    sizes = {"crop_size": 64, "width": 4}
    model = build.build(mean_state=released_test.MEAN, **{"hidden": 16} | sizes | fields)
    variables = random_tree(model)
    batch = BATCH if fields["trunk"] == "keypoints" else released_test.IMAGE
    expected = np.asarray(released_test.evaluate(model, variables, batch))
    folded, fewer = build.HEADS[fields.get("head", "paper")].fold(model, variables)
    assert isinstance(folded, folding.Folded) and len(folded.sizes) == layers
    assert not any("mean" in str(path) for path, _ in jax.tree_util.tree_leaves_with_path(fewer))
    template = jax.eval_shape(folded.init, jax.random.key(0), BATCH)
    assert jax.tree.map(jnp.shape, fewer) == jax.tree.map(jnp.shape, template)
    scale = np.abs(expected - released_test.MEAN.reshape(1, 1, -1)).max()
    assert expected.std(axis=0).max() > 0.01 * scale  # It depends on the evidence.
    np.testing.assert_allclose(released_test.evaluate(folded, fewer, batch), expected, atol=1e-5 * scale)
    with pytest.raises(ValueError, match="cannot be trained"):
        folded.apply(fewer, BATCH, True)


def test_what_is_not_affine_stays():
    fields = {"trunk": "keypoints", "width": 16, "hidden": 16, "num_hypotheses": 2}
    model = build.build(mean_state=released_test.MEAN, activation="relu", **fields)
    variables = random_tree(model)
    assert folding.fold(model, variables) == (model, variables)
