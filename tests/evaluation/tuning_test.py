"""The temperatures and the sharpness that one pass over a validation split chooses, against the sets of each batch computed
again."""

import numpy as np
import pytest

from multibodies_jax.evaluation import calibration, tuning
from tests.helpers import evaluation_fixture as fixture

NS = (1, 2, 5)


def test_each_kind_of_weights_has_a_temperature_of_its_own():
    out = fixture.made(scored=True, weights="scores_and_prior")
    kinds = ("scores_and_prior", "prior")
    search = tuning.Temperatures(out.settings, kinds)
    search.observe(out)
    for kind in kinds:
        errors = {t: np.mean([_mean_error(out, n, kind, t) for n in NS]) for t in tuning.TEMPERATURES}
        np.testing.assert_allclose([means.mean() for means in search.errors(kind).values()], list(errors.values()))
        assert search.chosen()[kind] == min(errors, key=lambda t: errors[t])


def test_single_bodies_have_no_sharpness():
    assert tuning.Temperatures(fixture.settings(ns=(1,))).sharpness() == {}


def _mean_error(out, n, kind, temperature):
    medoid = out.quantize(n, weights=kind, temperature=temperature).medoid
    return np.asarray(out.members(medoid)["mpjpe"]).min(axis=1)[out.valid].mean()


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["prior", "uniform", "scores", "scores_and_prior"])
def test_errors_and_calibration_are_those_of_the_sets_under_each_temperature(weights):
    parts = [fixture.made(seed=seed, padding=seed, weights=weights, scored="scores" in weights) for seed in (0, 1)]
    kind = weights if weights == "scores_and_prior" else "prior"  # As `methods.tempered_kinds`.
    search = tuning.Temperatures(parts[0].settings, tuple(dict.fromkeys((kind, weights))))
    for out in parts:
        search.observe(out)
    errors = search.errors(kind)
    assert tuple(errors) == tuning.TEMPERATURES
    for t, means in errors.items():
        for place, n in enumerate(NS):
            own = []
            for out in parts:
                medoid = out.quantize(n, weights=kind, temperature=t).medoid
                own.append(np.asarray(out.members(medoid)["mpjpe"]).min(axis=1)[out.valid])
            assert means[place] == pytest.approx(np.concatenate(own).mean(), rel=1e-6)
    sharpness = search.sharpness()
    assert list(sharpness) == list(dict.fromkeys((kind, weights)))
    for its, found in sharpness.items():
        assert list(found) == (["", "_scores"] if "scores" in weights else [""])
        of_parts = []
        for out in parts:
            t = search.chosen().get(its, 1.0)
            sets = [out.quantize(n, weights=its, temperature=t) for n in (2, 5)]  # One body has no probabilities.
            of_parts.append([calibration.masses(x, out.truth, out.valid, out.hyps.log_scores) for x in sets])
        assert found == calibration.fit(of_parts)
