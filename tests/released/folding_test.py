"""The folded network of the released head against the network that it was made of."""

import pytest

from tests.helpers import random_network


@pytest.mark.slow
def test_states_are_those_of_the_source():
    random_network.check_folded({"trunk": "resnet50", "head": "released", "num_hypotheses": 3}, 2)
