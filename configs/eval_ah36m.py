r"""Scores a training of configs/mixture.py on Human3.6M's protocol 2 and on AH36M, the same people in ambiguous crops.

    python -m tfds_builders ah36m/paper --manual_dir=/data/h36m --data_dir=data
    python run.py --mode=evaluate --config=configs/eval_ah36m.py:released --workdir=runs/mixture --config.body.dir=SMPL

Only the authors' crops are comparable with published numbers; they are built and named as configs/eval_a3dpw.py says
(`ah36m/released_crops --crops=h36m-p2_amb3.npz --frame_offset=1`, --config.eval.published=ah36m).
"""

from typing import Any

from configs import mixture


def get_config(name: str = "released") -> Any:
    c = mixture.get_config(name)
    c.eval.sets = ("h36m/official", "ah36m/paper")
    c.eval.protocol = "h36m_p2"
    return c
