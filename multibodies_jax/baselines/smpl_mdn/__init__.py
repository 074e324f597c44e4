"""SMPL-MDN, a baseline of the paper (appendix C): `network`, and what it trains (`objective`, eq 9)."""

from typing import Any

import flax.linen as nn

from multibodies_jax.baselines.smpl_mdn import network, objective
from multibodies_jax.body import smpl
from multibodies_jax.evaluation import ablations
from multibodies_jax.models import build, hmr, hmr_preactivated
from multibodies_jax.training import config_rules


def _build(
    *,
    trunk: nn.Module,
    settings: hmr.HeadSettings,
    frozen: str,
    own: Any,
    body: smpl.SmplModel | None,
) -> network.MDN:
    del body
    return network.MDN(
        trunk=trunk,
        settings=settings,
        frozen=frozen,
        head_class=hmr_preactivated.PreactivatedHead,
        root=own.root,
        sigma=own.sigma,
        sigma_means=own.sigma_means,
        learn_sigma=own.learn_sigma,
        learn_alpha=own.learn_alpha,
        draw=own.draw,
    )


_RULES: dict[str, config_rules.Rule] = {
    "mdn.root": config_rules.Choice(tuple(network.ROOTS)),
    "mdn.sigma": config_rules.positive(),
    "mdn.sigma_means": config_rules.Choice(tuple(network.SIGMA_MEANS)),
    "mdn.draw": config_rules.Choice(tuple(network.DRAWS)),
    "mdn.weight": config_rules.factor(),
    "mdn.learn_sigma": config_rules.FLAG,
    "mdn.learn_alpha": config_rules.FLAG,
}


def _check(config: Any) -> None:
    config_rules.check(config, _RULES)


build.NETWORKS.register(
    "smpl_mdn",
    build.Network(
        label="SMPL-MDN",
        exchangeable=True,
        build=_build,
        own_parameters=("alpha/", "sigma_change/"),
        config_part="mdn",
        free_fields=("draw",),
        check=_check,
        states_and_extra_terms=objective.states_and_extra_terms,
    ),
)
for _field, _words in {
    "root": {"mixture": "global rotation in the mixture"},
    "sigma_means": {"std": "sigma as a standard deviation"},
    "draw": {"samples": "samples of the mixture"},
}.items():
    ablations.WORDS.register(f"mdn.{_field}", _words)
