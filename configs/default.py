"""Every field of an experiment, with its default: the paper's setting on the embedded, licence-free data.

python run.py --config=configs/default.py --workdir=runs/default
"""

import importlib
import inspect
import pathlib
from typing import Any

from ml_collections import ConfigDict


def get_config() -> Any:  # A ConfigDict: type checkers cannot know its fields.
    c = ConfigDict()
    c.seed = 0
    c.init = ""  # Work directory of a trained M = 1 model to start from (appendix D); "" trains stage one here.
    # What does not train: "" nothing | trunk | loaded: in stage two, all that the M = 1 source had, but for what became M
    # times larger (head=paper: dec; head=released: layer5_2's conv3 and bn3, as the authors).
    c.freeze = ""
    # True: frozen batch norms keep their running statistics. False: as the authors', they normalise with each batch's
    # and their averages drift.
    c.freeze_statistics = True

    c.body = ConfigDict()
    c.body.dir = ""  # Folder with SMPL_NEUTRAL.{pkl,npz} and the regressors beside it; "" is the embedded mannequin.
    c.body.shape_components = 10
    c.body.allow_other = False  # Restore a checkpoint that was trained with another body.

    c.data = ConfigDict()
    c.data.dir = "data"  # Where TFDS datasets are built and read.
    c.data.people = "synthetic_poses"  # Poses and shapes for the prior (and for virtual cameras).
    c.data.sets = ("synthetic_bodies/clean",)  # Image sets the regressor trains on; "a, b" is one source, both by size.
    c.data.weights = (1.0,)  # Mixture of the sets: the share of each in every batch.
    c.data.virtual_cameras = False  # Keypoint trunk only: synthesise views of `people` instead of reading `sets`.
    c.data.occlusion = "paper"  # Training augmentation: none | paper (appendix B).
    c.data.augment = "spin"  # Flip, rotation, scale, colour: none | mild | spin (as strong as SPIN's).
    c.data.crop = "exact"  # exact: continuous | spin: SPIN's rounding to whole pixels and its resampling.
    c.data.contrast_stretch = False  # Of spin crops: levels spread over 0..255, as in the released code.
    c.data.npz_dir = ""  # SPIN-format lists (*.npz) and crops: sets named spin/LIST or spin/LIST+CROPS.
    c.data.image_dir = ""  # Their images: root of a dataset, or a folder with one root for each.
    c.data.num_train = 20000  # Builder options of the embedded sets.
    c.data.num_people = 50000
    c.data.image_size = 128
    c.data.poses = ""  # A file of real poses instead of the parametric generator.
    c.data.pose_mix = 1.0  # Share of people drawn from that file (the rest is parametric).
    c.data.options = ""  # Of the builders of the other sets, name=value,name=value: h36m_fits=DIR,jpeg_quality=95.
    c.data.threads = 2  # grain reader threads.
    # With freeze=trunk: the trunk's features of this many augmented passes over `sets` are computed once, kept in
    # data.dir/features and shared by all trainings that start from the same trunk. 0: the trunk runs in every step.
    c.data.cached_passes = 0

    c.model = ConfigDict()
    c.model.name = "multibodies"  # multibodies | hmr | smpl_mdn | smpl_cvae
    c.model.trunk = "resnet50"  # resnet50 | resnet_small | keypoints
    c.model.head = "paper"  # paper: final layer M times larger | released: authors' mode-wise stage 4 (resnet50 only).
    c.model.num_hypotheses = 100  # M; 0: the checkpoint's, to evaluate and predict only.
    c.model.iterations = 3
    c.model.activation = "none"  # Between the head's layers: none (SPIN, foldable) | relu (HMR 2018).
    c.model.hidden = 1024
    c.model.dropout = 0.5
    # Spread of the hypotheses at the start of stage two, in units of the layer's own std; the authors': 0.
    c.model.init_noise = 0.1
    c.model.crop_size = 224
    c.model.width = 16  # resnet_small: channels of the first stage; keypoints: see keypoint_width.
    c.model.keypoint_width = 1024
    c.model.keypoint_blocks = 3
    c.model.dtype = "float32"  # Trunk only: float32 | bfloat16. Geometry is float32 at highest precision always.

    c.loss = ConfigDict()
    c.loss.reading = "paper"  # paper: norms, eqs (1), (5)-(7) | released: squares, as the authors' code.
    c.loss.reduce = "mean"  # Eq (5) over M: mean | sum.
    c.loss.mode0 = (
        True  # Also train hypothesis 0 as if it were the best, so that n = 1 means something (released code).
    )
    c.loss.best = 25.0
    c.loss.pose = 1.0
    c.loss.betas = 0.001
    c.loss.vertices = 1.0
    c.loss.vertex_set = "all"  # Vertices of the vertex loss: all | regressed: those that joints are (authors' code).
    c.loss.vertex_stride = 1  # Every k-th of them.
    c.loss.reprojection_best = 1.0
    c.loss.reprojection_all = 1.0
    c.loss.camera = 1.0  # Keeps scales positive (released code; the paper has no such term).

    c.mdn = ConfigDict()  # SMPL-MDN, appendix C: binds model.name=smpl_mdn only.
    c.mdn.weight = 0.0001  # Of the mixture's negative log-likelihood, nats, beside the losses above.
    c.mdn.root = "shared"  # Global rotation: shared by all components (the paper's text) | mixture.
    c.mdn.sigma = 0.001
    c.mdn.sigma_means = "variance"  # Of sigma: variance (the paper's word, square radians) | std.
    c.mdn.learn_sigma = False  # The paper: both fixed was best.
    c.mdn.learn_alpha = False
    c.mdn.draw = "means"  # The M hypotheses evaluated: means (in random order) | samples of the mixture.

    c.cvae = ConfigDict()  # SMPL-CVAE, appendix C: binds model.name=smpl_cvae only.
    c.cvae.weight = 0.01  # Of the KL divergence, nats.
    c.cvae.anneal_steps = 0  # It rises linearly over the first so many steps.
    c.cvae.z_size = 64
    c.cvae.width = 512  # Of the encoder's and the decoder's own layers.
    c.cvae.vertex_stride = 20  # The encoder reads every k-th vertex of the true mesh.

    c.flow = ConfigDict()
    c.flow.layers = 20
    c.flow.width = 512
    c.flow.dropout = 0.2
    c.flow.noise_mm = 5.0  # Added to centred joints, which are singular without it; 0 = released.
    c.flow.batch = 256
    c.flow.steps = 5000
    c.flow.learning_rate = 5e-4

    c.quantizer = ConfigDict()
    c.quantizer.reading = "paper"  # paper | keep_first | released (plain Lloyd, as the authors' code)
    c.quantizer.weights = "prior"  # prior | uniform
    c.quantizer.temperature = (
        0.0  # On log p(X): 1 = eq (2) as printed; 0 = chosen by evaluation on the validation split.
    )
    c.quantizer.starts = 4
    c.quantizer.iterations = 30

    c.optim = ConfigDict()
    c.optim.learning_rate = 1e-4
    c.optim.warmup = 100
    c.optim.schedule = "cosine"  # cosine | constant | step: x 0.1 from decay_step on.
    c.optim.decay_step = 0  # In steps of the optimiser; the authors': after 15 epochs.
    c.optim.weight_decay = 0.0  # Decoupled (AdamW).
    c.optim.l2 = 0.0  # In the gradient, before Adam (the authors': 5e-4).
    c.optim.clip = 5.0
    c.optim.ema = 0.0  # Decay of the averaged weights that are evaluated; 0 = off.

    c.stage1 = ConfigDict()  # The M = 1 regressor that stage two starts from.
    c.stage1.steps = 20000
    c.stage1.batch = 64
    c.stage1.learning_rate = 1e-4

    c.train = ConfigDict()
    c.train.steps = 20000
    c.train.batch = 64
    c.train.accumulate = 1  # Micro-batches per step.
    c.train.log_every = 50
    c.train.checkpoint_every = 500
    c.train.keep = 2
    c.train.baseline = True  # Also train stage one on for the images of stage two: the HMR (M = 1) baseline.

    c.eval = ConfigDict()
    c.eval.sets = ("synthetic_bodies/clean", "synthetic_bodies/ambiguous")
    c.eval.split = "test"
    c.eval.batch = 50
    c.eval.max_examples = 0  # 0 = all.
    c.eval.ns = (1, 5, 10, 25)
    c.eval.protocol = (
        "strict"  # strict | released | h36m_p1 | h36m_p2 | 3dpw | mpi_inf_3dhp | each of these four + _strict.
    )
    c.eval.published = ""  # Compare with the authors' numbers: h36m | 3dpw | ah36m | a3dpw.
    c.eval.vertex_stride = 10
    c.eval.curve = 0  # Largest n of a curve: quantized sets at every n from 1 to it; up to M, minutes on a CPU.
    c.eval.hmr = ""  # Work directory of the single-hypothesis HMR of the controls; "" is WORKDIR/hmr, if it is there.
    c.eval.controls = True  # What the hypotheses have to beat; costs a second pass of the network.
    return c.lock()


def of(base: str) -> Any:
    """The config that another one builds upon: NAME or NAME:ARGUMENT, of configs/NAME.py.

    Raises:
      ValueError: there is no such file, or it takes no argument.
    """
    name, _, argument = base.partition(":")
    known = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[!_]*.py"))
    if name not in known:
        raise ValueError(f"There is no config {name!r} to build upon; choose one of {', '.join(known)}.")
    get = importlib.import_module(f"configs.{name}").get_config
    if argument and not inspect.signature(get).parameters:
        raise ValueError(f"configs/{name}.py takes no argument, got {argument!r}.")
    return get(argument) if argument else get()
