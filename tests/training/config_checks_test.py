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
        ({"loss__vertex_set": "mini"}, "accepted is one of 'all', 'regressed'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config_checks.validate(tiny.config(**fields))


def test_a_batch_that_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match="must divide"):
        config_checks.validate(tiny.config(train__accumulate=3))
