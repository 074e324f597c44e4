"""The score head against a plain loop over hypotheses, and what it reads of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.models import build, scores
from tests.helpers import batches, losses, random_network

M = 3
RNG = np.random.default_rng(0)
FEATURE = jnp.asarray(RNG.normal(size=(2, 5)), jnp.float32)
OFFSETS = jnp.asarray(RNG.normal(size=(2, M, 24, 2)), jnp.float32)
VISIBLE = jnp.asarray(RNG.integers(0, 2, (2, 24)), jnp.float32)
READS = FEATURE, jnp.where(VISIBLE[:, None, :, None] > 0, OFFSETS, 0.0), VISIBLE


def make(keypoints) -> tuple[Any, Any]:
    head = scores.ScoreHead(M, keypoints, hidden=4, width=6)
    return head, random_network.fill(jax.eval_shape(head.init, jax.random.key(0), *READS), 1)


@pytest.mark.slow
@pytest.mark.parametrize("keypoints", [True, False])
def test_log_probabilities_equal_a_loop_over_hypotheses(keypoints):
    head, variables = make(keypoints)
    own = jax.tree.map(np.asarray, variables["params"])
    for b, (feature, offsets, visible) in enumerate(zip(*map(np.asarray, READS), strict=True)):
        x = np.maximum(feature @ own["hidden"]["kernel"] + own["hidden"]["bias"], 0)
        logits = x @ own["logits"]["kernel"] + own["logits"]["bias"]
        for m in range(M if keypoints else 0):
            mean = np.mean([np.linalg.norm(offsets[m, k]) for k in range(24) if visible[k]])
            row = np.array([np.log(mean + 0.001), *(10 * np.clip(offsets[m], -0.5, 0.5)).ravel()])
            of_each = row @ own["offsets"]["kernel"] + own["offsets"]["bias"] + x @ own["context"]["kernel"]
            logits[m] += np.maximum(of_each + own["number"][m], 0) @ own["fit"]["kernel"][:, 0]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(np.exp(head.apply(variables, *READS)[b]), expected, rtol=1e-4)


@pytest.mark.slow
def test_all_hypotheses_are_equally_probable_at_the_start():
    found, _ = make(True)[0].init_with_output(jax.random.key(0), *READS)
    np.testing.assert_allclose(np.exp(found), 1 / M, rtol=1e-6)


@pytest.mark.slow
def test_no_gradient_reaches_what_the_head_reads():
    head, variables = make(True)
    value = jax.grad(lambda v, *reads: head.apply(v, *reads, VISIBLE)[0, 0], argnums=(0, 1, 2))
    own, of_feature, of_offsets = value(variables, *READS[:2])
    assert not of_feature.any() and not of_offsets.any() and own["params"]["offsets"]["kernel"].any()


@pytest.mark.slow
def test_offsets_lead_from_visible_keypoints_to_projected_joints():
    hyps, rows = losses.make(m=M)
    rows["kp2d"] = np.where(rows["kp2d_input"][..., None] > 0, rows["kp2d"], np.nan)
    found = scores.offsets_of(Hypotheses(**losses.floats(hyps)), batches.batch(**losses.floats(rows)).inputs)
    for b, m in np.ndindex(found.shape[:2]):
        expected = losses.project(*(hyps[name][b, m] for name in ("joints24", "midhip", "cam"))) - rows["kp2d"][b]
        np.testing.assert_allclose(found[b, m], np.nan_to_num(expected), atol=1e-5)
    assert np.abs(found).max() > 0.1


def test_scores_are_compared_with_the_winner_where_joints_decide_it():
    log_scores = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]))
    found = scores.winner_loss(log_scores, jnp.array([1, 2, 0]), jnp.array([[0.0, 0.2], [1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [-np.log(0.3), -np.log(0.7), 0.0], rtol=1e-6)


def test_parameters_fit_the_feature_of_a_network_that_has_none_of_them_itself():
    fields = {"trunk": "keypoints", "width": 8, "hidden": 8, "num_hypotheses": M}
    model = build.build(mean_state=random_network.MEAN, **fields)
    head, inputs = scores.ScoreHead(M, keypoints=True), random_network.KEYPOINTS
    own = jax.eval_shape(lambda key: scores.initial(head, model, inputs, key), jax.random.key(0))
    assert own["hidden"]["kernel"].shape == (8, 256) and own["number"].shape == (M, 64)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    assert set(variables) == {"params"} and set(variables["params"]) == {"trunk", "head"}
