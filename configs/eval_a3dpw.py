r"""Scores a training of configs/mixture.py on 3DPW and on A3DPW, the same people in ambiguous crops (appendix B).

    python -m tfds_builders a3dpw/paper --manual_dir=/data/3dpw --data_dir=data
    python run.py --mode=evaluate --config=configs/eval_a3dpw.py:released --workdir=runs/mixture --config.body.dir=SMPL

Only the authors' crops are comparable with published numbers. Build them with `a3dpw/released_crops --crops=3dpw_amb3.npz`
and name the set as its folder is; they have no validation split to tune anything on:
--config.eval.sets='("a3dpw/released_crops-3dpw_amb3_1a2b3c4d",)' --config.quantizer.temperature=1.0 \
--config.eval.methods='("main",)' --config.eval.published=a3dpw
"""

from typing import Any

from configs import eval_3dpw


def get_config(name: str = "released") -> Any:
    c = eval_3dpw.get_config(name)
    c.eval.sets = ("threedpw/official", "a3dpw/paper")
    return c
