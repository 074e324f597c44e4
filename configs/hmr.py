r"""The single-hypothesis baseline alone (M = 1), keypoints as evidence, in minutes on two CPU cores.

    python run.py --config=configs/hmr.py --workdir=runs/hmr

Its work directory starts the M-hypothesis stage: --config=configs/demo.py --config.init=runs/hmr.
"""

from typing import Any

from configs import demo


def get_config() -> Any:
    c = demo.get_config()
    c.model.name = "hmr"
    c.model.num_hypotheses = 1
    c.loss.mode0 = False
    c.train.steps = c.stage1.steps
    c.train.batch = c.stage1.batch
    c.optim.learning_rate = c.stage1.learning_rate
    c.eval.ns = (1,)
    return c
