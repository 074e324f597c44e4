"""What an experiment is made of, read from its config: body, joint models, network, people; shared by train, evaluate and predict."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from configs import default
from multibodies_jax import exact, io, traced
from multibodies_jax.body import body_files
from multibodies_jax.body import smpl as smpl_lib
from multibodies_jax.geometry import centring, rotations
from multibodies_jax.models import build, scores


class Bodies(flax.struct.PyTreeNode):
    """The body of an experiment with its contracted joint regressors."""

    smpl: smpl_lib.SmplModel
    j24: smpl_lib.JointModel  # The 24 joints of training, prior and clustering.
    h36m: smpl_lib.JointModel  # The 17 joints of the metrics.
    files: body_files.BodyFiles = flax.struct.field(pytree_node=False)


def load_bodies(config: Any) -> Bodies:
    """Loads the body of a config and contracts it with its regressors."""
    files = body_files.load(config.body.dir or "")
    return Bodies(
        smpl=files.smpl,
        j24=smpl_lib.contract(files.smpl, files.j24_regressor),
        h36m=smpl_lib.contract(files.smpl, files.h36m_regressor),
        files=files,
    )


def network(config: Any, num_hypotheses: int) -> build.Network:
    """The model that a config trains in a stage with M = `num_hypotheses`: with one hypothesis most are HMR."""
    its = build.NETWORKS[config.model.name]
    return its if its.is_own(num_hypotheses) else build.NETWORKS["hmr"]


def build_model(
    config: Any, num_hypotheses: int, bodies: Bodies, mean_state: Sequence[float] | None = None
) -> nn.Module:
    """The network of a config with M = `num_hypotheses`, from the checkpoint's `mean_state` or, without one, the body's."""
    if mean_state is None:
        mean_state = np.concatenate([bodies.files.mean_rot6d, bodies.files.mean_betas, bodies.files.mean_cam]).tolist()
    return build.build(
        mean_state=np.array(mean_state, np.float32),
        name=config.model.name,
        trunk=config.model.trunk,
        head=config.model.head,
        num_hypotheses=num_hypotheses,
        hidden=config.model.hidden,
        dropout=config.model.dropout,
        activation=config.model.activation,
        init_noise=config.model.init_noise,
        frozen=freeze(config, num_hypotheses) if default.optional(config, "freeze_statistics") else "",
        crop_size=config.model.crop_size,
        width=config.model.width,
        dtype=config.model.dtype,
        own=build.NETWORKS[config.model.name].own(config),
        body=bodies.smpl,
    )


def score_head(config: Any, num_hypotheses: int) -> scores.ScoreHead | None:
    """The head that scores the hypotheses of a stage with M = `num_hypotheses`; None without `model.scores`.

    One hypothesis needs no score, and baselines with networks of their own have exchangeable hypotheses.
    """
    its = network(config, num_hypotheses)
    if not default.optional(config, "model.scores") or num_hypotheses == 1 or its.single or its.build is not None:
        return None
    return make_score_head(config, num_hypotheses)


def make_score_head(config: Any, num_hypotheses: int) -> scores.ScoreHead:
    """The head of a checkpoint that has scores, whatever `model.scores` says."""
    return scores.ScoreHead(num_hypotheses, keypoints=config.model.trunk == "keypoints")


def training_inputs(config: Any, num_hypotheses: int, bodies: Bodies) -> build.MakeInputs:
    """Makes what the network of a stage reads in training from a batch: for most of them its inputs."""
    its = network(config, num_hypotheses)
    if its.training_inputs is None:
        return lambda batch: batch.inputs
    return its.training_inputs(its.own(config), bodies.smpl, bodies.j24)


def targets(config: Any, bodies: Bodies, workdir: pathlib.Path) -> build.Targets | None:
    """What replaces the targets of training batches in all stages of a config; None: they are those of the data."""
    make = build.NETWORKS[config.model.name].targets
    return None if make is None else make(config, bodies, workdir)


def freeze(config: Any, num_hypotheses: int) -> str:
    """What `config.freeze` means for a stage with M = `num_hypotheses`: one hypothesis has nothing beside what it loaded."""
    return "" if config.freeze == "loaded" and num_hypotheses == 1 else config.freeze or ""


def zero_root_skeletons(
    bodies: Bodies, poses: Float[Array, "N 24 3"], betas: Float[Array, "N 10"]
) -> Float[Array, "N 72"]:
    """X of the prior: J24 with identity root rotation, mid-hip centred, metres (section 4.1, eq 4)."""

    def some(pose_betas):
        pose, betas = pose_betas
        rotmats = rotations.axis_angle_to_matrix(pose.at[0].set(0.0))
        points = smpl_lib.joints(bodies.j24, rotmats, betas)
        return centring.centre(points).reshape(72)

    return jax.lax.map(some, (poses, betas), batch_size=2048)


def centred_joints(bodies: Bodies, rotmats: Array, betas: Array) -> tuple[Array, Array]:
    """J24 of bodies, metres, mid-hip centred, and that mid-hip."""
    points = smpl_lib.joints(bodies.j24, rotmats, betas)
    return centring.centre(points), centring.midhip(points)[..., None, :]


def loss_bodies(config: Any, bodies: Bodies) -> Bodies:
    """The bodies with only those vertices that the loss compares: `loss.vertex_set` and `loss.vertex_stride`.

    An argument of the jitted step: as constants of its program the blend shapes would be megabytes to compile.
    """
    return bodies.replace(smpl=smpl_lib.subset(bodies.smpl, loss_vertices(config, bodies.files)))


def loss_vertices(config: Any, files: body_files.BodyFiles) -> Int[np.ndarray, "V"]:
    """The vertices that the loss compares, by index: `loss.vertex_set` and `loss.vertex_stride`."""
    every = np.arange(files.smpl.v_template.shape[0])
    chosen = files.regressed_vertices if default.optional(config, "loss.vertex_set") == "regressed" else every
    return chosen[:: config.loss.vertex_stride]


def regressed(regressor: Float[np.ndarray, "X V"], vertices: Float[Array, "*batch V 3"]) -> Float[Array, "*batch X 3"]:
    """Joints of whole meshes that are given by their vertices, in their unit and frame."""
    used = np.flatnonzero(np.any(regressor != 0, axis=0))
    return exact.einsum("xv,...va->...xa", jnp.asarray(regressor[:, used]), vertices[..., used, :])


def centred_mesh(bodies: Bodies, rotmats: Array, betas: Array) -> Array:
    """Vertices of bodies, metres, mid-hip centred."""
    return smpl_lib.mesh(bodies.smpl, rotmats, betas) - centred_joints(bodies, rotmats, betas)[1]


def enable_compilation_cache() -> None:
    """Keeps traced and compiled programs between runs, which saves most of a start; JAX_COMPILATION_CACHE_DIR chooses the folder."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(io.cache_folder() / "xla"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    traced.keep_in(pathlib.Path(folder) / "traced")
