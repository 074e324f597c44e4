r"""SMPL-CVAE (appendix C): a conditional variational autoencoder, on the trunk, data and budget of another config.

python run.py --config=configs/smpl_cvae.py --workdir=runs/smpl_cvae          # as configs/demo.py, in minutes
python run.py --config=configs/smpl_cvae.py:multibodies --workdir=...         # ResNet-50; any config without M = 1
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config(base: str = "demo") -> Any:
    c = default.of(base)
    c.model.name = "smpl_cvae"
    c.unlock()
    c.cvae = ConfigDict()
    c.cvae.weight = 0.01  # Of the KL divergence, nats.
    c.cvae.anneal_steps = 0  # It rises linearly over this many steps.
    c.cvae.z_size = 64
    c.cvae.width = 512  # Of the encoder's and the decoder's own layers.
    c.cvae.vertex_stride = 20  # The encoder reads every k-th vertex of the true mesh.
    return c.lock()
