r"""The paper's network on real images, for a GPU: the sets of the paper, or those of the released code.

    multibodies convert spin model_checkpoint.pt SPIN --body.dir=SMPL
    python run.py --mode=train --config=configs/mixture.py:released --workdir=runs/mixture --config.body.dir=SMPL \
        --config.init=SPIN

paper: Human3.6M, MPI-INF-3DHP, LSP, MPII, COCO (section 5, which gives no proportions). released: LSPET too, and the
shares of SPIN's training: 30 % Human3.6M, 60 % images in the wild by the size of their sets, 10 % MPI-INF-3DHP; `paper` takes
the same shares. `released` also sets what their code trains with: network, losses, crops, optimiser and freezing, from SPIN's
converted weights (--config.init); M = 100 is inferred from their logs. Build the sets first (tfds_builders/README.md), and say their options here too:
--config.data.options=jpeg_quality=95,static_fits=/data/static_fits,h36m_fits=/data/mosh. Only images with SMPL parameters
feed the losses on pose, shape and vertices. Not run on the licensed archives.
"""

from typing import Any

from configs import default

_IN_THE_WILD = {
    "paper": "lsp/spin, mpii/spin, coco2014/spin",
    "released": "lsp/spin, lspet/spin, mpii/spin, coco2014/spin",
}

_EPOCH = 312_188  # Images: the largest set, Human3.6M's; the authors divide it by a number that is not published.


def get_config(name: str = "released") -> Any:
    if name not in _IN_THE_WILD:
        raise ValueError(f"configs/mixture.py:{name}: choose one of {', '.join(_IN_THE_WILD)}.")
    c = default.add_label_fields(default.add_authors_fields(default.get_config()))
    c.data.sets = ("h36m/official", _IN_THE_WILD[name], "mpi_inf_3dhp/spin")
    c.data.weights = (0.3, 0.6, 0.1)
    c.data.people = "amass"  # The paper: the skeletons of the training images, which needs SMPL for all of Human3.6M.

    c.optim.learning_rate = 1e-5  # Of stage two; stage one is SPIN's HMR.
    c.stage1.learning_rate = 5e-5

    c.eval.sets = ("h36m/official",)
    c.eval.protocol = "h36m_p2"
    if name == "released":
        _train_as_the_authors(c)
    return c


def _train_as_the_authors(c: Any) -> None:
    """What their code trains with, where it differs from the paper (docs/interfaces.md, section 5)."""
    c.model.head = "released"
    c.model.init_noise = 0.0  # Dropout alone tells the hypotheses apart.
    c.freeze = "loaded"
    c.freeze_statistics = False

    c.data.crop = "spin"
    c.data.contrast_stretch = True

    c.loss.reading = "released"
    c.loss.vertex_set = "regressed"

    c.optim.l2 = 5e-4
    c.optim.schedule = "step"
    c.optim.decay_step = 15 * _EPOCH // 48
    c.optim.warmup = 0
    c.optim.clip = float("inf")
    c.train.batch = 48
