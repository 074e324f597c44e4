"""SPIN's losses against loops in float64: their means over the batch are over the examples that have each label."""

import numpy as np
import pytest

from multibodies_jax.losses import objective
from tests.helpers import losses


def _squares(numbers):
    """Loops over joints: a sum of squares over a fixed count of numbers."""

    def error(pred, target, valid):
        return sum(v * ((p - t) ** 2).sum() for p, t, v in zip(pred, target, valid, strict=True) if v) / numbers

    return error


LOOPS = losses.Loops(
    joints=_squares(72),
    keypoints=_squares(98),
    pose=lambda turn: float(np.mean(turn**2)),
    betas=lambda shape: float(np.mean(shape**2)),
    vertices=lambda mesh: float(np.mean(np.abs(mesh))),
    best_keypoints="kp2d_valid",
    fallback=lambda joints, in_2d, example: in_2d,
)
HAVE = {"best": 2, "pose": 3, "betas": 3, "vertices": 3}  # Examples of `losses.make` that have the label, of 5.


@pytest.mark.slow
@pytest.mark.parametrize("mode0", [True, False])
def test_terms_are_loops_and_their_means_are_over_the_examples_with_labels(mode0):
    hyps, batch = losses.make()
    loss, terms, best = losses.run(hyps, batch, reading="spin", mode0=mode0)
    _, expected, expected_best = losses.reference(hyps, batch, LOOPS, mode0)
    assert list(best) == expected_best and len(set(expected_best)) > 1
    weighted = 0
    for name, value in expected.items():
        found, weight = np.mean(terms[name]), losses.WEIGHTS[name.removeprefix("mode0_")]
        np.testing.assert_allclose(
            found, np.sum(value) / HAVE.get(name.removeprefix("mode0_"), 5), rtol=1e-4, err_msg=name
        )
        weighted += weight * found
    assert set(terms) == set(expected)
    np.testing.assert_allclose(np.mean(loss), weighted, rtol=1e-5)


@pytest.mark.slow
def test_what_is_missing_may_be_nan():
    losses.assert_missing_may_be_nan("spin")


def test_nothing_annotated_costs_nothing_but_the_camera():
    losses.assert_nothing_annotated_costs_the_camera_alone("spin")


@pytest.mark.slow
def test_gradient_is_finite_at_the_target():
    losses.assert_gradient_is_finite_at_the_target("spin")


def test_the_weights_are_those_of_every_reading():
    weights = {name: weight for name, weight in losses.WEIGHTS.items() if name != "best"}
    with pytest.raises(ValueError, match=r"missing \['best'\]"):
        objective.OBJECTIVES["spin"](objective.Settings(weights=weights))
