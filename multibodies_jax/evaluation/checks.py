"""Checks the fields of `config.eval` before anything is trained or evaluated."""

from typing import Any

from multibodies_jax.evaluation import methods, protocols, results
from multibodies_jax.training import config_checks


def validate(config: Any) -> None:
    """Refuses names that do not exist (protocol, split, published evaluation, rows) and numbers out of range.

    Raises:
      ValueError: a name is unknown, and the message lists the choices; the row under test is left out; or a number is
        out of range, as an n above the number of hypotheses.
    """
    config_checks.check_choice(config, "eval.protocol", protocols.PROTOCOLS)
    config_checks.check_choice(config, "eval.split", ("train", "validation", "test"))
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
    for name in ("batch", "vertex_stride", "curve"):
        if config.eval.get(name) is not None:
            config_checks.check_least(config, f"eval.{name}", 1)
    most_examples = config.eval.max_examples
    if (most_examples is not None and most_examples < 2) or not config.eval.ns:
        raise ValueError(
            "Intervals need config.eval.max_examples of 2 or more (None: all) and config.eval.ns at least one n."
        )
    most = config.model.num_hypotheses or max(config.eval.ns)
    too_many = [n for n in config.eval.ns if not 1 <= n <= most]
    if too_many and config.model.num_hypotheses != 1:
        raise ValueError(
            f"config.eval.ns asks for n = {too_many}; n goes from 1 to M = config.model.num_hypotheses = {config.model.num_hypotheses}."
        )
