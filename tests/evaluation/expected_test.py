"""The expected body against a loop that averages quaternions, and rows that take it."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.evaluation import expected, methods
from tests.helpers import evaluation_fixture as fixture


@pytest.fixture(scope="module")
def out():
    return fixture.made(hmr=False)


@pytest.mark.slow
def test_rotations_shapes_and_cameras_are_weighted_means(out):
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(fixture.B, fixture.M)).astype(np.float32)
    found = expected.expected_body(out.hyps, jnp.asarray(logs), out.networks.scorer.j24)
    share = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    for b in range(fixture.B):
        for joint in (0, 7, 18):
            # scipy's mean has the least sum of squared distances of the matrices, too.
            mean = Rotation.from_matrix(np.asarray(out.hyps.rotmats[b, :, joint])).mean(weights=share[b]).as_matrix()
            np.testing.assert_allclose(found.rotmats[b, 0, joint], mean, atol=1e-4)
        np.testing.assert_allclose(found.betas[b, 0], share[b] @ np.asarray(out.hyps.betas[b]), atol=1e-5)
        np.testing.assert_allclose(found.cam[b, 0], share[b] @ np.asarray(out.hyps.cam[b]), atol=1e-5)


def test_a_certain_hypothesis_is_the_expected_body(out):
    certain = jnp.tile(jnp.where(jnp.arange(fixture.M) == 2, 0.0, -jnp.inf), (fixture.B, 1))
    found = expected.expected_body(out.hyps, certain, out.networks.scorer.j24)
    np.testing.assert_allclose(found.joints24[:, 0], out.hyps.joints24[:, 2], atol=1e-5)
    np.testing.assert_allclose(found.midhip[:, 0], out.hyps.midhip[:, 2], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["expected", "refined_expected"])
def test_the_row_has_one_body_under_the_weights_of_the_main_row(out, name):
    row = methods.METHODS[name](fixture.evaluation(out, fitting__steps=0))
    assert row is not None and row.ns == (1,)
    body = expected.expected_body(out.hyps, out.log_weights, out.networks.scorer.j24)
    if isinstance(row, methods.Tuned):
        row.observe(out)
        temperature = row.choose()[name]["chosen"]["temperature"]
        body = expected.expected_body(out.hyps, temperature * out.hyps.log_prior, out.networks.scorer.j24)
    np.testing.assert_allclose(row.sets(out, 1)["mpjpe"], out.measure(body)["mpjpe"], atol=0.5)
