"""The choice of the nearest hypothesis (eq 1) and the picking of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.losses import best_of_m
from tests.helpers import losses

ERROR = jnp.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
FALLBACK = jnp.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5], [4.0, 4.0, 4.0]])
VALID = jnp.array([[0.0, 0.2], [0.0, 0.0], [0.0, 0.0]])


def test_one_valid_joint_decides_then_the_fallback_then_the_first():
    assert best_of_m.nearest_hypothesis(ERROR, FALLBACK, VALID).tolist() == [1, 2, 0]


@pytest.mark.slow
def test_the_best_comes_first_and_hypothesis_0_second():
    hyps = Hypotheses(**losses.floats(losses.make()[0]))
    best = jnp.array([1, 0, 4, 2, 3])
    for mode0 in (False, True):
        chosen = best_of_m.pick(hyps, best, mode0)
        assert chosen.betas.shape[1] == 1 + mode0
        np.testing.assert_array_equal(chosen.joints24[:, 0], hyps.joints24[jnp.arange(5), best])
        np.testing.assert_array_equal(chosen.cam[:, -1], hyps.cam[:, 0] if mode0 else hyps.cam[jnp.arange(5), best])
