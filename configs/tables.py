r"""What `make tables` trains on two CPU cores: heads on the features of one frozen trunk, images as evidence.

    python run.py --mode=train --config=configs/tables.py:trunk --workdir=TRUNK
    python run.py --config=configs/tables.py --workdir=DIR --config.init=TRUNK          # ours
    python run.py --config=configs/smpl_mdn.py:tables --workdir=DIR --config.init=TRUNK # likewise smpl_cvae, hmr

Every method has the same trunk, the same rows in the same order and as many of them; only its head learns. The head has
activations: without them a frozen trunk leaves an affine map.
"""

from typing import Any

from configs import default, synthetic


def get_config(part: str = "heads") -> Any:
    if part not in ("heads", "trunk"):
        raise ValueError(f"configs/tables.py:{part}: choose heads or trunk.")
    c = synthetic.get_config()
    c.model.activation = "relu"
    c.loss.reading = "paper"
    c.flow.steps = 1000
    c.eval.vertex_stride = 50
    c.eval.methods = default.METHODS
    if part == "trunk":
        c.model.name = "hmr"
        c.model.num_hypotheses = 1
        c.train.steps = 6000
        c.train.batch = 32
        c.optim.learning_rate = 1e-3
        c.eval.ns = (1,)
        return c
    c.freeze = "trunk"
    c.unlock()
    # The features of this many augmented passes over `data.sets` are computed once, kept in data.dir/features and shared
    # by all trainings that start from the same trunk. Without this field the trunk runs in every step.
    c.data.cached_passes = 5
    c.lock()
    c.train.baseline = False  # HMR is a method of its own.
    c.train.steps = 1000
    c.train.batch = 64
    c.optim.learning_rate = 1e-3
    return c
