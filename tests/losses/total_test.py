"""Eq (8) in the paper's reading against loops in float64, its gradient against differences, and missing annotations."""

import jax
import numpy as np
import pytest

from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.losses import objective, total
from tests.helpers import batches, losses


def _mean_norm(pred, target, valid):
    """Loops over joints: the mean of norms over the valid ones."""
    norms = [v * np.linalg.norm(p - t) for p, t, v in zip(pred, target, valid, strict=True) if v]
    return np.sum(norms) / np.sum(valid) if norms else 0.0


LOOPS = losses.Loops(
    joints=_mean_norm,
    keypoints=_mean_norm,
    pose=lambda turn: float(np.mean([np.linalg.norm(d) for d in turn])),
    betas=lambda shape: float(np.linalg.norm(shape)),
    vertices=lambda mesh: float(np.mean([np.linalg.norm(d) for d in mesh])),
    best_keypoints="kp2d_valid",
    fallback=lambda joints, in_2d, example: in_2d,
)


@pytest.mark.parametrize("mode0", [True, False])
def test_total_is_the_sum_of_loops(mode0):
    losses.assert_sum_of_loops("paper", LOOPS, mode0)


@pytest.mark.slow
def test_gradient_is_the_slope_of_the_reference():
    losses.assert_gradient_is_the_slope("paper", LOOPS)


@pytest.mark.slow
def test_what_is_missing_may_be_nan():
    losses.assert_missing_may_be_nan("paper")


def test_nothing_annotated_costs_nothing_but_the_camera():
    losses.assert_nothing_annotated_costs_the_camera_alone("paper")


def test_gradient_is_finite_at_the_target():
    losses.assert_gradient_is_finite_at_the_target("paper")


def test_empty_batch_is_empty():
    losses.assert_empty_batch_is_empty("paper")


def test_only_the_best_and_hypothesis_0_learn_in_3d():
    hyps, batch = losses.make(6)
    weights = losses.WEIGHTS | {"reprojection_all": 0.0, "camera": 0.0}
    as_jax = losses.floats((hyps, batch))

    def loss(joints24):
        value, _, best = losses.total(as_jax[0] | {"joints24": joints24}, as_jax[1], reading="paper", weights=weights)
        return value.sum(), best

    gradient, best = jax.jit(jax.grad(loss, has_aux=True))(as_jax[0]["joints24"])
    moved = np.abs(gradient).sum(axis=(2, 3)) > 0
    for b in (0, 1, 2, 4):  # Example 3 has no joints and no keypoints.
        assert set(np.nonzero(moved[b])[0]) == {0, int(best[b])}


def test_evidence_and_target_are_different_keypoints():
    hyps, batch = losses.make(8)
    _, before, _ = losses.run(hyps, batch, reading="paper")
    hidden = (batch["kp2d_valid"] > 0) & (batch["kp2d_input"] == 0)
    batch["kp2d"] = np.where(hidden[..., None], batch["kp2d"] + 1, batch["kp2d"])
    _, after, _ = losses.run(hyps, batch, reading="paper")
    np.testing.assert_array_equal(before["reprojection_all"], after["reprojection_all"])
    assert (np.asarray(before["mode0_reprojection_best"] != after["mode0_reprojection_best"])[hidden.any(axis=1)]).all()


@pytest.mark.slow
def test_mesh_is_built_only_where_it_counts():
    def forbidden(rotmats, betas):
        raise AssertionError("meshed with weight 0")

    as_jax = losses.floats(losses.make(9))
    weights = losses.WEIGHTS | {"vertices": 0.0}
    _, terms, _ = losses.total(*as_jax, reading="paper", weights=weights, vertices=forbidden)
    assert "vertices" not in terms


def test_rejects_what_it_does_not_know():
    hyps, batch = losses.floats(losses.make())
    kamera = {k.replace("camera", "kamera"): v for k, v in losses.WEIGHTS.items()}
    for refuses in (
        lambda weights, **options: total.total_loss(Hypotheses(**hyps), batches.batch(**batch), weights, **options),
        lambda weights, **options: objective.paper(objective.Settings(weights=weights, **options)),
    ):
        with pytest.raises(ValueError, match=r"missing \['camera'\], unknown \['kamera'\]"):
            refuses(kamera)
        with pytest.raises(ValueError, match="no `vertices` function"):
            refuses(losses.WEIGHTS)
