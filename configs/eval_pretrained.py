r"""Scores the weights that ship with the package on the embedded sets; trains nothing, and needs no work directory before.

python run.py --mode=evaluate --config=configs/eval_pretrained.py --workdir=runs/eval_pretrained
"""

from typing import Any

from configs import default, pretrained


def get_config() -> Any:
    c = default.add_evaluation_of_others(pretrained.get_config())
    c.data.options = "num_train=1000,num_people=2000"
    c.eval.packed = "embedded"
    return c
