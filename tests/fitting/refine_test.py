"""Refined hypotheses and fits from the mean pose: what is recovered, what has no influence, and degenerate evidence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.fitting import objective, refine
from multibodies_jax.geometry import cameras, rotations
from multibodies_jax.hypotheses import hypotheses
from tests.helpers import fitting_reference as reference

B, M = 3, 12  # Two parts of `refine.ROWS` = 24 (tests/conftest.py), of which the last is filled up.
SETTINGS = refine.Settings(weights=reference.WEIGHTS, steps=4)


decode = jax.jit(hypotheses.decode)


def made(rotmats, betas, cam):
    """Hypotheses of bodies (B, M) or (B)."""
    six = rotations.matrix_to_rot6d(jnp.asarray(rotmats)).reshape(*betas.shape[:-1], 144)
    return decode(jnp.concatenate([six, betas, cam], axis=-1), reference.joint_model())


@functools.cache
def case():
    """M hypotheses of B people, and the keypoints of those people."""
    rotmats, betas, cam = reference.random_bodies(0, B * M)
    shaped = (rotmats.reshape(B, M, 24, 3, 3), betas.reshape(B, M, 10), cam.reshape(B, M, 3))
    truth = made(*reference.random_bodies(1, B))
    return made(*shaped), shown(truth)


def shown(hyps):
    return np.asarray(cameras.project_crop(hyps.joints24 + hyps.midhip[..., None, :], hyps.cam))


def run(hyps, points, visible, settings=SETTINGS, focal: float | jax.Array = cameras.FOCAL):
    return refine.refine(hyps, points, visible, reference.joint_model(), reference.log_prob, settings, focal)


def from_mean(points, visible, settings=SETTINGS):
    identity = np.tile([1.0, 0, 0, 1, 0, 0], 24)
    mean = jnp.asarray(np.concatenate([identity, np.zeros(10), [0.9, 0, 0]]), jnp.float32)
    return refine.fit_from_mean_pose(points, visible, mean, reference.joint_model(), reference.log_prob, settings)


@pytest.mark.slow
def test_refined_bodies_lie_on_the_keypoints_and_are_scored():
    hyps, points = case()
    refined = run(hyps, points, np.ones((B, 24), np.float32), SETTINGS.replace(steps=10))
    before, after = (np.linalg.norm(shown(h) - points[:, None], axis=-1).mean() for h in (hyps, refined))
    assert after < 0.15 * before
    X = hypotheses.zero_root_joints(refined).reshape(B, M, 72)
    np.testing.assert_allclose(refined.log_prior, reference.log_prob(X), rtol=1e-4)
    again = decode(
        jnp.concatenate(
            [rotations.matrix_to_rot6d(refined.rotmats).reshape(B, M, 144), refined.betas, refined.cam], axis=-1
        ),
        reference.joint_model(),
    )
    np.testing.assert_allclose(refined.joints24, again.joints24, atol=1e-5)


@pytest.mark.slow
def test_every_person_is_fitted_under_the_focal_length_of_its_own_crop():
    hyps, points = case()
    every = np.ones((B, 24), np.float32)
    together = run(hyps, points, every, focal=jnp.array([2.0, cameras.FOCAL, 4.0]))
    for person, focal in enumerate((2.0, cameras.FOCAL, 4.0)):
        one = slice(person, person + 1)
        alone = run(jax.tree.map(lambda x, one=one: x[one], hyps), points[one], every[one], focal=focal)
        np.testing.assert_array_equal(together.joints24[one], alone.joints24)
    moved = np.abs(together.joints24 - run(hyps, points, every).joints24).max(axis=(1, 2, 3))
    assert moved[1] == 0 and (moved[[0, 2]] > 0.01).all(), moved


@pytest.mark.slow
def test_a_perturbed_pose_returns_to_the_exact_keypoints_it_was_taken_from():
    """The prior and the anchor are weak here, so that the exact keypoints decide."""
    rotmats, betas, cam = reference.random_bodies(2, B)
    truth = made(rotmats, betas, cam)
    noise = Rotation.from_rotvec(0.15 * np.random.default_rng(0).normal(size=(B * 24, 3))).as_matrix()
    near = made((rotmats @ noise.reshape(B, 24, 3, 3)).astype(np.float32)[:, None], betas[:, None], cam[:, None])
    weights = objective.Weights(prior=0.0, anchor=0.05, sigma=0.01, shape=0.0)
    refined = run(near, shown(truth), np.ones((B, 24), np.float32), refine.Settings(weights, steps=40))

    def error(hyps):
        return np.linalg.norm(hyps.joints24[:, 0] - truth.joints24, axis=-1).mean()

    assert np.abs(shown(refined)[:, 0] - shown(truth)).max() < 0.01
    assert error(refined) < 0.6 * error(near)


@pytest.mark.slow
def test_no_result_depends_on_the_batch():
    """To the last bits, which depend on a body's place among those that are fitted at once."""
    hyps, points = case()
    visible = (np.random.default_rng(0).uniform(size=(B, 24)) < 0.7).astype(np.float32)
    together, smplify = run(hyps, points, visible), from_mean(points, visible)
    order = np.array([2, 0])
    for all_people, alone in (
        (together, run(jax.tree.map(lambda x: x[order], hyps), points[order], visible[order])),
        (smplify, from_mean(points[order], visible[order])),
    ):
        np.testing.assert_allclose(alone.joints24, all_people.joints24[order], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["refine", "mean pose"])
def test_hidden_keypoints_have_no_influence(fit):
    hyps, points = case()
    visible = np.ones((B, 24), np.float32)
    visible[:, 3:9] = 0
    elsewhere = np.where(visible[..., None] > 0, points, np.nan).astype(np.float32)
    function = functools.partial(run, hyps) if fit == "refine" else from_mean
    jax.tree.map(np.testing.assert_array_equal, function(points, visible), function(elsewhere, visible))


@pytest.mark.slow
def test_a_keypoint_of_more_confidence_is_met_more_exactly():
    hyps, points = case()
    points = points + 0.1 * np.random.default_rng(3).normal(size=points.shape).astype(np.float32)
    visible = np.full((B, 24), 0.3, np.float32)
    surer = visible.copy()
    surer[:, 0] = 30.0

    def distance(visible):
        refined = run(hyps, points, visible, SETTINGS.replace(steps=10))
        return np.linalg.norm(shown(refined)[:, :, 0] - points[:, None, 0], axis=-1).mean()

    assert distance(surer) < 0.3 * distance(visible)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2])
def test_nothing_is_nan_where_hardly_anything_is_seen(count):
    hyps, points = case()
    visible = np.zeros((B, 24), np.float32)
    visible[:, :count] = 1
    for fitted in (run(hyps, points, visible), from_mean(points, visible)):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted))
        assert (fitted.cam[..., 0] > 0).all()
    if count == 0:  # Nothing to fit to.
        np.testing.assert_allclose(run(hyps, points, visible).joints24, hyps.joints24, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_person_is_found_from_the_mean_pose_from_every_side(turn):
    rotmats, betas, cam = reference.random_bodies(4, B, spread=0.15)
    rotmats[:, 0] = Rotation.from_euler("y", turn + 20, degrees=True).as_matrix()
    cam[:, 0] *= 0.6  # Further away than the camera of the mean.
    truth = made(rotmats, betas, cam)
    fitted = from_mean(shown(truth), np.ones((B, 24), np.float32), SETTINGS.replace(steps=30))
    assert fitted.betas.shape == (B, 1, 10)
    assert np.linalg.norm(shown(fitted)[:, 0] - shown(truth), axis=-1).mean() < 0.02
    cosine = np.einsum("nab,nab->n", np.asarray(fitted.rotmats[:, 0, 0]), rotmats[:, 0])
    assert (np.rad2deg(np.arccos(np.clip((cosine - 1) / 2, -1, 1))) < 40).all()
