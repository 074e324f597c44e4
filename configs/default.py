"""Every field of an experiment, with its default: the paper's setting on the embedded, licence-free data.

python run.py --config=configs/default.py --workdir=runs/default
"""

import functools
import importlib
import inspect
import pathlib
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder

METHODS = ("main", "uniform", "temperature_1", "hypothesis_0_kept", "quantized", "random", "all", "centroids")
FITTED = ("refined", "hmr_refined", "hmr_noise_refined", "smplify")  # Fits to keypoints: minutes for 1,000 examples.
# Other weights than those of the main row, before and after the fit; those of learned scores only with `model.scores`.
WEIGHTED = ("prior", "scores", "scores_and_prior", "expected")
FITTED_WEIGHTED = ("refined_prior", "refined_scores", "refined_expected")
CONTROLS = ("hmr", "hmr_noise", "codebook", "shuffled")  # They cost a second pass of the network; hmr_noise needs hmr.


def get_config() -> Any:  # A ConfigDict: type checkers cannot know its fields.
    c = ConfigDict()
    c.seed = 0
    c.init = placeholder(
        str
    )  # Work directory of a trained M = 1 model to start from (appendix D); None trains it here.
    # What does not train in stage two: None (everything trains) | trunk | loaded: everything that the M = 1 source has,
    # except the layers that became M times larger.
    c.freeze = placeholder(str)

    c.body = ConfigDict()
    c.body.dir = placeholder(
        str
    )  # Folder with SMPL_NEUTRAL.{pkl,npz} and its regressors; None: the embedded mannequin.
    c.body.allow_other = False  # Restore a checkpoint that was trained with another body.

    c.data = ConfigDict()
    c.data.dir = "data"  # Where TFDS datasets are built and read.
    # Poses and shapes for the prior and for virtual cameras: a dataset, or a file or folder of real poses (AMASS .npz, or
    # an array of SMPL axis-angles), from which the people of the embedded sets are drawn as well.
    c.data.people = "synthetic_poses"
    # Image sets that the regressor trains on; "a, b" is one source, in proportion to the sizes of a and b. None (keypoint
    # trunk only): views of `people` by virtual cameras, drawn in every step.
    c.data.sets = FieldReference(("synthetic_bodies/clean",))
    c.data.weights = (1.0,)  # Share of each set in every batch.
    c.data.occlusion = "paper"  # Training augmentation: none | paper (appendix B).
    # Flip, rotation, scale, colour: none | mild | spin (as strong as SPIN's) | wide: of virtual views, as photographs differ.
    c.data.augment = "spin"
    c.data.options = ""  # Other options of the builders, NAME=VALUE,NAME=VALUE: num_train=1000,pose_mix=0.5.

    c.model = ConfigDict()
    c.model.name = "multibodies"  # multibodies | hmr, or a baseline by its own config.
    c.model.trunk = "resnet50"  # resnet50 | resnet_small | keypoints | movenet
    c.model.head = "paper"  # paper: the final layer is M times larger.
    c.model.num_hypotheses = 100  # M; None: the checkpoint's, to evaluate and predict only.
    c.model.activation = "none"  # Between the head's layers: none (SPIN, foldable) | relu (HMR 2018).
    c.model.hidden = 1024  # Width of the head's two layers.
    c.model.dropout = 0.5  # After each of the head's layers, in training.
    # Spread of the hypotheses at the start of stage two, in units of the layer's own standard deviation.
    c.model.init_noise = 0.1
    c.model.crop_size = 224
    c.model.width = placeholder(int)  # resnet_small: channels of stage one (16); keypoints: of every layer (1024).
    c.model.dtype = "float32"  # Trunk only: float32 | bfloat16. Geometry is float32 at highest precision always.

    c.loss = ConfigDict()
    c.loss.reading = "paper"  # paper: norms, eqs (1), (5) to (7) | released: squares, as the authors' code.
    c.loss.mode0 = True  # Also train hypothesis 0 as if it were the best, so that it is a regressor of its own.
    c.loss.best = 25.0  # Factors of the terms of eq (8).
    c.loss.pose = 1.0
    c.loss.betas = 0.001
    c.loss.vertices = 1.0
    c.loss.vertex_stride = 1  # Every k-th vertex counts.
    c.loss.reprojection_best = 1.0
    c.loss.reprojection_all = 1.0  # Of eq (5), as a mean over the M hypotheses.
    c.loss.camera = 1.0  # Keeps camera scales positive (SPIN and the authors' code; not in the paper).

    c.flow = ConfigDict()
    c.flow.layers = 20
    c.flow.width = 512
    c.flow.dropout = 0.2
    c.flow.noise_mm = 5.0  # Added to centred joints, which are singular without it.
    c.flow.batch = 256
    c.flow.steps = 5000  # 0: no prior, for one hypothesis (M = 1); it is refined without one.
    c.flow.learning_rate = 5e-4

    c.quantizer = ConfigDict()
    c.quantizer.reading = "paper"  # paper | keep_first | released (plain Lloyd, as the authors' code)
    # Of the hypotheses: prior (eq 2) | uniform | scores | scores_and_prior: the learned scores of `model.scores`.
    c.quantizer.weights = "prior"
    c.quantizer.temperature = placeholder(float)  # On log p(X): 1 is eq (2) as printed; None: chosen on validation.
    c.quantizer.starts = 4
    c.quantizer.iterations = 30

    c.fitting = ConfigDict()  # Of bodies to visible keypoints (refinement, SMPLify).
    c.fitting.steps = 10

    c.optim = ConfigDict()
    c.optim.learning_rate = 1e-4
    c.optim.warmup = 100
    c.optim.weight_decay = 0.0  # Decoupled (AdamW).
    c.optim.clip = 5.0  # Largest norm of the gradient; inf: no clipping.
    c.optim.ema = placeholder(float)  # Decay of the averaged weights that are evaluated; None: no averaging.

    c.stage1 = ConfigDict()  # The M = 1 regressor that stage two starts from.
    c.stage1.steps = 20000
    c.stage1.batch = 64
    c.stage1.learning_rate = 1e-4

    c.train = ConfigDict()
    c.train.steps = 20000
    c.train.batch = 64
    # Micro-batches per step; 1 of the readings spin and graphcmr, whose means are of whole batches.
    c.train.accumulate = 1
    c.train.log_every = 50
    c.train.checkpoint_every = 500
    c.train.baseline = True  # Also train stage one on for the images of stage two: the HMR (M = 1) baseline.

    c.eval = ConfigDict()
    c.eval.sets = ("synthetic_bodies/clean", "synthetic_bodies/ambiguous")
    c.eval.split = "test"
    c.eval.batch = 50  # Examples on each device.
    c.eval.max_examples = placeholder(int)  # None: all.
    c.eval.ns = (1, 5, 10, 25)
    c.eval.protocol = (
        "strict"  # strict | released | h36m_p1 | h36m_p2 | 3dpw | mpi_inf_3dhp | each of these four + _strict.
    )
    c.eval.curve = placeholder(
        int
    )  # Largest n of a curve of quantized sets at every n; minutes on a CPU. None: no curve.
    c.eval.vertex_stride = 10  # Every k-th vertex counts in the vertex error.
    c.eval.hmr = placeholder(str)  # Work directory of the HMR of the controls; None: WORKDIR/hmr, if it is there.
    c.eval.methods = METHODS + CONTROLS  # Rows of the table, by name; those that a model lacks are left out.
    return c.lock()


def add_authors_fields(c: Any) -> Any:
    """Adds the fields that only the authors' implementation and SPIN's lists need; without them these values hold."""
    c.unlock()
    # True: frozen batch norms keep their running statistics. False: as the authors', they normalise with each batch's and
    # their averages drift.
    c.freeze_statistics = True
    c.data.crop = "exact"  # exact: continuous | spin: SPIN's rounding to whole pixels and its resampling.
    c.data.contrast_stretch = False  # Of spin crops: levels spread over 0..255.
    c.data.npz_dir = placeholder(str)  # SPIN-format lists (*.npz) and crops: sets named spin/LIST or spin/LIST+CROPS.
    c.data.image_dir = placeholder(str)  # Their images: root of a dataset, or a folder with one root for each.
    c.loss.vertex_set = "all"  # Vertices of the vertex loss: all | regressed: those that joints are.
    c.optim.schedule = "cosine"  # cosine | constant | step: x 0.1 from decay_step on.
    c.optim.decay_step = placeholder(int)  # The authors': after 15 epochs.
    c.optim.l2 = 0.0  # In the gradient, before Adam (the authors': 5e-4).
    c.eval.published = placeholder(str)  # Compare with the authors' numbers: h36m | 3dpw | ah36m | a3dpw.
    return c.lock()


def add_evaluation_of_others(c: Any) -> Any:
    """Adds the fields of configs that evaluate more than the work directory's own networks on sets like their own."""
    c.unlock()
    # Packed weights that are evaluated; the work directory then gets the results alone: embedded | the path of a file.
    c.eval.packed = placeholder(str)
    # Sets on whose validation splits everything is chosen for each of `eval.sets`; None: on their own.
    c.eval.chosen_on = placeholder(tuple)
    # Crops of sets that hide limbs: visible, around what is left (the paper's) | full: around the whole person, so that the
    # same person has the same crop with and without hidden limbs.
    c.eval.box = "visible"
    # The camera of refined bodies: network (a very long lens) | image: that of the image where it is known, as `predict`.
    c.fitting.lens = "network"
    return c.lock()


def add_fitting_factors(c: Any) -> Any:
    """Adds the factors of a fit, for configs with rows of fitted bodies; without them, and with None, they are chosen on
    the validation split by the row "refined"."""
    c.unlock()
    c.fitting.prior = placeholder(float)  # Of -log p(X).
    c.fitting.anchor = placeholder(float)  # Of the pull of local rotations to where they started.
    return c.lock()


def add_label_fields(c: Any) -> Any:
    """Adds the fields about the labels of image sets, for configs that train on images; without them these values hold."""
    c.unlock()
    c.data.withheld_3d = 0.0  # Share of the training examples whose 3D joints and SMPL parameters are withheld.
    # Fits in place of SMPL parameters that are missing: a work directory of configs/spin.py, or a folder of SPIN's files
    # (SET_fits.npy).
    c.data.fits = placeholder(str)
    return c.lock()


def optional(config: Any, path: str) -> Any:
    """The value of a field that not every config has, "data.crop"; without it, what holds (`optional_fields`)."""
    value = config
    for name in path.split("."):
        if name not in value:
            return optional_fields()[path]
        value = value[name]
    return value


@functools.cache
def optional_fields() -> dict[str, Any]:
    """The fields that only some configs have, by path, and what holds without them."""
    common, every = (_flat(config) for config in (get_config(), _with_every_field()))
    absent = {"data.cached_passes": None, "data.resident": False, "model.scores": False}
    return {path: value for path, value in every.items() if path not in common} | absent


def _with_every_field() -> Any:
    return add_label_fields(add_evaluation_of_others(add_fitting_factors(add_authors_fields(get_config()))))


def _flat(config: Any) -> dict[str, Any]:
    parts = {name: part for name, part in config.items() if isinstance(part, ConfigDict)}
    inner = {f"{name}.{field}": value for name, part in parts.items() for field, value in part.items()}
    return inner | {name: value for name, value in config.items() if name not in parts}


def add_scores(c: Any) -> Any:
    """Adds and switches on the head that says how probable each hypothesis is; without the field there is none."""
    c.unlock()
    # Probabilities of the hypotheses, learned beside them (`models.scores`): no other parameter changes by it. SMPL-MDN,
    # SMPL-CVAE and stages with M = 1 have none.
    c.model.scores = True
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
