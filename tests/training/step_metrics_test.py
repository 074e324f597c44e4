"""What a step reports beside its losses, against loops."""

import jax.numpy as jnp
import numpy as np

from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.training import step_metrics
from tests.helpers import batches, losses


def test_a_batch_says_what_is_annotated():
    valid = np.zeros((4, 24), np.float32)
    batch = {
        "kp2d_valid": valid + np.array([[1], [1], [0.5], [0]], np.float32),
        "joints3d_valid": valid + (np.arange(24) == 3) * np.array([[1], [0], [0], [0]], np.float32),
        "smpl_valid": np.array([1, 1, 0, 0], np.float32),
    }
    shares = {
        name: float(share)
        for name, share in step_metrics.annotated_shares(batches.batch(**losses.floats(batch)).target).items()
    }
    assert shares == {"annotated_kp2d": 0.75, "annotated_joints3d": 0.25, "annotated_smpl": 0.5}


def test_best_error_is_that_of_the_chosen_hypotheses_over_all_valid_joints():
    hyps, batch = losses.make()
    best = np.array([2, 0, 4, 1, 3])
    valid, target = batch["joints3d_valid"], batch["joints3d"]
    distances = [
        (valid[b, j], np.linalg.norm(hyps["joints24"][b, best[b], j] - target[b, j]))
        for b in range(losses.B)
        for j in range(24)
    ]
    expected = sum(v * d for v, d in distances) / sum(v for v, _ in distances)
    hyps, batch = losses.floats((hyps, batch))
    found = step_metrics.best_error(Hypotheses(**hyps), batches.batch(**batch).target, jnp.array(best))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_used_hypotheses_are_counted_by_their_entropy():
    for best, expected in (([0, 0, 0, 0], 1), ([0, 1, 0, 1], 2), ([4, 2, 1, 3], 4)):
        np.testing.assert_allclose(step_metrics.used_hypotheses(jnp.array(best), 6), expected, rtol=1e-5)
    uneven = step_metrics.used_hypotheses(jnp.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(uneven, 0.75**-0.75 * 0.25**-0.25, rtol=1e-5)
