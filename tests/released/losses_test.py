"""The released code's losses against loops in float64, its gradient against differences, and missing annotations."""

import numpy as np
import pytest

from multibodies_jax.losses import objective
from tests.helpers import losses


def _squares(numbers):
    """Loops over joints: a sum of squares over a fixed count of numbers."""

    def error(pred, target, valid):
        return sum(v * ((p - t) ** 2).sum() for p, t, v in zip(pred, target, valid, strict=True) if v) / numbers

    return error


def _by_smpl_joints(joints, in_2d, example):
    """The authors: by the joints of the SMPL target, unweighted; with neither, the first."""
    target = losses.smpl_joints(example["rotmats"][None], example["betas"][None], np)[0]
    return example["smpl_valid"] * np.mean((joints - target) ** 2)


LOOPS = losses.Loops(
    joints=_squares(72),
    keypoints=_squares(98),
    pose=lambda turn: float(np.mean(turn**2)),
    betas=lambda shape: float(np.mean(shape**2)),
    vertices=lambda mesh: float(np.mean(np.abs(mesh))),
    best_keypoints="kp2d_input",
    fallback=_by_smpl_joints,
)


@pytest.mark.parametrize("mode0", [True, False])
def test_total_is_the_sum_of_loops(mode0):
    losses.assert_sum_of_loops("released", LOOPS, mode0)


def test_gradient_is_the_slope_of_the_reference():
    losses.assert_gradient_is_the_slope("released", LOOPS)


def test_what_is_missing_may_be_nan():
    losses.assert_missing_may_be_nan("released")


def test_nothing_annotated_costs_nothing_but_the_camera():
    losses.assert_nothing_annotated_costs_the_camera_alone("released")


def test_gradient_is_finite_at_the_target():
    losses.assert_gradient_is_finite_at_the_target("released")


def test_empty_batch_is_empty():
    losses.assert_empty_batch_is_empty("released")


def test_hidden_keypoints_have_no_part():
    hyps, batch = losses.make(8)
    _, released, _ = losses.run(hyps, batch, reading="released")
    hidden = (batch["kp2d_valid"] > 0) & (batch["kp2d_input"] == 0)
    batch["kp2d"] = np.where(hidden[..., None], np.nan, batch["kp2d"])
    _, unseen, _ = losses.run(hyps, batch, reading="released")
    np.testing.assert_array_equal(released["reprojection_best"], unseen["reprojection_best"])


def test_joints_of_the_smpl_target_are_needed():
    settings = objective.Settings(weights=losses.WEIGHTS, vertices=losses.fake_mesh)
    with pytest.raises(ValueError, match="pass `joints`"):
        objective.OBJECTIVES["released"](settings)
