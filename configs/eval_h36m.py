r"""Scores a training of configs/h36m_hmr.py on Human3.6M's protocol 1 or 2, built without the training images.

    python -m tfds_builders h36m/p2 --manual_dir=/data/h36m --data_dir=data
    python run.py --mode=evaluate --config=configs/eval_h36m.py:p2 --workdir=runs/h36m_hmr --config.body.dir=BODY

What the training said in --config.data.options has to be said here too, and to the build (--h36m_fits=DIR). Any other
training is scored by its own config with --config.eval.sets='("h36m/p2",)' --config.eval.protocol=h36m_p2.
"""

from typing import Any

from configs import h36m_hmr

_PROTOCOLS = ("p1", "p2")


def get_config(protocol: str = "p2") -> Any:
    if protocol not in _PROTOCOLS:
        raise ValueError(f"configs/eval_h36m.py:{protocol}: choose one of {', '.join(_PROTOCOLS)}.")
    c = h36m_hmr.get_config()
    c.eval.sets = (f"h36m/{protocol}",)
    c.eval.protocol = f"h36m_{protocol}"
    return c
