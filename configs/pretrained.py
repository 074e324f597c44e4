r"""The model that ships with the package: keypoints as evidence, 100 hypotheses, views as varied as photographs are.

    make pretrained POSES=cmu_poses.npz          (python run.py --config=configs/pretrained.py --workdir=runs/pretrained
                                                  --config.data.people=cmu_poses.npz, then the weights are packed)

POSES is a file of motion capture, which is mixed half and half with the parametric poses; the embedded weights had 9,148
frames of six subjects of the CMU Graphics Lab Motion Capture Database. Cost: about 100 minutes on 2 CPU cores with other
work beside it, ten minutes of evaluation included. Measured on 200 test people of the same mixture (two of the six
subjects are held out for validation and test), MPJPE of the best of n, mm:

| | n = 1 | 5 | 10 | 25 |
|---|---|---|---|---|
| clean, as predicted | 55.4 | 51.8 | 49.9 | 47.8 |
| clean, refined | 41.0 | 35.1 | 33.8 | 31.9 |
| ambiguous, as predicted | 76.7 | 69.1 | 65.2 | 61.2 |
| ambiguous, refined | 67.9 | 56.0 | 52.3 | 49.5 |
| ambiguous, HMR refined / HMR + noise refined | 67.5 | 60.4 | 56.5 | 52.1 |
"""

from typing import Any

from configs import default, demo


def get_config() -> Any:
    c = default.add_fitting_factors(demo.get_config())
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
