"""Fields of config.eval that do not exist or are out of range are refused before anything is trained."""

import pytest

from multibodies_jax.evaluation import checks
from tests.helpers import tiny


def test_the_default_is_valid_and_every_protocol_too():
    for name in ("strict", "released", "3dpw", "mpi_inf_3dhp_strict"):
        checks.validate(tiny.config(eval__protocol=name, eval__published="h36m"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("protocol", "official", r"config\.eval\.protocol is 'official'; accepted is one of 'strict', .*'h36m_p2'"),
        (
            "published",
            "lsp",
            r"config\.eval\.published is 'lsp'; accepted is None, or one of 'h36m', '3dpw', 'ah36m', 'a3dpw'",
        ),
        (
            "methods",
            ("main", "best"),
            r"config\.eval\.methods is \('main', 'best'\); accepted is a tuple .* one of 'main', .*'shuffled'",
        ),
        ("methods", ("uniform",), r"config\.eval\.methods is \('uniform',\); add 'main'"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(field, value, message):
    with pytest.raises(ValueError, match=message):
        checks.validate(tiny.config(**{f"eval__{field}": value}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eval__split": "dev"}, r"config\.eval\.split is 'dev'; accepted is one of 'train', 'validation', 'test'"),
        ({"eval__chosen_on": ("a",)}, r"chosen_on names 1 sets; accepted is one for each of the 2 of config.eval.sets"),
        ({"eval__batch": 0}, r"config\.eval\.batch is 0; accepted is .*a whole number from 1 to"),
        ({"eval__vertex_stride": 0}, r"config\.eval\.vertex_stride is 0; accepted is .*a whole number from 1 to"),
        ({"eval__curve": 0}, r"config\.eval\.curve is 0; accepted is .*a whole number from 1 to"),
        ({"eval__max_examples": 1}, r"max_examples is [01]; accepted is None, or a whole number from 2"),
        ({"eval__max_examples": 0}, r"max_examples is [01]; accepted is None, or a whole number from 2"),
        ({"eval__ns": ()}, r"config\.eval\.ns is \(\); accepted is a tuple with one or more"),
        ({"eval__ns": (1, 7)}, r"config\.eval\.ns asks for n = \[7\]; n goes from 1 to M = .* = 6"),
        ({"eval__ns": (0, 1), "model__num_hypotheses": None}, r"config\.eval\.ns is \(0, 1\); accepted is"),
    ],
)
def test_numbers_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        checks.validate(tiny.config(**fields))


def test_a_single_hypothesis_may_be_asked_for_any_n():
    checks.validate(tiny.config(model__num_hypotheses=1, eval__ns=(1, 25)))
