"""Diagnostics of a full set of hypotheses against loops over examples and joints."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.evaluation import diagnostics
from multibodies_jax.geometry import cameras
from tests.helpers import evaluation_fixture as fixture


@pytest.fixture(scope="module")
def out():
    return fixture.made()


@pytest.mark.slow
def test_spread_of_visible_and_hidden_joints_and_the_best_hypothesis(out):
    found = diagnostics.diagnose(out.hyps, out.batch, out.truth, jnp.float32(0.5))
    joints24, true = (np.asarray(x.joints24, np.float64) for x in (out.hyps, out.truth))
    for b in range(fixture.B):
        spread = [
            1000 * np.linalg.norm(joints24[b, :, j] - joints24[b, :, j].mean(axis=0), axis=1).mean() for j in range(24)
        ]
        seen = np.asarray(out.batch.inputs.kp2d_input[b]) > 0
        np.testing.assert_allclose(found["spread_mm"][b], spread, rtol=1e-4)
        assert found["spread_visible_mm"][b] == pytest.approx(np.mean(np.array(spread)[seen]), rel=1e-4)
        assert found["spread_hidden_mm"][b] == pytest.approx(np.mean(np.array(spread)[~seen]), rel=1e-4)
        distance = np.linalg.norm(joints24[b] - true[b], axis=-1).sum(axis=1)
        assert found["best_hypothesis"][b] == distance.argmin()
        w = np.exp(0.5 * np.float64(out.hyps.log_prior[b]))
        assert found["effective_tuned"][b] == pytest.approx(1 / ((w / w.sum()) ** 2).sum(), rel=1e-3)


@pytest.mark.slow
def test_what_cannot_be_measured_is_nan(out):
    batch = out.batch.replace(
        inputs=out.batch.inputs.replace(kp2d_input=jnp.ones((fixture.B, 24))),
        target=out.batch.target.replace(smpl_valid=jnp.zeros(fixture.B)),
    )
    found = diagnostics.diagnose(out.hyps, batch, out.truth, jnp.float32(0.5))
    assert np.isnan(found["spread_hidden_mm"]).all() and np.isnan(found["beta_norm"]).all()
    assert np.isfinite(found["spread_visible_mm"]).all()


def test_reprojection_is_in_pixels_of_the_crop_on_visible_keypoints(out):
    found = diagnostics.reprojection(out.hyps, out.batch)
    projected = np.asarray(cameras.project_crop(out.hyps.joints24 + out.hyps.midhip[..., None, :], out.hyps.cam))
    for b in range(fixture.B):
        seen = np.asarray(out.batch.inputs.kp2d_input[b]) > 0
        distance = np.linalg.norm(projected[b] - np.asarray(out.batch.target.kp2d[b]), axis=-1)[:, seen]
        assert found[b] == pytest.approx(112 * distance.mean(), rel=1e-4)


def test_hidden_joints_have_a_2d_error_of_their_own_where_they_are_annotated(out):
    known = jnp.ones((fixture.B, 24)).at[:, 20].set(0)
    batch = out.batch.replace(target=out.batch.target.replace(kp2d_valid=known))
    found = diagnostics.diagnose(out.hyps, batch, out.truth, jnp.float32(0.5))["reprojection_hidden_px"]
    projected = np.asarray(cameras.project_crop(out.hyps.joints24 + out.hyps.midhip[..., None, :], out.hyps.cam))
    for b in range(fixture.B):
        hidden = (np.asarray(out.batch.inputs.kp2d_input[b]) == 0) & (np.arange(24) != 20)
        distance = np.linalg.norm(projected[b] - np.asarray(out.batch.target.kp2d[b]), axis=-1)[:, hidden]
        assert found[b] == pytest.approx(112 * distance.mean(), rel=1e-4)


def test_spread_is_the_weighted_mean_distance():
    rng = np.random.default_rng(8)
    points, weights = rng.normal(size=(3, 7, 24, 3)), rng.dirichlet(np.ones(7), size=3)
    expected = np.zeros((3, 24))
    for b in range(3):
        for j in range(24):
            mean = sum(w * x for w, x in zip(weights[b], points[b, :, j], strict=True))
            expected[b, j] = 1000 * sum(
                w * np.linalg.norm(x - mean) for w, x in zip(weights[b], points[b, :, j], strict=True)
            )
    spread = diagnostics.joint_spread_mm
    np.testing.assert_allclose(spread(jnp.float32(points), jnp.float32(weights)), expected, rtol=1e-4)
    one = np.eye(7)[[0, 3, 6]]
    np.testing.assert_allclose(spread(jnp.float32(points), jnp.float32(one)), 0, atol=1e-3)
    damaged = points.astype(np.float32)
    damaged[1, 2, 5, 0] = np.nan
    known = np.isfinite(spread(jnp.asarray(damaged), jnp.float32(weights)))
    np.testing.assert_array_equal(known, ~((np.arange(3) == 1)[:, None] & (np.arange(24) == 5)))


def test_reprojection_counts_valid_keypoints_in_pixels():
    kp2d = np.zeros((3, 3, 2), np.float32)
    kp2d[0, 2] = kp2d[2, 1, 0] = np.nan
    projected = np.zeros((3, 1, 3, 2), np.float32)
    projected[0, 0, 0] = [3 / 112, 4 / 112]
    valid = jnp.array([[1.0, 1, 0], [0, 0, 0], [1, 1, 1]])
    error = diagnostics.reprojection_px(jnp.array(projected), jnp.array(kp2d), valid)
    np.testing.assert_allclose(error, [[2.5], [np.nan], [np.nan]], rtol=1e-6)
