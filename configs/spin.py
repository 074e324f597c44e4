r"""SPIN (Kolotouros et al., 2019): HMR trained with fits in the loop; by default sized for two CPU cores.

    python run.py --config=configs/spin.py --workdir=runs/spin            # keypoints, half of the people without 3D labels
    python run.py --config=configs/spin.py:synthetic --workdir=...        # small images, which take many more steps
    python run.py --config=configs/spin.py:mixture --workdir=...          # SPIN's sets and settings, for a GPU; :paper without LSPET

With --config.model.name=hmr the same labels are used without fits, with --config.data.withheld_3d=0 all 3D labels. On the
real sets it starts from ImageNet's trunk, --config.init=WORKDIR of `multibodies convert resnet50`, and from SPIN's fits,
--config.data.fits=FOLDER of its static fits, or else from SMPLify at the mean pose. Not run on the licensed archives.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import default

_STEPS = 50 * (312_188 // 64)  # SPIN: 50 epochs of the largest set, Human3.6M's.


def get_config(base: str = "keypoints") -> Any:
    real = base in ("mixture", "paper")
    of = {"keypoints": "synthetic", "mixture": "mixture:released", "paper": "mixture:paper"}.get(base, base)
    c = default.add_label_fields(default.of(of))
    small = base == "keypoints"  # Of the people of the embedded set.
    if small:
        c.model.trunk, c.model.hidden = "keypoints", 256
        c.data.options = "num_people=3000,num_train=4000"
    c.model.name = "spin"
    c.unlock()
    c.spin = ConfigDict()
    c.spin.fit = True  # Fit in every step; False: the first fits stay the labels.
    c.spin.solver = (
        "adam"  # adam, as SPIN | second_order, of which 2 steps (from the mean pose 5) do what 100 of Adam do.
    )
    c.spin.steps = 100  # Of the solver, in each of the two stages of a fit.
    # What the first stage of a fit looks at: visible, or, as SPIN, annotated (hips and shoulders also where they are hidden).
    c.spin.torso = "annotated" if real else "visible"
    c.spin.threshold = 100.0  # Mean squared distance of the 49 keypoints below which a fit is a label, pixels of 224.
    c.spin.mixture = placeholder(str)  # SMPLify's prior of the pose, gmm_08.pkl; None: one fitted to motion capture.
    c.lock()
    return _with_loop(c, real, 2000 if small else 3000) if base != "default" else c


def _with_loop(c: Any, real: bool, steps: int) -> Any:
    """SPIN's losses and one hypothesis; on the real sets also its optimiser and crops."""
    c.model.num_hypotheses = 1
    c.loss.reading = "spin"
    c.loss.mode0 = False
    # SPIN's 5, 1, 0.001, 0, 5 and 1, all times 60.
    c.loss.best, c.loss.pose, c.loss.betas, c.loss.vertices = 300.0, 60.0, 0.06, 0.0
    c.loss.reprojection_best, c.loss.reprojection_all, c.loss.camera = 300.0, 0.0, 60.0
    c.data.occlusion = "none"
    c.eval.ns = (1,)
    c.flow.steps = 0
    if not real:
        c.data.withheld_3d = 0.5
        c.train.steps, c.train.batch = steps, 32
        c.optim.clip = 300.0  # As elsewhere 5, times 60.
        c.optim.learning_rate = c.stage1.learning_rate
        return c
    c.model.head = "paper"
    c.freeze, c.freeze_statistics = None, True
    c.data.crop, c.data.contrast_stretch = "spin", True
    c.loss.vertex_set = "all"
    c.optim.learning_rate, c.optim.schedule, c.optim.warmup = 5e-5, "constant", 0
    c.optim.l2, c.optim.clip = 0.0, float("inf")
    c.train.steps, c.train.batch, c.train.checkpoint_every = _STEPS, 64, 10_000
    return c
