"""No field of any config takes a value that it cannot have: every field is tried with every kind of wrong value."""

import copy
import functools
import math

import pytest
from ml_collections import config_dict

from configs import default
from multibodies_jax.evaluation import checks
from multibodies_jax.training import config_checks, config_rules, config_versions

HUGE = 10**23
WRONG = {
    "zero": (0, 0.0),
    "negative": (-1, -0.5, -HUGE),
    "huge": (HUGE, 1e23, 10**300),
    "type": ("a", b"a", object(), {"a": 1}, True, 1.5, 3),
    "not finite": (math.nan, -math.inf, math.inf),
    "tuple": (("a",), (0,), (1, "a"), (math.nan,), (None,), ((1,),)),
    "empty": ("", " ", (), [], None),
}
# What a field takes all the same, of the values above.
MAY_BE_ZERO = {
    *(
        "seed",
        "data.cached_passes",
        "data.withheld_3d",
        "model.dropout",
        "model.init_noise",
        "flow.dropout",
        "flow.noise_mm",
        "flow.steps",
        "fitting.steps",
    ),
    *("fitting.prior", "fitting.anchor", "optim.warmup", "optim.weight_decay", "optim.l2", "loss.best", "loss.pose"),
    *("loss.betas", "loss.vertices", "loss.camera", "loss.reprojection_best", "loss.reprojection_all"),
    *("cvae.weight", "cvae.anneal_steps", "mdn.weight", "graphcmr.blocks"),
}
MAY_BE_NONE = {
    *("init", "freeze", "body.dir", "data.sets", "data.cached_passes", "data.fits", "data.npz_dir", "data.image_dir"),
    *("model.num_hypotheses", "model.width", "quantizer.temperature", "fitting.prior", "fitting.anchor", "optim.ema"),
    *("optim.decay_step", "eval.max_examples", "eval.curve", "eval.hmr", "eval.published"),
    *("eval.packed", "eval.chosen_on"),
}
FREE_TEXT = {
    "init",
    "body.dir",
    "data.dir",
    "data.people",
    "data.fits",
    "data.npz_dir",
    "data.image_dir",
    "eval.hmr",
    "eval.packed",
}
FRACTIONS = {  # Numbers that need not be whole.
    *(
        "data.withheld_3d",
        "model.dropout",
        "model.init_noise",
        "flow.dropout",
        "flow.noise_mm",
        "flow.learning_rate",
        "quantizer.temperature",
    ),
    *("fitting.prior", "fitting.anchor", "optim.learning_rate", "optim.weight_decay", "optim.clip", "optim.l2"),
    *("stage1.learning_rate", "loss.best", "loss.pose", "loss.betas", "loss.vertices", "loss.camera", "optim.ema"),
    *("loss.reprojection_best", "loss.reprojection_all", "cvae.weight", "mdn.weight", "mdn.sigma"),
}
BELOW_ONE = {"data.withheld_3d", "model.dropout", "flow.dropout", "optim.ema"}


def every_field():
    """A config with every field that any config has, which the caller may change."""
    return copy.deepcopy(_every_field())


@functools.cache
def _every_field():
    config = default.add_authors_fields(default.of("smpl_mdn:demo"))
    config = default.add_evaluation_of_others(default.add_label_fields(default.add_fitting_factors(config)))
    config.unlock()
    config.cvae = default.of("smpl_cvae:demo").cvae
    config.graphcmr = default.of("graphcmr:demo").graphcmr
    config.data.cached_passes = config_dict.placeholder(int)
    config.data.resident = False
    return config


FIELDS = sorted(config_versions.flatten(every_field().to_dict()))


def is_right(field, kind, value):
    """Whether a field takes one of the values of `WRONG`."""
    if value is None:
        return field in MAY_BE_NONE
    if isinstance(value, str):
        return (field in FREE_TEXT and value == "a") or (field == "data.options" and value in ("", " ", "a"))
    if isinstance(value, (tuple, list)):
        return field in ("data.sets", "eval.sets", "eval.chosen_on") and value == ("a",)
    if isinstance(value, bool):
        return type(every_field_value(field)) is bool
    if isinstance(value, int) and value == 3:
        return is_number(field) and field not in BELOW_ONE | {"model.crop_size", "graphcmr.channels"}
    if isinstance(value, float):
        if math.isinf(value):
            return field == "optim.clip" and value > 0
        if value == 1e23:
            return field == "optim.clip"
        return (value == 1.5 and field in FRACTIONS - BELOW_ONE) or (value == 0 and field in FRACTIONS & MAY_BE_ZERO)
    return (kind == "zero" and field in MAY_BE_ZERO) or (value in (HUGE, 10**300) and field == "optim.clip")


def every_field_value(field):
    return config_rules.field(_every_field(), field)


def is_number(field):
    value = every_field_value(field)
    numbers_or_none = {"quantizer.temperature", "fitting.prior", "fitting.anchor", "optim.ema", "optim.decay_step"}
    numbers_or_none |= {"data.cached_passes", "model.width", "eval.max_examples", "eval.curve"}
    return field in numbers_or_none or (isinstance(value, (int, float)) and not isinstance(value, bool))


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_refuses_what_it_cannot_be(field):
    *parents, name = field.split(".")
    for kind, values in WRONG.items():
        for value in values:
            config = every_field()
            part = config_rules.field(config, ".".join(parents)) if parents else config
            with part.ignore_type():
                part[name] = value
            if isinstance(value, bool) and part[name] is not value:
                continue  # A float field makes 1.0 of True.
            try:
                config_checks.validate(config)
                checks.validate(config)
            except ValueError as error:
                own = f"config.{field} is " in str(error) and "accepted is " in str(error)
                assert own != is_right(field, kind, value), f"{field} = {value!r}: {error}"
            else:
                assert is_right(field, kind, value), f"{field} = {value!r} is accepted"


def test_every_rule_is_of_a_field_that_is_tried():
    assert {*config_checks.RULES, *checks.RULES} - {"body.shape_components"} <= set(FIELDS)
    with pytest.raises(ValueError, match=r"config.body.shape_components is 5; accepted is 10\."):
        config_rules.check({"body": {"shape_components": 5}}, config_checks.RULES)


def test_a_value_of_any_length_is_shortened_in_the_message():
    assert len(config_rules.short("a" * 10**6)) <= 60
    assert config_rules.short(-(10**5000)) == "a whole number of about 5000 digits"
