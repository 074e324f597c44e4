"""What an experiment is made of, read from its config: body, joint models, network, people; shared by train, evaluate and predict."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax.body import body_files
from multibodies_jax.body import smpl as smpl_lib
from multibodies_jax.geometry import centring, rotations
from multibodies_jax.models import registry


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


def encoded_mesh(config: Any, bodies: Bodies) -> Callable[[dict], Array]:
    """The vertices of the truth that SMPL-CVAE encodes, (B, V, 3), metres, mid-hip centred; zeros without truth."""
    some = smpl_lib.subset(bodies.smpl, encoded_vertices(config, bodies))

    def encoded(batch: dict) -> Array:
        valid = batch["smpl_valid"] > 0
        rotmats = jnp.where(valid[:, None, None, None], batch["rotmats"], jnp.eye(3)[None, None])
        betas = jnp.where(valid[:, None], batch["betas"], 0.0)
        return smpl_lib.mesh(some, rotmats, betas) - centred_joints(bodies, rotmats, betas)[1]

    return encoded


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs (about ten seconds of every start); JAX_COMPILATION_CACHE_DIR chooses the folder."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "multibodies_jax" / "xla"
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(default)))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
