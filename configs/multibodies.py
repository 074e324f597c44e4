r"""The paper's network: ResNet-50 at 224 pixels, M = 100, on the embedded people; for a GPU.

python run.py --config=configs/multibodies.py --workdir=runs/multibodies --config.data.options=image_size=256
python run.py --config=configs/multibodies.py --workdir=... --config.data.fits=runs/spin      # fits as labels where there are none
"""

from typing import Any

from configs import default


def get_config() -> Any:
    return default.add_label_fields(default.get_config())
