"""Names in config.eval that do not exist are refused before anything is trained, with the choices."""

import pytest

from multibodies_jax.evaluation import checks
from tests.helpers import tiny


def test_the_default_is_valid_and_every_protocol_too():
    for name in ("strict", "released", "3dpw", "mpi_inf_3dhp_strict"):
        checks.validate(tiny.config(eval__protocol=name, eval__published="h36m"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("protocol", "official", r"config\.eval\.protocol is 'official'; choose one of 'strict', .*'h36m_p2'"),
        ("published", "lsp", r"config\.eval\.published is 'lsp'; choose one of None, 'h36m', '3dpw', 'ah36m', 'a3dpw'"),
        ("methods", ("main", "best"), r"config\.eval\.methods has 'best'; choose among 'main', .*'shuffled'"),
        ("methods", ("uniform",), r"config\.eval\.methods is \('uniform',\); add 'main'"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(field, value, message):
    with pytest.raises(ValueError, match=message):
        checks.validate(tiny.config(**{f"eval__{field}": value}))
