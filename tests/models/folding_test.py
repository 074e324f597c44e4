"""Folded networks against the networks that they were made of."""

import pytest

from multibodies_jax.models import build, folding
from tests.helpers import random_network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({"trunk": "keypoints", "width": 64, "num_hypotheses": 5, "iterations": 2}, 2),
        ({"trunk": "resnet_small", "name": "hmr", "hidden": 400}, 1),
    ],
)
def test_states_are_those_of_the_source(fields, layers):
    random_network.check_folded(fields, layers)


def test_what_is_not_affine_stays():
    fields = {"trunk": "keypoints", "width": 16, "hidden": 16, "num_hypotheses": 2}
    model = build.build(mean_state=random_network.MEAN, activation="relu", **fields)
    variables = random_network.random_tree(model)
    assert folding.fold(model, variables) == (model, variables)
