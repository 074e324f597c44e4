"""Objectives by name."""

import pytest

from multibodies_jax.losses import objective


def test_an_objective_is_chosen_by_its_name():
    assert objective.OBJECTIVES["paper"] is objective.paper
    with pytest.raises(ValueError, match=r"Unknown loss\.reading 'printed'; choose one of paper"):
        objective.OBJECTIVES["printed"]
