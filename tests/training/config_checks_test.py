"""Fields of a config that do not fit each other."""

import pytest

from multibodies_jax.training import config_checks
from tests.helpers import tiny


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optim__schedule": "step"}, "config.optim.decay_step"),
        ({"model__head": "released"}, "config.model.trunk='resnet50'"),
        ({"optim__clip": 0.0}, "optim.clip is 0.0; accepted is a number above 0 and to inf"),
        ({"freeze": "all"}, "accepted is None, or one of 'trunk', 'loaded'"),
        ({"data__augment": "wide", "data__sets": ("synthetic_bodies/clean",)}, "about virtual views"),
        ({"quantizer__weights": "score"}, "accepted is one of 'prior', 'uniform', 'scores', 'scores_and_prior'"),
        ({"quantizer__weights": "scores", "model__scores": False}, "needs learned scores.*set it to 'prior'"),
        ({"flow__steps": 0}, "num_hypotheses=6 hypotheses are weighed by it: set it to 1"),
        ({"loss__vertex_set": "mini"}, "accepted is one of 'all', 'regressed'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config_checks.validate(tiny.config(**fields))


def test_one_hypothesis_needs_no_scores():
    fields = {"model__num_hypotheses": 1, "model__scores": False, "eval__ns": (1,)}
    config_checks.validate(tiny.config(quantizer__weights="scores", **fields))


def test_a_batch_that_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match="must divide"):
        config_checks.validate(tiny.config(train__accumulate=3))
