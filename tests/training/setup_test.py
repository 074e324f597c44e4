"""The network of a config."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from multibodies_jax.training import setup
from tests.helpers import batches, tiny

key = jax.random.key


@pytest.mark.parametrize(
    ("fields", "num_hypotheses", "frozen"),
    [
        ({"freeze": "loaded"}, 6, "loaded"),
        ({"freeze": "loaded"}, 1, ""),
        ({"freeze": "trunk"}, 1, "trunk"),
        ({"freeze": "loaded", "freeze_statistics": False}, 6, ""),
    ],
)
def test_statistics_are_frozen_with_the_layers_unless_they_shall_drift(fields, num_hypotheses, frozen):
    config = tiny.config(**fields)
    model = setup.build_model(config, num_hypotheses, setup.load_bodies(config))
    assert model.frozen == frozen
    seen, inputs = [], batches.inputs(kp2d_input=jnp.ones((1, 24)))

    class Trunk(nn.Module):
        def __call__(self, batch, train):
            seen.append(train)
            return jnp.zeros((1, 4))

    jax.eval_shape(lambda: model.clone(trunk=Trunk()).init({"params": key(0), "dropout": key(1)}, inputs, True))
    assert seen == [not frozen]
