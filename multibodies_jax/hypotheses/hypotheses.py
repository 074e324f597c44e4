"""Sets of weighted bodies: what every model returns and all that follows reads."""

import functools
from collections.abc import Sequence
from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax import exact, traced
from multibodies_jax.body import smpl
from multibodies_jax.geometry import cameras, centring, rotations

STATE_SIZE = 157
"""Numbers that describe one body: 144 of 24 six-dimensional rotations, 10 of shape, 3 of the crop camera."""

VERTICES = "vertices"
"""What networks that predict a mesh beside the state sow into the collection "extras" (`decode`)."""


@traced.register
@no_type_check  # Tree operations fill it with shapes, shardings or NumPy arrays as well.
@flax.struct.dataclass
class Hypotheses:
    """Bodies with their cameras; any leading axes, usually (B, M).

    Attributes:
      rotmats: SMPL rotations, the root in the camera frame of the crop.
      betas: SMPL shape.
      cam: (s, tx, ty) of each hypothesis' own crop camera.
      joints24: J24 joints, metres, mid-hip centred, with the predicted root.
      midhip: the mid-hip in the body model's own frame, metres: `joints24 + midhip` is what the camera projects.
      log_prior: log p(X) of eq (4) at zero root; zeros until scored.
      log_scores: logarithm of the probability that each hypothesis is the nearest to the truth, as a score head foresees it
        (`models.scores`); None of a network without one.
      vertices: a mesh that a network predicted by itself, not from these parameters, metres, in the frame that `cam`
        projects; None of a network without one.
    """

    rotmats: Float[Array, "*batch 24 3 3"]
    betas: Float[Array, "*batch 10"]
    cam: Float[Array, "*batch 3"]
    joints24: Float[Array, "*batch 24 3"]
    midhip: Float[Array, "*batch 3"]
    log_prior: Float[Array, "*batch"]
    log_scores: Float[Array, "*batch"] | None = None
    vertices: Float[Array, "*batch V 3"] | None = None


@functools.partial(jax.jit, inline=True)
def decode(
    state: Float[Array, "*batch 157"],
    joint_model: smpl.JointModel,
    vertices: Float[Array, "*batch V 3"] | None = None,
) -> Hypotheses:
    """Turns the numbers a regressor predicts into bodies; no mesh is built.

    Args:
      state: 24 rotations in six dimensions (144), shape (10) and camera (3), in this order.
      joint_model: the body contracted with the J24 regressor, `smpl.contract(body, j24_regressor)`.
      vertices: a mesh that the network predicted beside.

    Returns:
      The bodies, with `log_prior` zero.
    """
    pose, betas, cam = split_state(state)
    rotmats = rotations.rot6d_to_matrix(pose.reshape(*pose.shape[:-1], 24, 6))
    points = smpl.joints(joint_model, rotmats, betas)
    midhip = centring.midhip(points)
    return Hypotheses(
        rotmats=rotmats,
        betas=betas,
        cam=cam,
        joints24=points - midhip[..., None, :],
        midhip=midhip,
        log_prior=jnp.zeros_like(midhip[..., 0]),
        vertices=vertices,
    )


def split_state(
    state: Float[Array, "*batch 157"],
) -> tuple[Float[Array, "*batch 144"], Float[Array, "*batch 10"], Float[Array, "*batch 3"]]:
    """Views the state as pose (six-dimensional rotations), shape and camera."""
    return state[..., :144], state[..., 144:154], state[..., 154:]


def projected_joints(
    hypotheses: Hypotheses, focal: Float[Array, "*#batch"] | float = cameras.FOCAL
) -> Float[Array, "*batch 24 2"]:
    """pi(X_m) of eqs (5) and (7): the joints of every hypothesis through its own camera, in [-1, 1] of the crop.

    Args:
      hypotheses: with their cameras.
      focal: of these cameras, in half-sides of the crop.
    """
    points = hypotheses.joints24 + hypotheses.midhip[..., None, :]
    return cameras.project_crop(points, hypotheses.cam, focal)


@functools.partial(jax.jit, inline=True)
def zero_root_joints(hypotheses: Hypotheses) -> Float[Array, "*batch 24 3"]:
    """The prior's X: the J24 joints as they were with an identity root rotation, mid-hip centred, metres.

    The rows of the regressor sum to 1, so that turning the root only turns the joints about a point, and centring
    removes the point. Undoing the turn is therefore exact and needs no second pass through the body.
    """
    root = hypotheses.rotmats[..., 0, :, :]
    return exact.einsum("...ba,...kb->...ka", root, hypotheses.joints24)


@functools.partial(jax.jit, inline=True)
def pick(hypotheses: Hypotheses, index: Int[Array, "B n"]) -> Hypotheses:
    """The n hypotheses of each example that `index` names, from leading axes (B, M) to (B, n).

    Indices must lie in [0, M): an index outside gives NaN, never a wrong body.
    """

    def gather(x: Array) -> Array:
        rows = index.reshape(*index.shape, *(1,) * (x.ndim - 2))
        return jnp.take_along_axis(x, rows, axis=1, mode="fill", fill_value=jnp.nan)

    return jax.tree.map(gather, hypotheses)


def concatenate(parts: Sequence[Hypotheses]) -> Hypotheses:
    """Joins sets of hypotheses of the same examples along M."""
    if not parts:
        raise ValueError("concatenate needs at least one set of hypotheses, got none.")
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *parts)
