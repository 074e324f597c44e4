r"""The model that ships with the package: keypoints as evidence, 100 hypotheses, views as varied as photographs are.

    make pretrained          (python run.py --config=configs/pretrained.py --workdir=runs/pretrained
                              --config.data.people=cmu_poses.npz)

`data.people` names a file of motion capture, which is mixed with the parametric poses half and half.
"""

from typing import Any

from configs import default, demo


def get_config() -> Any:
    c = demo.get_config()
    c.data.augment = "wide"
    c.data.options = "num_train=1000,num_people=60000,pose_mix=0.5"

    c.model.width = 512

    c.flow.width = 160
    c.flow.steps = 4000

    c.stage1.steps = 12000

    c.train.steps = 10000
    c.train.checkpoint_every = 1000
    c.optim.ema = 0.999

    c.eval.methods = ("main", "random", "hmr", "hmr_noise", *default.FITTED)
    c.eval.max_examples = 200
    return c
