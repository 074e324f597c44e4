"""Measures bodies against the truth of a protocol: each body once, every metric, then sets as choices among the measured."""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.body import smpl
from multibodies_jax.evaluation import metrics, protocols
from multibodies_jax.geometry import centring, joints
from multibodies_jax.hypotheses import hypotheses


class Scored(flax.struct.PyTreeNode):
    """What is measured of a body model: the joints of the metrics, and some vertices for the vertex error."""

    h36m: smpl.JointModel
    surface: smpl.SmplModel


class Scorer(flax.struct.PyTreeNode):
    """The bodies that measure and are measured.

    Attributes:
      neutral: of predictions, and of the truth where a protocol has no gendered one.
      j24: the joints that "by joint error" compares.
      gendered: male and female: the truth of protocols that want it.
    """

    neutral: Scored
    j24: smpl.JointModel
    gendered: tuple[Scored, Scored] | None = None


class Truth(flax.struct.PyTreeNode):
    """What is to be found; B leading, metres.

    Attributes:
      joints: those that the protocol compares, in its order, around any origin.
      roots: "pelvis" and, of given joints, "mid-hip": the points that may be subtracted from them.
      joints24: mid-hip centred; what "by joint error" compares with.
      valid24: 1 where such a joint is annotated.
      vertices: rooted at the pelvis; None where the truth is no body.
    """

    joints: Float[Array, "B J 3"]
    roots: dict[str, Float[Array, "B 3"]]
    joints24: Float[Array, "B 24 3"]
    valid24: Float[Array, "B 24"]
    vertices: Float[Array, "B V 3"] | None


@functools.partial(jax.jit, static_argnames="protocol")
def truth_of(scorer: Scorer, batch: dict[str, Array], protocol: protocols.Protocol) -> Truth:
    """The truth of a protocol and of its strict sibling, which differ in the root only."""
    given, given_valid = batch["joints3d"], batch["joints3d_valid"]
    midhip = centring.midhip(given)
    if protocol.truth == protocols.GIVEN:
        roots = {"pelvis": given[:, joints.J24.index("pelvis")], "mid-hip": midhip}
        compared = given[:, joints.index_map(joints.J24, protocol.joints)]
        return Truth(compared, roots, centring.centre(given), given_valid, None)
    joints17, vertices = _true_body(scorer, batch, gendered=protocol.truth == protocols.GENDERED)
    joints24 = smpl.joints(scorer.j24, batch["rotmats"], batch["betas"])
    return Truth(
        joints=joints17[:, joints.index_map(joints.H36M17, protocol.joints)],
        roots={"pelvis": joints17[:, 0]},
        joints24=centring.centre(joints24),
        valid24=jnp.ones_like(given_valid),
        vertices=vertices - joints17[:, :1],
    )


def _true_body(scorer: Scorer, batch: dict[str, Array], gendered: bool) -> tuple[Array, Array]:
    """Joints (B, 17, 3) and vertices (B, V, 3) of the true SMPL parameters on the neutral body, or on its own gender's."""
    rotmats, betas = batch["rotmats"], batch["betas"]
    scored = scorer.gendered if gendered else (scorer.neutral,)
    if scored is None:
        raise ValueError("There are no male and female bodies, against which this protocol scores.")
    found = [(smpl.joints(s.h36m, rotmats, betas), smpl.mesh(s.surface, rotmats, betas)) for s in scored]
    if not gendered:
        return found[0]
    female = (batch["gender"] == 1)[:, None, None]
    return jnp.where(female, found[1][0], found[0][0]), jnp.where(female, found[1][1], found[0][1])


# Function, and what of a pair of bodies it compares, by metric.
_METRICS: dict[str, tuple[Callable[..., Array], str]] = {
    "mpjpe": (metrics.mpjpe_mm, "rooted"),
    "pa_mpjpe": (metrics.pa_mpjpe_mm, "joints"),
    "vertex": (metrics.vertex_error_mm, "vertices"),
    "pa_vertex": (metrics.pa_mpjpe_mm, "vertices"),
    "pck150": (metrics.pck150, "rooted14"),
    "auc": (metrics.auc, "rooted14"),
}


@functools.partial(jax.jit, static_argnames="protocol")
def measure(
    scorer: Scorer, hyps: hypotheses.Hypotheses, truth: Truth, protocol: protocols.Protocol
) -> dict[str, Float[Array, "B M"]]:
    """Every metric of every hypothesis, under the protocol and (with its suffix) the strict sibling, and `squared24`."""
    joints17 = smpl.joints(scorer.neutral.h36m, hyps.rotmats, hyps.betas)
    surface = smpl.mesh(scorer.neutral.surface, hyps.rotmats, hyps.betas) - joints17[..., :1, :]
    pred = joints17[..., joints.index_map(joints.H36M17, protocol.joints), :] - joints17[..., :1, :]
    errors = {"squared24": metrics.squared24(hyps.joints24, truth.joints24, truth.valid24)}
    for suffix, one in protocols.both(protocol).items():
        target = (truth.joints - truth.roots[one.truth_root][:, None])[:, None]
        pairs = {
            "rooted": (pred, target),
            "rooted14": (pred[..., :14, :], target[..., :14, :]),  # Every protocol's joints begin with J14.
            "joints": (pred, truth.joints[:, None]),  # Alignment sees no root; one array for both, to be computed once.
            "vertices": (surface, None if truth.vertices is None else truth.vertices[:, None]),
        }
        errors |= {name + suffix: _METRICS[name][0](*pairs[_METRICS[name][1]]) for name in one.metrics}
    return errors


def of_sets(
    errors: dict[str, Array], index: Array | None = None, *, protocol: protocols.Protocol
) -> dict[str, Float[Array, "B"]]:
    """Errors of the sets that `index` (B, n) chooses among the measured (None: all), under the protocol and its sibling.

    Metrics that were not measured are left out.
    """
    if index is not None:
        errors = {name: jnp.take_along_axis(error, index, axis=1) for name, error in errors.items()}
    result = {}
    for suffix, one in protocols.both(protocol).items():
        own = {name: errors[name + suffix] for name in one.metrics if name + suffix in errors}
        reduced = metrics.reduce_set(own, one.selection, errors["squared24"])
        result |= {name + suffix: value for name, value in reduced.items()}
    return result
