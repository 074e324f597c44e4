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
