"""Restored networks: folded or as they were trained, and never with weights that are NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import folding, hmr
from multibodies_jax.training import checkpoints, inference, setup
from tests.helpers import batches, tiny, trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bodies():
    return setup.load_bodies(tiny.config())


def test_the_network_that_was_trained_gives_the_bodies_of_the_folded_one(bodies):
    folder = trained.workdir() / "checkpoints"
    folded, unfolded = (inference.restore(tiny.config(), folder, bodies, folded) for folded in (True, False))
    assert isinstance(folded.model, folding.Folded) and isinstance(unfolded.model, hmr.HMR)
    stored = checkpoints.variables(checkpoints.restore(folder)[0]["state"])
    assert jax.tree.structure(unfolded.variables["params"]) == jax.tree.structure(stored["params"])
    inputs = batches.inputs(kp2d_input=jnp.ones((1, 24)))
    np.testing.assert_allclose(unfolded(inputs).joints24, folded(inputs).joints24, atol=1e-5)


def test_a_checkpoint_with_nan_is_refused_with_the_name_of_the_weights(bodies, tmp_path):
    items, metadata, step = checkpoints.restore(trained.workdir() / "checkpoints")
    variables = checkpoints.variables(items["state"])
    variables["params"]["head"]["dec"]["bias"] = variables["params"]["head"]["dec"]["bias"] * np.float32(np.nan)
    checkpoints.save(tmp_path, step, items, metadata)
    with pytest.raises(checkpoints.CheckpointError, match=r"params/head/dec/bias has 942 of 942 numbers that are NaN"):
        inference.restore(tiny.config(), tmp_path, bodies)


def test_a_checkpoint_says_whether_it_has_scores(bodies, tmp_path):
    items, metadata, step = checkpoints.restore(trained.workdir() / "checkpoints")
    inputs = batches.inputs(kp2d_input=jnp.ones((1, 24)))
    with_scores = inference.restore(tiny.config(model__scores=False), trained.workdir() / "checkpoints", bodies)
    np.testing.assert_allclose(np.exp(with_scores(inputs).log_scores).sum(axis=1), 1.0, rtol=1e-5)
    del items["state"]["params"]["scores"]
    checkpoints.save(tmp_path, step, items, metadata)
    assert inference.restore(tiny.config(), tmp_path, bodies)(inputs).log_scores is None
