r"""The single-hypothesis baseline alone (M = 1): stage one of another config, by default in minutes on two CPU cores.

    python run.py --config=configs/hmr.py --workdir=runs/hmr            # as configs/demo.py; also hmr.py:multibodies ...

Its work directory starts the M-hypothesis stage: --config=configs/demo.py --config.init=runs/hmr. With `hmr.py:tables`,
which starts from a trained trunk, it has the steps of the other methods.
"""

from typing import Any

from configs import default


def get_config(base: str = "demo") -> Any:
    c = default.of(base)
    c.model.name = "hmr"
    c.model.num_hypotheses = 1
    c.loss.mode0 = False
    c.eval.ns = (1,)
    # A trunk that was trained elsewhere is frozen in stage one, too.
    if c.freeze != "trunk" or c.model.trunk == "movenet":
        c.train.steps = c.stage1.steps
        c.train.batch = c.stage1.batch
        c.optim.learning_rate = c.stage1.learning_rate
    return c
