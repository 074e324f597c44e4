"""What a stage starts from: which checkpoint `config.init` names, and which numbers of hypotheses fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, initialization
from tests.helpers import random_network, tiny

EXAMPLE = jax.tree.map(lambda values: values[:2], random_network.KEYPOINTS)


def _network(num_hypotheses):
    return build.build(
        mean_state=random_network.MEAN, trunk="keypoints", num_hypotheses=num_hypotheses, hidden=8, width=16
    )


def _variables(num_hypotheses, source):
    config = tiny.config(model__init_noise=0.0)
    model = _network(num_hypotheses)
    return model, initialization.variables(config, model, num_hypotheses, source, EXAMPLE, jax.random.key(0))


def test_init_is_the_first_stage_of_a_work_directory_or_its_only_one_or_a_folder(tmp_path):
    assert initialization.source_folder(tiny.config(init=None)) is None
    config = tiny.config(init=str(tmp_path))
    for folder in (tmp_path, tmp_path / "checkpoints", tmp_path / "stage1"):
        checkpoints.save(folder, 3, {"state": {"x": jnp.zeros(1)}}, {})
        assert initialization.source_folder(config) == folder
    with pytest.raises(FileNotFoundError, match="nothing' holds no checkpoint"):
        initialization.source_folder(tiny.config(init=str(tmp_path / "nothing")))


@pytest.mark.slow
def test_one_hypothesis_becomes_several_and_several_stay(tmp_path):
    single, variables = _variables(1, None)
    source = initialization.Source(tmp_path, variables, {"num_hypotheses": 1})
    many, expanded = _variables(3, source)
    expected = np.repeat(random_network.evaluate(single, variables, EXAMPLE), 3, axis=1)
    np.testing.assert_allclose(random_network.evaluate(many, expanded, EXAMPLE), expected, atol=1e-5)
    same = _variables(3, initialization.Source(tmp_path, expanded, {"num_hypotheses": 3}))[1]
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(expanded), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="has M = 3 hypotheses; M = 6 can start from M = 1 or from 6"):
        _variables(6, initialization.Source(tmp_path, expanded, {"num_hypotheses": 3}))


@pytest.mark.slow
def test_scores_start_anew_where_the_source_has_none_and_go_on_where_it_has(tmp_path):
    source = initialization.Source(tmp_path, _variables(3, None)[1], {"num_hypotheses": 3})
    moved = jax.tree.map(lambda x: x + 1, source.variables["params"]["scores"])
    source.variables["params"]["scores"] = moved
    again = _variables(3, source)[1]["params"]["scores"]
    jax.tree.map(np.testing.assert_array_equal, again, moved)
    del source.variables["params"]["scores"]
    new = _variables(3, source)[1]["params"]["scores"]
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, moved) and not new["logits"]["kernel"].any()
    source.variables["params"]["scores"] = {"other": jnp.zeros(3)}
    with pytest.raises(checkpoints.CheckpointError, match="params/scores/hidden/kernel: the checkpoint has nothing"):
        _variables(3, source)
