"""Checks the fields of `config.eval` before anything is trained or evaluated."""

from typing import Any

from configs import default
from multibodies_jax.evaluation import methods, protocols, results
from multibodies_jax.training import config_rules

RULES: dict[str, config_rules.Rule] = {
    "eval.protocol": config_rules.Choice(tuple(protocols.PROTOCOLS)),
    "eval.split": config_rules.Choice(("train", "validation", "test")),
    "eval.sets": config_rules.Several(config_rules.Text("a set's name")),
    "eval.batch": config_rules.whole(1, 1_000_000),
    # Intervals need two examples.
    "eval.max_examples": config_rules.OrNone(config_rules.whole(2)),
    "eval.ns": config_rules.Several(config_rules.whole(1, 10_000)),
    "eval.curve": config_rules.OrNone(config_rules.whole(1, 10_000)),
    "eval.vertex_stride": config_rules.whole(1, 6890),
    "eval.hmr": config_rules.OrNone(config_rules.Path("a work directory")),
    "eval.box": config_rules.Choice(("visible", "full")),
    "eval.packed": config_rules.OrNone(config_rules.Path("embedded, or the path of a file of packed weights")),
    "eval.chosen_on": config_rules.OrNone(config_rules.Several(config_rules.Text("a set's name"))),
}
"""What the fields of `config.eval` may be, beside those whose choices register themselves."""


def validate(config: Any) -> None:
    """Refuses values of `config.eval` that do not exist (protocol, split, rows) or are out of range.

    Raises:
      ValueError: a field has a value that it cannot have, with what is accepted; the row under test is left out; or an n
        is above the number of hypotheses.
    """
    config_rules.check(config, RULES)
    choices = {
        "eval.published": config_rules.OrNone(config_rules.Choice(tuple(results.PUBLISHED))),
        "eval.methods": config_rules.Several(config_rules.Choice(tuple(methods.METHODS))),
    }
    config_rules.check(config, choices)
    chosen_on = default.optional(config, "eval.chosen_on")
    if chosen_on is not None and len(chosen_on) != len(config.eval.sets):
        raise ValueError(
            f"config.eval.chosen_on names {len(chosen_on)} sets; accepted is one for each of the {len(config.eval.sets)} of "
            "config.eval.sets, or None."
        )
    names = config.eval.methods
    if methods.MAIN not in names:
        raise ValueError(
            f"config.eval.methods is {names!r}; add {methods.MAIN!r}, the row that the others stand beside."
        )
    most = config.model.num_hypotheses or max(config.eval.ns)
    too_many = [n for n in config.eval.ns if not 1 <= n <= most]
    if too_many and config.model.num_hypotheses != 1:
        raise ValueError(
            f"config.eval.ns asks for n = {too_many}; n goes from 1 to M = config.model.num_hypotheses = {config.model.num_hypotheses}."
        )
