r"""GraphCMR (Kolotouros et al., CVPR 2019; Table 1): vertices by graph convolutions, and SMPL's parameters from them.

python run.py --config=configs/graphcmr.py --workdir=runs/graphcmr            # sized for CPUs, data of configs/demo.py
python run.py --config=configs/graphcmr.py:mixture:paper --workdir=...        # the published sizes, on real images, for a GPU
multibodies convert graphcmr model_checkpoint_h36m_extra2d.pt OUT --body.dir=BODY --mesh_downsampling=FILE
python run.py --mode=evaluate --config=configs/graphcmr.py:released:h36m --workdir=OUT ...          # published weights

Published weights belong to boxes of 1.0 times the masks of Human3.6M, SPIN's lists have 0.9: results name the factor.
Neither the published weights nor the licensed images were at hand, so nothing on them was run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config(base: str = "demo") -> Any:
    c = default.of(base)
    published, small = base.partition(":")[0] == "released", c.model.trunk in ("keypoints", "resnet_small")
    c.model.name = "graphcmr"
    c.model.head = "paper"
    c.model.num_hypotheses = 1
    c.unlock()
    c.graphcmr = ConfigDict()
    c.graphcmr.channels = 32 if small else 256  # Of the graph's layers; a multiple of 16.
    c.graphcmr.blocks = 3 if small else 5  # Residual blocks of that width.
    c.graphcmr.hidden = 256 if small else 1024  # Width of the regressor of SMPL's parameters.
    # Of its matrices: nearest | published (with which converted weights were trained).
    c.graphcmr.rotation = "published" if published else "nearest"
    # How weights begin: mean (variances are kept, the last layers are near the mean body) | published (the authors' bounds).
    c.graphcmr.start = "mean"
    c.lock()

    c.loss.reading = "graphcmr"
    c.loss.mode0 = False
    c.loss.best = 1.0  # Joints, square metres. All as in the authors' code.
    c.loss.pose = 1.0
    c.loss.betas = 0.1
    c.loss.vertices = 1.0
    c.loss.reprojection_best = 1.0
    c.loss.reprojection_all = 0.0
    c.loss.camera = 1.0 if small else 0.0  # Without it cameras collapse in short trainings.

    c.eval.ns = (1,)
    c.flow.steps = 0
    c.eval.methods = ("main", "graphcmr_mesh")
    if published:
        c.eval.published = None  # The authors' numbers there are of 3D-Multibodies.
    if small:  # A budget for two CPU cores.
        c.loss.vertex_stride = 5
        c.train.steps = 1000
        c.train.batch = 32
        c.optim.learning_rate = 1e-3
    elif not published:
        c.train.batch = 16
        c.optim.learning_rate = 3e-4
    return c
