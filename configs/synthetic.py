r"""Images as evidence, on two CPU cores: a small ResNet on 64-pixel crops of the embedded people, 100 hypotheses.

python run.py --config=configs/synthetic.py --workdir=runs/synthetic
"""

from typing import Any

from configs import demo


def get_config() -> Any:
    c = demo.get_config()
    c.data.sets = ("synthetic_bodies/clean",)
    c.data.options = "num_people=30000"

    c.model.trunk = "resnet_small"
    c.model.crop_size = 64

    c.loss.reading = "released"

    c.flow.steps = 1500

    c.stage1.steps = 8000
    c.stage1.batch = 32
    c.stage1.learning_rate = 1e-3

    c.train.steps = 2500
    c.train.batch = 32
    c.optim.learning_rate = 5e-4
    c.optim.ema = 0.998
    return c
