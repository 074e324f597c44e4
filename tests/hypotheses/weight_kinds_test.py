"""Each kind of weights; `quantize_test` has what a choice of representatives makes of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.hypotheses import weight_kinds

LOG_PRIOR = np.array([[1.0, -2.0, 30.0]], np.float32)
LOG_SCORES = np.array([[-0.5, -1.0, -3.0]], np.float32)
EXPECTED = {
    "prior": 0.3 * LOG_PRIOR,
    "uniform": np.zeros((1, 3)),
    "scores": LOG_SCORES,
    "scores_and_prior": LOG_SCORES + 0.3 * LOG_PRIOR,
}


@pytest.mark.parametrize("kind", weight_kinds.KINDS)
def test_log_weights_are_scores_and_prior_as_their_kind_says(kind):
    prior, scores = jnp.array(LOG_PRIOR), jnp.array(LOG_SCORES)
    found = weight_kinds.log_weights_of(kind, prior, scores, 0.3)
    np.testing.assert_allclose(found, EXPECTED[kind], rtol=1e-6)
    hotter = weight_kinds.log_weights_of(kind, prior, scores, 2.0)
    assert weight_kinds.reads_prior(kind) == bool(jnp.any(hotter != found))
    others = weight_kinds.log_weights_of(kind, prior, scores - jnp.array([[0.0, 1.0, 0.0]]), 0.3)
    assert weight_kinds.reads_scores(kind) == bool(jnp.any(others != found))


def test_unknown_kinds_and_missing_scores_are_refused():
    with pytest.raises(ValueError, match=r"Unknown weights 'flat' of the hypotheses: choose one of 'prior', 'uniform'"):
        weight_kinds.log_weights_of("flat", jnp.array(LOG_PRIOR), None)
    with pytest.raises(ValueError, match="The weights 'scores' need learned scores, which these hypotheses lack"):
        weight_kinds.log_weights_of("scores", jnp.array(LOG_PRIOR), None)
