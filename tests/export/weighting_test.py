"""The weights that a prediction says: their kind, their temperatures, and the sharpness of the probabilities."""

import json

import numpy as np
import pytest

from multibodies_jax.export import scene, weighting
from tests.helpers import made_predictions


def _with(record=None, **changes):
    """A prediction whose quantizer has other settings."""
    settings = made_predictions.SETTINGS | changes
    return (record or made_predictions.record()) | {"quantizer": np.array(json.dumps(settings))}


def _of_kinds(**kinds):
    return {name: np.array(json.dumps(values)) for name, values in kinds.items()}


DAMAGED = {"quantizer": np.array("{")}


@pytest.mark.parametrize("kind", ["prior", "uniform"])
def test_weights_are_those_of_eq_2_or_uniform(kind):
    record = _with(weights=kind, temperature=0.5)
    expected = np.exp(0.5 * record["all_log_prior"].astype(np.float64) * (kind == "prior"))
    np.testing.assert_allclose(weighting.weights_of(record), expected / expected.sum(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["scores", "scores_and_prior"])
def test_learned_scores_weigh_the_hypotheses(kind):
    record = made_predictions.record()
    logs = np.linspace(-3, 0, made_predictions.M).astype(np.float32)
    settings = np.array(json.dumps(made_predictions.SETTINGS | {"weights": kind, "temperature": 0.5}))
    scored = record | {"quantizer": settings, "all_log_scores": logs}
    expected = np.exp(logs + (0.5 * record["all_log_prior"] if kind == "scores_and_prior" else 0))
    np.testing.assert_allclose(weighting.weights_of(scored), expected / expected.sum(), rtol=1e-5)
    with pytest.raises(scene.SceneError, match=r"settings of person 0 are damaged.*need learned scores"):
        weighting.weights_of(record | {"quantizer": settings})


def test_the_sharpness_is_that_of_the_quantizer_or_1():
    record = made_predictions.record()
    assert weighting.sharpness_of(record) == 1
    for value, refused in ((0.5, False), (-1, True), (1e300, True), ("much", True)):
        changed = record | {"quantizer": np.array(json.dumps(made_predictions.SETTINGS | {"sharpness": value}))}
        if not refused:
            assert weighting.sharpness_of(changed) == value
            continue
        with pytest.raises(scene.SceneError, match="The quantizer settings of person 0 are damaged"):
            weighting.sharpness_of(changed)


def test_other_weights_have_their_temperature_and_sharpness_where_the_prediction_knows_them():
    record = _with(temperature=0.5, sharpness=2.0)
    own = weighting.settings_of(record)
    assert weighting.settings_under(record, None) == own == weighting.settings_under(record, own["weights"])
    unknown = weighting.settings_under(record, "uniform")
    assert unknown == own | {"weights": "uniform", "sharpness": 1.0}  # The temperature is kept.
    known = record | _of_kinds(temperatures={"scores_and_prior": 0.1}, sharpness={"scores_and_prior": 0.7})
    found = weighting.settings_under(known, "scores_and_prior")
    assert found == own | {"weights": "scores_and_prior", "temperature": 0.1, "sharpness": 0.7}


def test_a_kept_temperature_is_told_where_the_weights_read_it():
    record = _with(temperature=0.5)
    told = weighting.kept_temperature(record, "scores_and_prior")
    assert "temperature of the weights 'scores_and_prior': that of 'prior', 0.5, is kept" in told
    for kind in (None, "prior", "uniform", "scores"):
        assert weighting.kept_temperature(record, kind) == ""
    known = record | _of_kinds(temperatures={"scores_and_prior": 0.1})
    assert weighting.kept_temperature(known, "scores_and_prior") == ""


def test_without_sharpness_no_weights_have_one():
    record = _with(sharpness=2.0) | _of_kinds(sharpness={"uniform": 0.7})
    level = weighting.without_sharpness(record)
    assert [weighting.settings_under(level, kind)["sharpness"] for kind in ("prior", "uniform")] == [1.0, 1.0]
    assert weighting.settings_of(record)["sharpness"] == 2.0  # The record itself is as it was.


def test_damaged_settings_have_no_words_and_stay_as_they_are():
    record = made_predictions.record() | DAMAGED
    assert weighting.in_words(record) == "" == weighting.kept_temperature(record, "scores_and_prior")
    assert (
        weighting.in_words(_with(weights="uniform")) == "uniform weights"
        and weighting.in_words(_with(weights="x")) == ""
    )
    assert weighting.without_sharpness(DAMAGED) == DAMAGED


def test_weights_that_the_hypotheses_cannot_have_are_refused():
    record = made_predictions.record()
    for kind in ("prior", "uniform"):
        weighting.check_kind(record, kind)
    weighting.check_kind(record | {"all_log_scores": np.zeros(made_predictions.M)}, "scores")
    with pytest.raises(ValueError, match="There are no weights 'heavy': choose one of prior, uniform"):
        weighting.check_kind(record, "heavy")
    with pytest.raises(ValueError, match="'scores' need learned scores, and the prediction of person 0 of"):
        weighting.check_kind(record, "scores")
