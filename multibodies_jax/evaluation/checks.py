"""Checks the fields of `config.eval` whose values are names, before anything is trained or evaluated."""

from typing import Any

from multibodies_jax.evaluation import methods, protocols, results
from multibodies_jax.training import config_checks


def validate(config: Any) -> None:
    """Refuses a protocol, a published evaluation or a row that does not exist.

    Raises:
      ValueError: a name is unknown, and the message lists the choices; or the row under test is left out.
    """
    config_checks.check_choice(config, "eval.protocol", protocols.PROTOCOLS)
    if "published" in config.eval:  # A field of the authors' evaluations alone.
        config_checks.check_choice(config, "eval.published", (None, *results.PUBLISHED))
    names = config.eval.methods
    if unknown := [name for name in names if name not in methods.METHODS]:
        choices = ", ".join(map(repr, methods.METHODS))
        raise ValueError(f"config.eval.methods has {unknown[0]!r}; choose among {choices}.")
    if methods.MAIN not in names:
        raise ValueError(
            f"config.eval.methods is {names!r}; add {methods.MAIN!r}, the row that the others stand beside."
        )
