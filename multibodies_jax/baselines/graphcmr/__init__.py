"""GraphCMR, a baseline of the paper's Table 1: `network`, what it trains (`objective`), its second row (`rows`)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from multibodies_jax.baselines.graphcmr import hierarchy, layers, network, objective, rows
from multibodies_jax.body import smpl
from multibodies_jax.evaluation import methods
from multibodies_jax.geometry import nearest_rotation
from multibodies_jax.losses.objective import OBJECTIVES, OF_WHOLE_BATCHES
from multibodies_jax.models import build, hmr
from multibodies_jax.training import config_rules

_RULES: dict[str, config_rules.Rule] = {
    "graphcmr.channels": config_rules.whole(8, 65_536),
    "graphcmr.blocks": config_rules.whole(0, 1000),
    "graphcmr.hidden": config_rules.whole(1, 65_536),
    "graphcmr.rotation": config_rules.Choice(nearest_rotation.RULES),
    "graphcmr.start": config_rules.Choice(layers.STARTS),
}


def _build(
    *, trunk: nn.Module, settings: hmr.HeadSettings, frozen: str, own: Any, body: smpl.SmplModel | None
) -> network.GraphCMR:
    if body is None:
        raise ValueError("GraphCMR works on the mesh of a body: pass `body` and its part of the config as `own`.")
    return network.GraphCMR(
        trunk=trunk,
        settings=settings,
        frozen=frozen,
        levels=hierarchy.of_body(body),
        template=hierarchy.template_of(np.asarray(body.v_template)),
        channels=own.channels,
        blocks=own.blocks,
        hidden=own.hidden,
        rotation=own.rotation,
        start=own.start,
    )


def _expand(variables: Mapping[str, Any], num_hypotheses: int, noise: float, key: Any) -> dict[str, Any]:
    """What GraphCMR can start from: weights of its own, or the trunk of any other network."""
    del num_hypotheses, noise, key
    if "regressor" in variables["params"]:
        return dict(variables)
    return {part: {"trunk": values["trunk"]} for part, values in variables.items() if "trunk" in values}


def _check(config: Any) -> None:
    config_rules.check(config, _RULES)
    if config.graphcmr.channels % 16:
        raise ValueError(
            f"config.graphcmr.channels is {config.graphcmr.channels}; accepted is a multiple of 16: blocks are half as wide "
            "inside, and norms are over 8 channels."
        )
    if config.model.name == "graphcmr" and config.loss.reading != "graphcmr":
        raise ValueError(
            f"config.model.name='graphcmr' predicts vertices, which config.loss.reading={config.loss.reading!r} does not "
            "train: set config.loss.reading='graphcmr'."
        )


OBJECTIVES.register("graphcmr", objective.graphcmr)
OF_WHOLE_BATCHES.register("graphcmr", "its terms are means over the examples of a batch that have labels")
methods.METHODS.register("graphcmr_mesh", rows.mesh)
build.NETWORKS.register(
    "graphcmr",
    build.Network(
        label="GraphCMR",
        single=True,
        build=_build,
        expand=_expand,
        config_part="graphcmr",
        check=_check,
    ),
)
