r"""Images as evidence, on two CPU cores: a small ResNet on 64-pixel crops of the embedded people, 100 hypotheses.

python run.py --config=configs/synthetic.py --workdir=runs/synthetic
python run.py --config=configs/synthetic.py:gpu --workdir=runs/synthetic_gpu    # crops of 112 pixels, for a GPU
"""

from typing import Any

from configs import default, demo


def get_config(machine: str = "cpu") -> Any:
    if machine not in ("cpu", "gpu"):
        raise ValueError(f"configs/synthetic.py takes cpu or gpu, got {machine!r}.")
    c = default.add_label_fields(demo.get_config())
    c.data.sets = ("synthetic_bodies/clean",)
    c.unlock()
    # Keep all images of data.sets on the device and augment them there: on a GPU, many times faster (`data/resident.py`).
    c.data.resident = False
    c.lock()
    c.data.options = "num_people=30000"

    c.model.trunk = "resnet_small"
    c.model.crop_size = 64

    c.loss.reading = "released"

    c.flow.steps = 1500

    c.stage1.steps = 8000
    c.stage1.batch = 32
    c.stage1.learning_rate = 1e-3

    c.train.steps = 2500
    c.train.batch = 32
    c.optim.learning_rate = 5e-4
    c.optim.ema = 0.998
    return _for_gpu(c) if machine == "gpu" else c


def _for_gpu(c: Any) -> Any:
    """A wider trunk on crops of 112 pixels; the images stay on the device, because no processor feeds it as fast.

    One H200 makes 168 steps per second of stage one and 135 with M = 100 (43,000 and 34,500 images per second), and compiles
    each for 35 s.
    """
    c.data.resident = True
    c.data.options = "num_people=30000,num_train=40000"

    c.model.crop_size = 112
    c.model.width = 48
    c.model.hidden = 128
    c.model.dtype = "bfloat16"

    c.flow.width = 160

    c.stage1.steps = 16000
    c.stage1.batch = 256

    c.train.steps = 12000
    c.train.batch = 256
    c.train.checkpoint_every = 4000
    c.train.log_every = 200
    return c
