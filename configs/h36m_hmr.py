r"""The single-hypothesis baseline (M = 1) on images of Human3.6M: S1, S5, S6, S7, S8, every fifth frame, protocol 2.

    python -m tfds_builders h36m --manual_dir=/data/h36m --data_dir=data
    python run.py --config=configs/h36m_hmr.py --workdir=runs/h36m_hmr --config.body.dir=BODY

For a GPU. SMPL losses count where examples have SMPL parameters (`h36m/official` has none without fits); 3D joints and
keypoints are always there. Its work directory starts the M-hypothesis stage (--config.init). Not run on the licensed
data, which is not ours to have; HMR (2018), with more training sets, has a reconstruction error of 56.8 mm there.
"""

from typing import Any

from configs import default


def get_config() -> Any:
    c = default.add_label_fields(default.add_authors_fields(default.get_config()))
    c.data.sets = ("h36m/official",)
    c.data.occlusion = "none"

    c.model.name = "hmr"
    c.model.num_hypotheses = 1
    c.loss.mode0 = False

    c.train.steps = 150_000  # 30 epochs.
    c.train.checkpoint_every = 2_000
    c.optim.learning_rate = 5e-5

    c.eval.sets = ("h36m/official",)
    c.eval.protocol = "h36m_p2"
    c.eval.ns = (1,)
    return c
