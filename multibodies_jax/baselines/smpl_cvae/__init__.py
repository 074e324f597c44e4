"""SMPL-CVAE, a baseline of the paper (appendix C): `network`, what it trains (`objective`), what z says (`latents`)."""

from typing import Any

import flax.linen as nn

from multibodies_jax.baselines.smpl_cvae import latents, network, objective
from multibodies_jax.body import smpl
from multibodies_jax.models import build, hmr, hmr_preactivated
from multibodies_jax.training import config_rules


def _build(
    *,
    trunk: nn.Module,
    settings: hmr.HeadSettings,
    frozen: str,
    own: Any,
    body: smpl.SmplModel | None,
) -> network.CVAE:
    if body is None:
        raise ValueError("SMPL-CVAE reads vertices of a body: pass `body` and its part of the config as `own`.")
    return network.CVAE(
        trunk=trunk,
        settings=settings,
        frozen=frozen,
        head_class=hmr_preactivated.PreactivatedHead,
        vertices=len(objective.encoded_vertices(own, body)),
        z_size=own.z_size,
        width=own.width,
    )


_RULES: dict[str, config_rules.Rule] = {
    "cvae.z_size": config_rules.whole(1, 65_536),
    "cvae.width": config_rules.whole(1, 65_536),
    "cvae.vertex_stride": config_rules.whole(1, 6890),
    "cvae.weight": config_rules.factor(),
    "cvae.anneal_steps": config_rules.whole(0),
}


def _check(config: Any) -> None:
    config_rules.check(config, _RULES)


build.NETWORKS.register(
    "smpl_cvae",
    build.Network(
        label="SMPL-CVAE",
        exchangeable=True,
        build=_build,
        # Its head is HMR's own, whatever M is: the hypotheses are samples of z.
        expand=lambda variables, num_hypotheses, noise, key: dict(variables),
        own_parameters=("encoder/", "fuse_in/", "fuse_out/"),
        config_part="cvae",
        check=_check,
        training_inputs=objective.encoder_inputs,
        states_and_extra_terms=objective.states_and_extra_terms,
        inspect=latents.inspect,
        describe_inspection=latents.describe,
    ),
)
