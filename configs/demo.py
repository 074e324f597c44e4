r"""The whole method in minutes on two CPU cores: keypoints as evidence, 100 hypotheses, the embedded body and data.

    make demo          (python run.py --config=configs/demo.py --workdir=runs/demo)

It proves the pipeline; longer trainings with images as evidence: configs/synthetic.py.
"""

from typing import Any

from configs import default


def get_config() -> Any:
    c = default.add_scores(default.get_config())
    c.data.sets = None
    c.data.augment = "mild"
    c.data.options = "num_train=1000,num_people=30000"

    c.model.trunk = "keypoints"
    c.model.hidden = 256
    c.model.dropout = 0.0

    c.loss.vertices = 0.0

    c.flow.width = 256
    c.flow.dropout = 0.0
    c.flow.steps = 600

    c.stage1.steps = 800
    c.stage1.batch = 256
    c.stage1.learning_rate = 1e-3

    c.train.steps = 1400
    c.train.batch = 64
    c.optim.learning_rate = 7e-4
    c.optim.weight_decay = 1e-4
    return c
