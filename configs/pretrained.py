r"""The model that ships with the package: keypoints as evidence, 100 hypotheses, views as varied as photographs are.

    make pretrained POSES=cmu_poses.npz          (python run.py --config=configs/pretrained.py --workdir=runs/pretrained
                                                  --config.data.people=cmu_poses.npz, then the weights are packed)

POSES is a file of motion capture, which is mixed half and half with the parametric poses; the embedded weights had 8,740
of 9,148 frames (the others bend joints too far) of six subjects of the CMU Graphics Lab Motion Capture Database. Cost: eight minutes of training on one NVIDIA H200
(prior 42 s, stage one 74 s, M = 100 218 s at 142 steps per second, HMR 114 s), and 13 minutes of evaluation on 2 CPU cores.
Measured on 200 test people of the same mixture (two of the six subjects are held out for validation and test;
configs/eval_pretrained.py evaluates the packed weights), MPJPE of the best of n, mm:

| | n = 1 | 5 | 10 | 25 |
|---|---|---|---|---|
| clean, as predicted | 44.6 | 38.6 | 35.4 | 32.5 |
| clean, as predicted, weights of the prior | 44.7 | 40.5 | 37.7 | 34.8 |
| clean, refined | 38.9 | 32.7 | 31.5 | 30.1 |
| clean, HMR refined / HMR + noise refined | 39.0 | 34.8 | 32.4 | 29.8 |
| ambiguous, as predicted | 69.8 | 57.2 | 53.7 | 48.1 |
| ambiguous, as predicted, weights of the prior | 70.3 | 58.9 | 55.6 | 49.9 |
| ambiguous, refined | 65.0 | 53.5 | 49.3 | 45.1 |
| ambiguous, HMR refined / HMR + noise refined | 65.1 | 60.0 | 58.1 | 55.5 |

Hypotheses are weighted by learned scores and the prior (docs/method.md says why). On 200 test people of parametric poses
alone, under the weights of the prior (evaluated in a copy of the work directory whose config.json says
data.people=synthetic_poses and data.options=num_people=2000,num_train=1000):

| | n = 1 | 5 | 10 | 25 |
|---|---|---|---|---|
| clean, as predicted | 46.9 | 42.6 | 39.7 | 36.3 |
| clean, refined | 38.2 | 33.1 | 32.1 | 30.5 |
| ambiguous, as predicted | 77.0 | 64.5 | 59.1 | 53.4 |
| ambiguous, refined | 71.1 | 54.5 | 51.8 | 48.3 |
| ambiguous, HMR refined / HMR + noise refined | 70.4 | 64.1 | 60.9 | 55.9 |

The 100 hypotheses are 2.5 (clean) and 3.2 pixels (ambiguous) of 224 from the visible keypoints on average. Eight minutes
saw 16 million views with M = 100; ten thousand steps of 64 views on 2 CPU cores, 100 minutes, gave 55.4 / 51.8 / 49.9 / 47.8
(clean, as predicted) and 76.7 / 69.1 / 65.2 / 61.2.
"""

from typing import Any

from configs import default, demo


def get_config() -> Any:
    c = default.add_fitting_factors(demo.get_config())
    c.data.augment = "wide"
    c.data.options = "num_train=1000,num_people=120000,pose_mix=0.5"

    c.model.width = 640
    c.model.hidden = 192

    c.quantizer.weights = "scores_and_prior"

    c.flow.width = 160
    c.flow.steps = 8000

    c.stage1.steps = 20000

    c.train.steps = 31000
    c.train.batch = 512
    c.optim.learning_rate = 1e-3
    c.optim.warmup = 500
    c.train.checkpoint_every = 5000
    c.train.log_every = 500
    c.optim.ema = 0.999

    c.eval.methods = (
        "main",
        *default.WEIGHTED,
        "random",
        "hmr",
        "hmr_noise",
        *default.FITTED,
        *default.FITTED_WEIGHTED,
    )
    c.eval.max_examples = 200
    return c
