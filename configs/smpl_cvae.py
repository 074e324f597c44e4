r"""SMPL-CVAE (appendix C): a conditional variational autoencoder, on the trunk, data and budget of another config.

python run.py --config=configs/smpl_cvae.py --workdir=runs/smpl_cvae          # as configs/demo.py, in minutes
python run.py --config=configs/smpl_cvae.py:multibodies --workdir=...         # ResNet-50; any config without M = 1
"""

from typing import Any

from configs import default


def get_config(base: str = "demo") -> Any:
    c = default.of(base)
    c.model.name = "smpl_cvae"
    return c
