"""SPIN (Kolotouros et al., 2019), a baseline of the paper: HMR whose labels are fits to keypoints that get better with it.

`objective` has its losses, `targets` the loop; `fitting.smplify` the fits, and `fit_mixture` makes their prior of the pose.
"""

from typing import Any

from multibodies_jax.baselines.spin import objective, targets
from multibodies_jax.evaluation import ablations
from multibodies_jax.fitting import smplify
from multibodies_jax.losses.objective import OBJECTIVES, OF_WHOLE_BATCHES
from multibodies_jax.models import build
from multibodies_jax.training import config_rules

_RULES: dict[str, config_rules.Rule] = {
    "spin.fit": config_rules.FLAG,
    "spin.steps": config_rules.whole(1, 10_000),
    "spin.solver": config_rules.Choice(smplify.SOLVERS),
    "spin.torso": config_rules.Choice(smplify.TORSOS),
    "spin.threshold": config_rules.Number(0, 1e9),
    "spin.mixture": config_rules.OrNone(config_rules.Path("the path of a file")),
}


def _check(config: Any) -> None:
    config_rules.check(config, _RULES)


build.NETWORKS.register("spin", build.Network(label="SPIN", config_part="spin", check=_check, targets=targets.make))
OBJECTIVES.register("spin", objective.spin)
OF_WHOLE_BATCHES.register("spin", "its terms are means over the examples of a batch that have labels")
ablations.WORDS.register("spin.fit", {False: "first fits kept"})
