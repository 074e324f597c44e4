r"""Scores a training of configs/mixture.py on the test split of 3DPW, with bodies of each person's gender.

    python -m tfds_builders threedpw --manual_dir=/data/3dpw --data_dir=data
    python run.py --mode=evaluate --config=configs/eval_3dpw.py:released --workdir=runs/mixture --config.body.dir=SMPL

The argument is that of configs/mixture.py. The folder of bodies needs SMPL_MALE and SMPL_FEMALE too. Any other training
is scored by its own config with --config.eval.sets='("threedpw/official",)' --config.eval.protocol=3dpw.
"""

from typing import Any

from configs import mixture


def get_config(name: str = "released") -> Any:
    c = mixture.get_config(name)
    c.eval.sets = ("threedpw/official",)
    c.eval.protocol = "3dpw"
    return c
