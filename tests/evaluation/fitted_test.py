"""What a row of fitted bodies chooses on the validation split, and whose errors it reports."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from multibodies_jax.evaluation import calibration, diagnostics, fitted, lenses, methods, outputs, tuning
from multibodies_jax.fitting import refine
from multibodies_jax.geometry import cameras
from tests.helpers import evaluation_fixture as fixture

NS = (1, 2, 5)


def fields(steps=1, prior=None, anchor=None):
    return ConfigDict({"fitting": {"steps": steps, "prior": prior, "anchor": anchor}})


def swollen(out, candidate):
    """Stands for a fit: bodies that are the fatter the heavier the prior is."""
    factor = 1 + 10 * abs(candidate.settings.weights.prior - 0.05)
    return dataclasses.replace(out.hyps, betas=factor * out.hyps.betas)


def mean_error(out, candidate, temperature):
    row = out.with_hypotheses(swollen(out, candidate))
    index = [row.quantize(n, weights="prior", temperature=temperature).medoid for n in NS]
    return np.array([np.asarray(row.members(i)["mpjpe"]).min(axis=1)[out.valid] for i in index])


@pytest.mark.slow
def test_the_factors_and_the_temperature_with_the_least_error_on_validation_are_used():
    row = fitted.Fitted("refined", "ours, refined", NS, swollen, fields(steps=3))
    parts = [fixture.made(seed=seed, padding=seed) for seed in (0, 1)]
    for out in parts:
        row.observe(out)
    told = row.choose()["refined"]
    assert told["temperatures"] == list(tuning.TEMPERATURES)
    assert [(one["prior"], one["anchor"]) for one in told["tried"]] == list(fitted.CANDIDATES)
    best = np.inf
    for one in told["tried"]:
        candidate = fitted.Candidate(refine.Settings().replace(steps=one["steps"]))
        weights = dataclasses.replace(candidate.settings.weights, prior=one["prior"], anchor=one["anchor"])
        candidate = fitted.Candidate(candidate.settings.replace(weights=weights))
        for t, shown in zip(told["temperatures"], one["mpjpe_mm"], strict=True):
            expected = np.concatenate([mean_error(out, candidate, t) for out in parts], axis=1).mean()
            assert shown == pytest.approx(expected, abs=0.01)
            if expected < best:
                best, chosen, temperature = expected, candidate, t
    masses = []
    for out in parts:
        its = out.with_hypotheses(swollen(out, chosen))
        sets = [its.quantize(n, weights="prior", temperature=temperature) for n in NS if n > 1]
        masses.append([calibration.masses(one, out.truth, out.valid) for one in sets])
    assert row.sharpness == calibration.fit(masses)
    assert told["chosen"] == chosen.described | {"temperature": temperature, "sharpness": row.sharpness[""]}
    assert told["chosen"]["steps"] == 3
    out = fixture.made(seed=2)
    errors = np.array([np.asarray(row.sets(out, n)["mpjpe"]).min(axis=1) for n in NS])
    np.testing.assert_allclose(errors, mean_error(out, chosen, temperature), rtol=1e-6)


@pytest.mark.slow
def test_no_more_than_some_batches_are_fitted_and_given_factors_are_not_chosen(monkeypatch):
    monkeypatch.setattr(fitted, "EXAMPLES", fixture.B + 1)
    calls = []

    def counted(out, candidate):
        calls.append((candidate.settings.weights.prior, candidate.settings.weights.anchor))
        return out.hyps

    row = fitted.Fitted("refined", "ours, refined", NS, counted, fields(prior=0.2, anchor=3.0))
    for seed in range(4):
        row.observe(fixture.made(seed=seed))
    assert calls == 2 * [(0.2, 3.0)]
    assert row.choose()["refined"]["chosen"]["prior"] == 0.2
    row = fitted.Fitted("refined", "ours, refined", NS, counted, fields(prior=0.0))
    calls.clear()
    row.observe(fixture.made())
    assert calls == [(0.0, anchor) for anchor in dict.fromkeys(anchor for _, anchor in fitted.CANDIDATES)]


def test_what_is_chosen_does_not_depend_on_the_devices_that_share_a_batch(monkeypatch):
    """Two devices with two examples each read twice as many at once as one alone, which stops after the first two."""
    monkeypatch.setattr(fitted, "EXAMPLES", 2)
    assert fixture.made().per_device == fixture.B  # One device.
    told = []
    for padding, size in ((2, fixture.B), (0, fixture.B // 2)):
        monkeypatch.setattr(outputs.Outputs, "per_device", size)
        row = fitted.Fitted("refined", "ours, refined", (1, 2), swollen, fields())
        row.observe(fixture.made(padding=padding))
        told.append(row.choose())
    assert told[0] == told[1]


@pytest.fixture(scope="module")
def out():
    return fixture.made()


def row(name, out, **overrides):
    made = methods.METHODS[name](fixture.evaluation(out, fitting__steps=2, **overrides))
    assert made is not None
    return made


@pytest.mark.slow
def test_refined_sets_are_quantized_from_the_refined_hypotheses(out):
    first = refine.Settings().replace(steps=2)
    density = jax.tree_util.Partial(type(out.networks.density).log_prob, out.networks.density)
    keypoints = out.batch.inputs.evidence, out.batch.inputs.kp2d_input
    bodies = refine.refine(out.hyps, *keypoints, out.networks.scorer.j24, density, first)
    other = out.with_hypotheses(bodies)
    index = other.quantize(2, weights="prior", temperature=tuning.TEMPERATURES[0]).medoid
    expected = other.members(index)["mpjpe"]
    made = row("refined", out, fitting__prior=0.3, fitting__anchor=5.0)
    assert (made.name, made.ns, made.compared, made.reads_others) == ("ours, refined", NS, False, False)
    np.testing.assert_allclose(made.sets(out, 2)["mpjpe"], expected, rtol=1e-5)
    assert np.abs(np.asarray(expected) - np.asarray(out.members(index)["mpjpe"])).max() > 1


@pytest.mark.parametrize("name", ["refined", "refined_expected"])
def test_one_body_of_many_is_chosen_by_the_weights_also_where_no_larger_set_is_asked_for(name, monkeypatch):
    monkeypatch.setattr(refine, "refine", lambda bodies, *_: bodies)
    out = fixture.made(ns=(1,))
    made = row(name, out, fitting__prior=0.3, fitting__anchor=5.0)
    assert isinstance(made, fitted.Fitted)
    medoids = {t: out.quantize(1, weights="prior", temperature=t).medoid for t in tuning.TEMPERATURES}
    mean = {t: np.asarray(out.members(index)["mpjpe"]).mean() for t, index in medoids.items()}
    made.observe(out)
    told = made.choose()[name]
    assert told["tried"][0]["mpjpe_mm"] == pytest.approx(list(mean.values()), abs=0.01)
    best = min(mean, key=mean.__getitem__)
    assert told["chosen"]["temperature"] == best
    if name == "refined":
        np.testing.assert_allclose(made.sets(out, 1)["mpjpe"], out.members(medoids[best])["mpjpe"], rtol=1e-6)
        assert (np.asarray(medoids[best]) != 0).any()


@pytest.mark.slow
def test_the_clusters_of_a_row_are_those_of_its_sets():
    out = fixture.made(scored=True)
    made = fitted.Fitted("refined", "ours, refined", NS, swollen, fields(), kind="scores_and_prior")
    made.observe(out)
    temperature = made.choose()["refined"]["chosen"]["temperature"]
    its, clusters = made.clusters(out, 2)
    assert (its.settings.weights, its.settings.temperature) == ("scores_and_prior", temperature)
    np.testing.assert_array_equal(its.members(clusters.medoid)["mpjpe"], made.sets(out, 2)["mpjpe"])
    np.testing.assert_allclose(
        its.log_weights, out.hyps.log_scores + temperature * out.hyps.log_prior, rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_the_single_body_is_refined_from_hmr_or_fitted_from_the_mean_pose(out):
    single = row("hmr_refined", out)
    assert (single.name, single.ns) == ("HMR (M = 1), refined", (1,))
    smplify = row("smplify", out)
    assert (smplify.name, smplify.ns) == ("SMPLify", (1,))
    errors = [np.asarray(one.sets(out, 1)["mpjpe"]) for one in (single, smplify)]
    assert all(error.shape == (fixture.B, 1) and np.isfinite(error).all() for error in errors)
    plain = np.asarray(out.measure(out.hmr)["mpjpe"])
    assert (errors[0] != plain).all() and (errors[0] != errors[1]).all()


@pytest.mark.parametrize(("lens", "expected"), [("image", 7.0), ("network", cameras.FOCAL)])
def test_fits_have_the_camera_that_the_config_names(lens, expected, monkeypatch):
    used = []

    def stand_in(bodies, evidence, visible, joint_model, log_prob, settings, focal):
        used.append(focal)
        return bodies

    monkeypatch.setattr(refine, "refine", stand_in)
    out = fixture.made()
    known = lenses.Lens(np.full(fixture.B, 7, np.float32), np.tile(np.eye(3, dtype=np.float32), (fixture.B, 1, 1)))
    out.examples = dataclasses.replace(out.examples, lens=known)
    made = row("refined", out, fitting__lens=lens)
    assert isinstance(made, fitted.Fitted)
    made.sets(out, 2)
    np.testing.assert_allclose(used[0], expected)
    shown = cameras.project_crop(out.hyps.joints24 + out.hyps.midhip[..., None, :], out.hyps.cam, expected)
    its = out.batch
    px = diagnostics.reprojection_px(shown, its.target.kp2d, its.inputs.kp2d_input).mean(axis=1)
    np.testing.assert_allclose(made.reprojection_px(out), px, rtol=1e-5)


def test_rows_that_an_evaluation_lacks_are_left_out():
    names = ("main", "refined", "hmr_refined", "hmr_noise_refined", "smplify")

    def found(out):
        return [one.name for one in methods.rows(fixture.evaluation(out, eval__methods=names))]

    assert found(fixture.made(hmr=False)) == ["ours", "ours, refined", "SMPLify"]
    assert found(fixture.made(m=1, hmr=False)) == ["ours", "SMPLify"]
    assert found(fixture.made()) == [
        *("ours", "ours, refined", "HMR (M = 1), refined", "HMR + tuned noise, refined", "SMPLify")
    ]
