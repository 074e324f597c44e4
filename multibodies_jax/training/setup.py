"""What an experiment is made of, read from its config: body, joint models, network, people; shared by train, evaluate and predict."""

import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from configs import default
from multibodies_jax.baselines import smpl_mdn
from multibodies_jax.body import body_files
from multibodies_jax.body import smpl as smpl_lib
from multibodies_jax.data import augment, pipeline, spin_lists
from multibodies_jax.evaluation import protocols
from multibodies_jax.geometry import joints, rotations
from multibodies_jax.hypotheses import quantize
from multibodies_jax.models import registry
from multibodies_jax.released import published
from multibodies_jax.training import checkpoints

_CHOICES = {
    "model.name": tuple(registry.MODELS),
    "model.trunk": ("resnet50", "resnet_small", "keypoints"),
    "model.head": registry.HEADS,
    "model.activation": ("none", "relu"),
    "model.dtype": ("float32", "bfloat16"),
    "loss.reading": ("paper", "released"),
    "loss.reduce": ("mean", "sum"),
    "loss.vertex_set": ("all", "regressed"),
    "mdn.root": smpl_mdn.ROOTS,
    "mdn.sigma_means": smpl_mdn.SIGMA_MEANS,
    "mdn.draw": smpl_mdn.DRAWS,
    "quantizer.reading": quantize.READINGS,
    "quantizer.weights": ("prior", "uniform"),
    "optim.schedule": ("cosine", "constant", "step"),
    "data.occlusion": ("none", "paper"),
    "data.augment": ("none", "mild", "spin"),
    "data.crop": augment.CROPS,
    "freeze": ("", "trunk", "loaded"),
    "eval.protocol": tuple(protocols.PROTOCOLS),
    "eval.published": ("", *published.NAMES),
    "eval.split": ("train", "validation", "test"),
}
_POSITIVE = (
    *("model.iterations", "train.steps", "train.batch", "train.accumulate", "train.log_every"),
    *(
        "train.checkpoint_every",
        "train.keep",
        "stage1.steps",
        "stage1.batch",
        "flow.layers",
        "flow.steps",
        "flow.batch",
    ),
    *("quantizer.starts", "quantizer.iterations", "eval.batch", "eval.vertex_stride"),
    *("cvae.z_size", "cvae.width", "cvae.vertex_stride"),
)
_OWN = {"smpl_mdn": "mdn", "smpl_cvae": "cvae"}  # The part of the config that a model has alone.
# Fields that may differ between the run that trained a work directory and one that uses it.
_FREE_FIELDS = (
    "eval",
    "quantizer",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep",
    "data.dir",
    "data.npz_dir",
    "data.image_dir",
    "data.threads",
    "mdn.draw",
    "body.dir",  # The fingerprint of the body guards this one.
    "body.allow_other",
)


class Bodies(flax.struct.PyTreeNode):
    """The body of an experiment with its contracted joint regressors."""

    smpl: smpl_lib.SmplModel
    j24: smpl_lib.JointModel  # The 24 joints of training, prior and clustering.
    h36m: smpl_lib.JointModel  # The 17 joints of the metrics.
    files: body_files.BodyFiles = flax.struct.field(pytree_node=False)


def load_bodies(config: Any) -> Bodies:
    """Loads the body of a config and contracts it with its regressors."""
    files = body_files.load(config.body.dir, config.body.shape_components)
    return Bodies(
        smpl=files.smpl,
        j24=smpl_lib.contract(files.smpl, files.j24_regressor),
        h36m=smpl_lib.contract(files.smpl, files.h36m_regressor),
        files=files,
    )


def validate(config: Any) -> None:
    """Checks the fields whose values are names or bounded numbers; the message lists the choices."""
    for path, choices in _CHOICES.items():
        if (value := _field(config, path)) not in choices:
            raise ValueError(f"config.{path} is {value!r}; choose one of {', '.join(map(repr, choices))}.")
    for path in _POSITIVE:
        if _field(config, path) < 1:
            raise ValueError(f"config.{path} is {_field(config, path)}; it must be at least 1.")
    if config.train.batch % config.train.accumulate:
        raise ValueError(
            f"config.train.accumulate = {config.train.accumulate} must divide config.train.batch = {config.train.batch}."
        )
    if config.data.virtual_cameras and config.model.trunk != "keypoints":
        raise ValueError("config.data.virtual_cameras makes no images: it needs config.model.trunk='keypoints'.")
    if config.data.crop == "spin" and config.model.trunk == "keypoints":
        raise ValueError("config.data.crop='spin' is about images: config.model.trunk='keypoints' sees none.")
    if config.data.contrast_stretch and config.data.crop != "spin":
        raise ValueError("config.data.contrast_stretch is a part of SPIN's crops: it needs config.data.crop='spin'.")
    if config.model.head == "released" and config.model.trunk != "resnet50":
        raise ValueError("config.model.head='released' reads a map of config.model.trunk='resnet50'.")
    _validate_baselines(config)
    if config.optim.schedule == "step" and config.optim.decay_step < 1:
        raise ValueError(
            "config.optim.schedule='step' needs the step of the decay: config.optim.decay_step, at least 1."
        )
    if config.eval.max_examples == 1 or not config.eval.ns:
        raise ValueError(
            "Intervals need config.eval.max_examples of 2 or more (0 = all) and config.eval.ns at least one n."
        )
    if config.model.num_hypotheses < 0:
        raise ValueError(
            f"config.model.num_hypotheses is {config.model.num_hypotheses}; it is 1 or more, or 0: the checkpoint's."
        )
    most = config.model.num_hypotheses or max(config.eval.ns)
    too_many = [n for n in config.eval.ns if not 1 <= n <= most]
    if too_many and config.model.num_hypotheses != 1:
        raise ValueError(
            f"config.eval.ns asks for n = {too_many}; n goes from 1 to M = config.model.num_hypotheses = {config.model.num_hypotheses}."
        )


def _validate_baselines(config: Any) -> None:
    name, m = config.model.name, config.model.num_hypotheses
    if name in _OWN and (m == 1 or config.model.head != "paper"):
        raise ValueError(
            f"config.model.name={name!r} has several hypotheses and the paper's head: set config.model.num_hypotheses "
            f"to 2 or more (it is {m}) and config.model.head='paper'."
        )
    if name == "hmr" and m > 1:
        raise ValueError(
            f"config.model.name='hmr' has one hypothesis: set config.model.num_hypotheses to 1 (it is {m})."
        )
    if not config.mdn.sigma > 0:
        raise ValueError(f"config.mdn.sigma is {config.mdn.sigma}; a variance or standard deviation is above 0.")
    if (
        min(config.mdn.weight, config.cvae.weight, config.cvae.anneal_steps, config.data.cached_passes) < 0
        or config.eval.curve < 0
    ):
        raise ValueError(
            "config.mdn.weight, cvae.weight, cvae.anneal_steps, data.cached_passes and eval.curve must not be negative."
        )
    if config.data.cached_passes and (
        config.freeze != "trunk" or not config.freeze_statistics or not config.init or config.data.virtual_cameras
    ):
        raise ValueError(
            "config.data.cached_passes keeps the features of a trunk that does not change: it needs config.freeze='trunk', "
            "config.freeze_statistics=True, config.init=WORKDIR of a trained trunk, and config.data.virtual_cameras=False."
        )


def _field(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


def build_model(config: Any, num_hypotheses: int, bodies: Bodies, mean_state: Sequence[float] | None = None) -> Any:
    """The network of a config with M = `num_hypotheses`, from the checkpoint's `mean_state` or, without one, the body's."""
    if mean_state is None:
        mean_state = np.concatenate([bodies.files.mean_rot6d, bodies.files.mean_betas, bodies.files.mean_cam]).tolist()
    frozen = freeze(config, num_hypotheses) if config.freeze_statistics else ""
    return registry.build(
        mean_state=np.array(mean_state, np.float32),
        **{**config.model, "num_hypotheses": num_hypotheses, "frozen": frozen, "own": _own_fields(config, bodies)},
    )


def _own_fields(config: Any, bodies: Bodies) -> dict[str, Any]:
    """The module fields that only this model has."""
    if config.model.name == "smpl_mdn":
        return {name: config.mdn[name] for name in config.mdn if name != "weight"}
    if config.model.name == "smpl_cvae":
        return {
            "z_size": config.cvae.z_size,
            "width": config.cvae.width,
            "vertices": len(encoded_vertices(config, bodies)),
        }
    return {}


def encoded_vertices(config: Any, bodies: Bodies) -> np.ndarray:
    """The vertices of the true mesh that SMPL-CVAE's encoder reads, by index."""
    return np.arange(0, len(bodies.smpl.v_template), config.cvae.vertex_stride)


def freeze(config: Any, num_hypotheses: int) -> str:
    """What `config.freeze` means for a stage with M = `num_hypotheses`: one hypothesis has nothing beside what it loaded."""
    return "" if config.freeze == "loaded" and num_hypotheses == 1 else config.freeze


def dataset_options(config: Any) -> dict[str, Any]:
    """The builder options of all sets of a config."""
    import tfds_builders

    d = config.data
    return tfds_builders.parse_options(d.options) | {
        "num_train": d.num_train,
        "num_people": d.num_people,
        "image_size": d.image_size,
        "poses": d.poses,
        "pose_mix": d.pose_mix,
        "body_dir": config.body.dir,
    }


def open_source(config: Any, name: str, split: str) -> Any:
    """The random-access examples of a split: of a SPIN-format list (`spin/...`), or of a set, built if it is missing.

    Several names with commas between them are one source, of which each set is a share in proportion to its size.
    """
    if "," in name:
        return pipeline.Concatenated([open_source(config, one.strip(), split) for one in name.split(",")])
    if name.startswith(spin_lists.PREFIX):
        return spin_lists.open_set(name, split, config.data.npz_dir, config.data.image_dir)
    import tfds_builders

    return tfds_builders.source(name, split, config.data.dir, **dataset_options(config))


def build_data(config: Any) -> None:
    """Builds what training reads, if it is missing."""
    for name in (config.data.people, *(() if config.data.virtual_cameras else config.data.sets)):
        open_source(config, name, "train")


def evaluation_row(config: Any, record: augment.Record) -> dict[str, Any]:
    """One row of an evaluation batch.

    Raises:
      ValueError: the example lacks the truth that the protocol scores against, or belongs to another protocol.
    """
    with_image = config.model.trunk != "keypoints"
    row = augment.evaluation_example(
        record,
        config.model.crop_size,
        with_image=with_image,
        crop=config.data.crop,
        contrast_stretch=config.data.contrast_stretch,
    )
    hint = record["protocol_hint"]
    protocols.check_example(
        protocols.get(config.eval.protocol), row, hint.decode() if isinstance(hint, bytes) else str(hint)
    )
    return row


def source_name(config: Any, name: str) -> str:
    """The full name of a set, with its version and every option not at its default, or its files' fingerprints."""
    if name.startswith(spin_lists.PREFIX):
        return spin_lists.describe(name, config.data.npz_dir)
    import tfds_builders

    return tfds_builders.make_builder(name, config.data.dir, **dataset_options(config)).info.full_name


def load_people(config: Any, split: str) -> tuple[Float[np.ndarray, "N 24 3"], Float[np.ndarray, "N 10"]]:
    """Poses (axis-angle, upright root) and shapes of all people of a split, in memory."""
    source = open_source(config, config.data.people, split)
    rows = source.__getitems__(range(len(source)))  # All at once: many times faster than one by one.
    return np.stack([r["pose"] for r in rows]), np.stack([r["betas"] for r in rows])


def zero_root_skeletons(
    bodies: Bodies, poses: Float[Array, "N 24 3"], betas: Float[Array, "N 10"]
) -> Float[Array, "N 72"]:
    """X of the prior: J24 with identity root rotation, mid-hip centred, metres (section 4.1, eq 4)."""

    def some(pose_betas):
        pose, betas = pose_betas
        rotmats = rotations.axis_angle_to_matrix(pose.at[0].set(0.0))
        points = smpl_lib.joints(bodies.j24, rotmats, betas)
        return (points - jnp.mean(points[jnp.array(joints.MIDHIP_J24)], axis=0, keepdims=True)).reshape(72)

    return jax.lax.map(some, (poses, betas), batch_size=2048)


def centred_joints(bodies: Bodies, rotmats: Array, betas: Array) -> tuple[Array, Array]:
    """J24 of bodies, metres, mid-hip centred, and that mid-hip."""
    points = smpl_lib.joints(bodies.j24, rotmats, betas)
    midhip = jnp.mean(points[..., list(joints.MIDHIP_J24), :], axis=-2, keepdims=True)
    return points - midhip, midhip


def encoded_mesh(config: Any, bodies: Bodies) -> Callable[[dict], Array]:
    """The vertices of the truth that SMPL-CVAE encodes, (B, V, 3), metres, mid-hip centred; zeros without truth."""
    some = smpl_lib.subset(bodies.smpl, encoded_vertices(config, bodies))

    def encoded(batch: dict) -> Array:
        valid = batch["smpl_valid"] > 0
        rotmats = jnp.where(valid[:, None, None, None], batch["rotmats"], jnp.eye(3)[None, None])
        betas = jnp.where(valid[:, None], batch["betas"], 0.0)
        return smpl_lib.mesh(some, rotmats, betas) - centred_joints(bodies, rotmats, betas)[1]

    return encoded


def check_workdir(config: Any, workdir: pathlib.Path, create: bool = False) -> None:
    """Refuses a work directory that another config made; with `create`, claims an empty one for this config.

    One with converted weights binds only the fields that these decide, and takes no training.

    Raises:
      ValueError: it is another config's (the fields that differ are listed), or nothing was trained there.
    """
    path = workdir / "config.json"
    ours = training_fields(json.loads(config.to_json_best_effort()))
    if create and not config.model.num_hypotheses:
        raise ValueError("config.model.num_hypotheses=0 takes M from a checkpoint; training needs a number.")
    if not path.exists():
        if not create:
            raise ValueError(f"Nothing was trained in {workdir}: check --workdir, or run --mode=train with it first.")
        workdir.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(json.loads(config.to_json_best_effort()), indent=1) + "\n")
        os.replace(temporary, path)
        return
    stored = json.loads(path.read_text())
    converted = stored.pop("converted", None)
    if converted and create:
        raise ValueError(
            f"{workdir} holds converted weights ({converted}): train in another --workdir, with --config.init={workdir}."
        )
    theirs = training_fields(stored)
    if not converted and (
        added := set(ours) - set(theirs)
    ):  # By a later version: what is not stored was as it is by default.
        usual = default_fields(config.model.name)
        theirs |= {field: usual[field] for field in added & set(usual)}
    if not config.model.num_hypotheses:
        ours["model.num_hypotheses"] = theirs.get("model.num_hypotheses")
    if converted:
        ours = {field: value for field, value in ours.items() if field in theirs}
    different = [
        f"  {k}: {theirs.get(k)!r} there, {ours.get(k)!r} now"
        for k in sorted(ours | theirs)
        if ours.get(k) != theirs.get(k)
    ]
    if different:
        raise ValueError(
            f"{workdir} was made by another config:\n"
            + "\n".join(different[:10])
            + "\nUse another --workdir, set these fields back, or delete that folder."
        )


def training_fields(tree: dict, prefix: str = "") -> dict[str, Any]:
    """The fields of a config (as in config.json) that decide what is trained, flat: "loss.best" -> 25.0."""
    if not prefix:  # What is another model's binds nobody.
        tree = {k: v for k, v in tree.items() if k not in _OWN.values() or k == _OWN.get(tree["model"].get("name", ""))}
    flat = {}
    for key, value in tree.items():
        path = prefix + key
        if path in _FREE_FIELDS:
            continue
        flat.update(training_fields(value, path + ".") if isinstance(value, dict) else {path: value})
    return flat


def default_fields(model: str) -> dict[str, Any]:
    """The `training_fields` of configs/default.py for a model, by `config.model.name`."""
    config = default.get_config()
    config.model.name = model
    return training_fields(json.loads(config.to_json_best_effort()))


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs (about ten seconds of every start); JAX_COMPILATION_CACHE_DIR chooses the folder."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "multibodies_jax" / "xla"
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(default)))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def metadata(config: Any, bodies: Bodies) -> dict[str, Any]:
    """What every checkpoint and result says about its origin."""
    return {
        "config": json.loads(config.to_json_best_effort()),
        "commit": checkpoints.git_commit(),
        "body": bodies.files.description,
        "body_fingerprint": bodies.files.fingerprint,
    }
