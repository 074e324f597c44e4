r"""The paper's network: ResNet-50 at 224 pixels, M = 100, on the embedded people; for a GPU.

python run.py --config=configs/multibodies.py --workdir=runs/multibodies --config.data.options=image_size=256
"""

from typing import Any

from configs import default


def get_config() -> Any:
    return default.get_config()
