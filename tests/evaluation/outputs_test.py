"""What rows share of one batch: computed once, independent of the batch it is in, padding told apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.evaluation import batches, outputs
from multibodies_jax.hypotheses import quantize
from multibodies_jax.training import inference
from tests.helpers import evaluation_fixture as fixture


@pytest.fixture(scope="module")
def out():
    return fixture.made()


def test_a_quantized_set_is_that_of_the_quantizer_and_is_computed_once(out, monkeypatch):
    expected = quantize.select(out.hyps, 2, out.keys(outputs.QUANTIZER), temperature=0.5, starts=2, iterations=5)
    calls = []
    select = quantize.select
    monkeypatch.setattr(quantize, "select", lambda *a, **fields: calls.append(fields) or select(*a, **fields))
    fresh = fixture.made()
    for _ in range(2):
        np.testing.assert_array_equal(fresh.quantize(2).medoid, expected.medoid)
    assert fresh.quantize(2, temperature=0.5) is fresh.quantize(2) and len(calls) == 1
    uniform = fresh.quantize(2, weights="uniform")
    assert fresh.quantize(2, weights="uniform", temperature=0.1) is uniform and len(calls) == 2  # No temperature.


def test_keys_come_from_the_example_and_the_purpose_alone(out):
    one = jax.random.key_data(out.keys(outputs.QUANTIZER))
    reverse = {name: values[::-1] for name, values in fixture.rows().items()}
    other = outputs.Outputs(out.networks, out.settings, batches.stacked(reverse))
    np.testing.assert_array_equal(jax.random.key_data(other.keys(outputs.QUANTIZER))[::-1], one)
    assert (jax.random.key_data(out.keys(outputs.SUBSET)) != one).any(axis=1).all()


@pytest.mark.slow
def test_hypotheses_are_scored_and_measured_against_the_truth(out):
    assert out.shape == (fixture.B, fixture.M) and out.hyps.log_prior.shape == out.shape
    assert np.asarray(out.hyps.log_prior).std() > 0
    np.testing.assert_allclose(out.log_weights, 0.5 * np.asarray(out.hyps.log_prior), rtol=1e-6)
    picked = out.members(out.first(2))
    np.testing.assert_array_equal(picked["mpjpe"], out.errors["mpjpe"][:, :2])
    target = np.asarray(out.truth.joints - out.truth.roots["pelvis"][:, None])[:, None]
    by_hand = 1000 * np.linalg.norm(np.asarray(out.compared_joints) - target, axis=-1).mean(axis=-1)
    np.testing.assert_allclose(out.errors["mpjpe"], by_hand, rtol=1e-5)


@pytest.mark.slow
def test_inputs_are_read_for_the_main_network_alone():
    def read(inputs):
        return inputs.replace(evidence=inputs.evidence + 1.0)

    out = fixture.made()
    other = outputs.Outputs(out.networks.replace(read=read), out.settings, out.examples)
    assert np.abs(other.hyps.joints24 - out.hyps.joints24).min(axis=(1, 2, 3)).max() > 0
    expected = inference.hypothesize(out.networks.main, out.networks.density, read(out.batch.inputs))
    np.testing.assert_array_equal(other.hyps.joints24, expected.joints24)
    np.testing.assert_array_equal(other.hmr.joints24, out.hmr.joints24)


def test_other_weights_have_the_temperature_that_was_chosen_for_them():
    out = fixture.made(scored=True, weights="scores_and_prior", temperatures={"prior": 0.01})
    found, expected = out.quantize(5, weights="prior"), out.quantize(5, weights="prior", temperature=0.01)
    np.testing.assert_array_equal(found.prob, expected.prob)
    both, own = out.quantize(5, weights="scores_and_prior"), out.quantize(5)
    np.testing.assert_array_equal(both.prob, own.prob)
    warmer = out.quantize(5, weights="prior", temperature=0.5)
    assert np.abs(np.asarray(found.prob) - np.asarray(warmer.prob)).max() > 1e-3


def test_uniform_weights_have_the_factor_0():
    assert fixture.settings(weights="uniform").factor == 0 and fixture.settings().factor == 0.5


def test_padding_is_not_valid():
    np.testing.assert_array_equal(fixture.made(padding=1).valid, [True, True, True, False])


def test_the_evidence_of_others_gives_their_hypotheses_against_the_own_truth(out):
    other = out.of_others()
    np.testing.assert_allclose(other.hyps.betas, np.roll(out.hyps.betas, 1, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(other.truth.joints, out.truth.joints)


def test_what_rows_share_is_made_once(out):
    calls = []
    assert [out.once("key", lambda: calls.append(1) or 5) for _ in range(3)] == [5, 5, 5] and calls == [1]


def test_without_an_hmr_there_is_none():
    with pytest.raises(ValueError, match="no single-hypothesis HMR"):
        _ = fixture.made(hmr=False).hmr


def test_bodies_that_are_not_finite_are_refused_with_the_name_of_the_example(out, monkeypatch):
    for field in ("joints24", "cam", "log_prior"):
        values = getattr(out.hyps, field)
        damaged = dataclasses.replace(out.hyps, **{field: values.at[2].set(jnp.nan)})
        monkeypatch.setattr(inference, "hypothesize", lambda *_, damaged=damaged: damaged)
        with pytest.raises(FloatingPointError, match=rf"example 0/2: the bodies of the network \({field}\)"):
            _ = fixture.made().hyps
        with pytest.raises(FloatingPointError, match="example 0/2: the bodies made of"):
            out.with_hypotheses(damaged)
        assert fixture.made(padding=2).hyps is damaged  # Padding may be anything.
    infinite = dataclasses.replace(out.hmr, betas=out.hmr.betas.at[1].set(jnp.inf))
    monkeypatch.setattr(inference, "respond", lambda *_: infinite)
    with pytest.raises(FloatingPointError, match=r"example 0/1: the body of the single-hypothesis HMR \(betas\)"):
        _ = fixture.made().hmr


def test_errors_that_are_not_finite_are_refused_with_their_names(out):
    errors = {"ours": {"1": {"mpjpe": jnp.zeros(fixture.B).at[3].set(jnp.nan)}}}
    with pytest.raises(FloatingPointError, match=r"example 0/3: the errors of sets \(ours.1.mpjpe\) are not finite"):
        out.checked("the errors of sets", errors)
