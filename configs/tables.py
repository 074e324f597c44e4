r"""What `make tables` trains: on two CPU cores heads on the features of one frozen trunk, images as evidence.

    python run.py --mode=train --config=configs/tables.py:trunk --workdir=TRUNK
    python run.py --config=configs/tables.py --workdir=DIR --config.init=TRUNK          # ours
    python run.py --config=configs/smpl_mdn.py:tables --workdir=DIR --config.init=TRUNK # likewise smpl_cvae, hmr

Every method has the same trunk, the same rows in the same order and as many of them; only its head learns. The head has
activations: without them a frozen trunk leaves an affine map.

`multibodies tables --base=tables:movenet` trains heads on the features of the detector's network (`multibodies fetch
detector` first), which finds joints better than a trunk of minutes and on photographs, too; images as evidence.
`--base=tables:keypoints` trains whole networks, keypoints as evidence: half an hour of two CPU cores for each seed. A GPU
trains longer, with `--base=tables:keypoints_gpu` (the recipe of the embedded weights with a tenth of its steps, for three
seeds) or `--base=tables:images_gpu` (configs/synthetic.py:gpu); benchmarks/gpu_tables.sh has both commands.
"""

from typing import Any

from configs import default, demo, pretrained, synthetic


def get_config(part: str = "heads") -> Any:
    if part in _WHOLE:
        return _WHOLE[part]()
    if part not in ("heads", "trunk"):
        raise ValueError(f"configs/tables.py:{part}: choose heads, trunk or {', '.join(_WHOLE)}.")
    c = synthetic.get_config()
    c.model.activation = "relu"
    c.loss.reading = "paper"
    c.flow.steps = 1000
    c.eval.vertex_stride = 50
    c.eval.methods = default.METHODS
    if part == "trunk":
        c.model.name = "hmr"
        c.model.num_hypotheses = 1
        c.train.steps = 6000
        c.train.batch = 32
        c.optim.learning_rate = 1e-3
        c.eval.ns = (1,)
        return c
    c.freeze = "trunk"
    c.unlock()
    # The features of this many augmented passes over `data.sets` are computed once, kept in data.dir/features and shared
    # by all trainings that start from the same trunk. Without this field the trunk runs in every step.
    c.data.cached_passes = 5
    c.lock()
    c.train.baseline = False  # HMR is a method of its own.
    c.train.steps = 1000
    c.train.batch = 64
    c.optim.learning_rate = 1e-3
    return c


def _movenet() -> Any:
    c = get_config()
    c.data.options = "num_people=30000,image_size=256"
    c.model.trunk = "movenet"
    c.model.crop_size = 256
    # Nearer to the joints at level MPJPE (docs/results/detector-network.md).
    c.loss.reprojection_best = c.loss.reprojection_all = 5.0
    c.data.cached_passes = 1
    c.stage1.steps = 6000
    c.stage1.batch = 64
    c.stage1.learning_rate = 5e-4
    c.train.steps = 1500
    c.optim.learning_rate = 5e-4
    c.optim.ema = 0.99
    c.eval.max_examples = 200
    return c


def _keypoints() -> Any:
    c = demo.get_config()
    c.model.width = 640
    c.model.hidden = 192
    c.flow.width = 160
    c.stage1.steps = 4000
    c.train.steps = 1500
    c.train.checkpoint_every = 250
    c.train.baseline = False
    c.optim.ema = 0.99
    c.eval.methods = default.METHODS
    c.eval.max_examples = 200
    return c


def _keypoints_on_gpu() -> Any:
    c = pretrained.get_config()
    c.data.options = "num_train=1000,num_people=120000"  # Parametric poses alone: no file of motion capture is needed.
    c.quantizer.weights = "prior"  # The paper's; scores are rows.
    c.flow.steps = 2000
    c.stage1.steps = 4000
    c.train.steps = 3000
    c.train.checkpoint_every = 1000
    c.train.baseline = False
    c.eval.methods = default.METHODS
    c.eval.max_examples = 1000
    return c


def _images_on_gpu() -> Any:
    c = synthetic.get_config("gpu")
    c.loss.reading = "paper"
    c.train.baseline = False
    c.eval.vertex_stride = 50
    c.eval.methods = default.METHODS
    return c


_WHOLE = {
    "movenet": _movenet,
    "keypoints": _keypoints,
    "keypoints_gpu": _keypoints_on_gpu,
    "images_gpu": _images_on_gpu,
}
