r"""SMPL-MDN (appendix C): a mixture density network over log-rotations, on the trunk, data and budget of another config.

python run.py --config=configs/smpl_mdn.py --workdir=runs/smpl_mdn            # as configs/demo.py, in minutes
python run.py --config=configs/smpl_mdn.py:multibodies --workdir=...          # ResNet-50; any config without M = 1
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config(base: str = "demo") -> Any:
    c = default.of(base)
    c.model.name = "smpl_mdn"
    c.unlock()
    c.mdn = ConfigDict()
    c.mdn.weight = 0.0001  # Of the mixture's negative log-likelihood, nats, beside the losses of eq (8).
    c.mdn.root = "shared"  # Global rotation: shared by all components (the paper's text) | mixture.
    c.mdn.sigma = 0.001
    c.mdn.sigma_means = "variance"  # Of sigma: variance (the paper's word, square radians) | std.
    c.mdn.learn_sigma = False  # The paper: both fixed was best.
    c.mdn.learn_alpha = False
    c.mdn.draw = "means"  # The M hypotheses that are evaluated: means (in random order) | samples of the mixture.
    return c.lock()
