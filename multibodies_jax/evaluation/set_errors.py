"""What is measured of a set of bodies: the error of each body under every metric of a protocol, then that of the set.

Each of the M hypotheses is measured once; a set of n of them is a choice among the measured.
"""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax import exact
from multibodies_jax.batch import Target
from multibodies_jax.body import smpl
from multibodies_jax.evaluation import lenses, metrics, other_views, protocols
from multibodies_jax.geometry import centring, joints
from multibodies_jax.hypotheses import hypotheses, kmeans, quantize, weights

SINGLE = ("first", "most probable", "expected", "random")
"""Ways to take one hypothesis without the truth; see `single`."""

Measured = dict[str, Array]
"""Metric -> error (B, n) of each body, millimetres or percent, and "squared24" (`metrics.squared24`)."""


class Scored(flax.struct.PyTreeNode):
    """What is measured of a body model: the joints of the metrics, and some vertices for the vertex error."""

    h36m: smpl.JointModel
    surface: smpl.SmplModel


class Scorer(flax.struct.PyTreeNode):
    """The bodies that measure and are measured.

    Attributes:
      neutral: of predictions, and of the truth where a protocol has no gendered one.
      j24: the joints that "by joint error" compares.
      body: the neutral one with all of its vertices, for silhouettes; None measures none.
      gendered: male and female: the truth of protocols that want it.
    """

    neutral: Scored
    j24: smpl.JointModel
    gendered: tuple[Scored, Scored] | None = None
    body: smpl.SmplModel | None = None


class Truth(flax.struct.PyTreeNode):
    """What is to be found; B leading, metres.

    Attributes:
      joints: those that the protocol compares, in its order, around any origin.
      roots: "pelvis" and, of given joints, "mid-hip": the points that may be subtracted from them.
      joints24: mid-hip centred; what "by joint error" compares with.
      valid24: 1 where such a joint is annotated.
      vertices: rooted at the pelvis; None where the truth is no body.
      turn, views: of sets with several cameras (`other_views.error_px`); None of others.
    """

    joints: Float[Array, "B J 3"]
    roots: dict[str, Float[Array, "B 3"]]
    joints24: Float[Array, "B 24 3"]
    valid24: Float[Array, "B 24"]
    vertices: Float[Array, "B V 3"] | None
    turn: Float[Array, "B 3 3"] | None = None
    views: other_views.OtherViews | None = None


@functools.partial(jax.jit, static_argnames="protocol")
def truth_of(
    scorer: Scorer,
    target: Target,
    gender: Int[Array, "B"],
    protocol: protocols.Protocol,
    lens: lenses.Lens | None = None,
    views: other_views.OtherViews | None = None,
) -> Truth:
    """The truth of a protocol and of its strict sibling, which differ in the root only.

    Args:
      scorer: the bodies of the metrics.
      target: of the batch.
      gender: 0 (male) or 1; read by protocols with gendered truth.
      protocol: what is compared with what.
      lens: of the images; read by protocols that compare in the frame of the crop's camera.
      views: other cameras, where a set has them.
    """
    given, given_valid = target.joints3d, target.joints3d_valid
    if protocol.frame == protocols.CROP and lens is not None:
        given = exact.einsum("bca,bkc->bka", lens.turn, given)
    midhip = centring.midhip(given)
    if protocol.truth == protocols.GIVEN:
        roots = {"pelvis": given[:, joints.J24.index("pelvis")], "mid-hip": midhip}
        compared = given[:, joints.index_map(joints.J24, protocol.joints)]
        turn = None if lens is None or views is None else jnp.asarray(lens.turn)
        return Truth(compared, roots, centring.centre(given), given_valid, None, turn, views)
    joints17, vertices = _true_body(scorer, target, gender if protocol.truth == protocols.GENDERED else None)
    joints24 = smpl.joints(scorer.j24, target.rotmats, target.betas)
    return Truth(
        joints=joints17[:, joints.index_map(joints.H36M17, protocol.joints)],
        roots={"pelvis": joints17[:, 0]},
        joints24=centring.centre(joints24),
        valid24=jnp.ones_like(given_valid),
        vertices=vertices - joints17[:, :1],
    )


def _true_body(scorer: Scorer, target: Target, gender: Int[Array, "B"] | None) -> tuple[Array, Array]:
    """Joints (B, 17, 3) and vertices (B, V, 3) of the true SMPL parameters on the neutral body, or on its own gender's."""
    scored = (scorer.neutral,) if gender is None else scorer.gendered
    if scored is None:
        raise ValueError("There are no male and female bodies, against which this protocol scores.")
    found = [
        (smpl.joints(s.h36m, target.rotmats, target.betas), smpl.mesh(s.surface, target.rotmats, target.betas))
        for s in scored
    ]
    if gender is None:
        return found[0]
    female = (gender == 1)[:, None, None]
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
def measure(scorer: Scorer, hyps: hypotheses.Hypotheses, truth: Truth, protocol: protocols.Protocol) -> Measured:
    """Every metric of every hypothesis, under the protocol and (with its suffix) the strict sibling."""
    joints17 = smpl.joints(scorer.neutral.h36m, hyps.rotmats, hyps.betas)
    surface = smpl.mesh(scorer.neutral.surface, hyps.rotmats, hyps.betas)
    return measure_points(joints17, hyps.joints24, surface, truth, protocol)


@functools.partial(jax.jit, static_argnames="protocol")
def measure_points(
    joints17: Float[Array, "B M 17 3"],
    joints24: Float[Array, "B M 24 3"],
    vertices: Float[Array, "B M V 3"],
    truth: Truth,
    protocol: protocols.Protocol,
) -> Measured:
    """As `measure`, of bodies that are given by their points, metres.

    Args:
      joints17: in the order of `joints.H36M17`, around any origin.
      joints24: mid-hip centred.
      vertices: those that the scorer compares, around the origin of `joints17`.
      truth: of the protocol.
      protocol: what is compared with what.
    """
    surface = vertices - joints17[..., :1, :]
    pred = _compared(joints17, joints24, protocol)
    errors = {"squared24": metrics.squared24(joints24, truth.joints24, truth.valid24)}
    if truth.views is not None and truth.turn is not None:
        errors[other_views.METRIC] = other_views.error_px(joints24, truth.turn, truth.views)
    for suffix, one in protocols.both(protocol).items():
        target = (truth.joints - truth.roots[one.truth_root][:, None])[:, None]
        pairs = {
            "rooted": (pred, target),
            "rooted14": (pred[..., :14, :], target[..., :14, :]),  # Every protocol's joints begin with J14.
            "joints": (pred, truth.joints[:, None]),  # Alignment sees no root; one array for both, to be computed once.
            "vertices": (surface, None if truth.vertices is None else truth.vertices[:, None]),
        }
        known = (name for name in one.metrics if name in _METRICS)
        errors |= {name + suffix: _METRICS[name][0](*pairs[_METRICS[name][1]]) for name in known}
    return errors


@functools.partial(jax.jit, static_argnames="protocol")
def measure_centroids(
    pred: Float[Array, "B M J 3"],
    log_weights: Float[Array, "B M"],
    found: quantize.Quantized,
    truth: Truth,
    protocol: protocols.Protocol,
) -> Measured:
    """The joint errors of each cluster's weighted mean, which is a set of joints and no body.

    Args:
      pred: the joints of the protocol of each hypothesis (`compared_joints`).
      log_weights: of eq (2), unnormalised.
      found: the clusters.
      truth: of the protocol.
      protocol: its vertex errors are left out.
    """
    means = centroid_joints(pred, log_weights, found.assignment, found.medoid.shape[1])
    errors = {"squared24": metrics.squared24(found.centroid, truth.joints24, truth.valid24)}
    for suffix, one in protocols.both(protocol).items():
        target = truth.joints - truth.roots[one.truth_root][:, None]
        errors["mpjpe" + suffix] = metrics.mpjpe_mm(means, target[:, None])
        errors["pa_mpjpe" + suffix] = metrics.pa_mpjpe_mm(means, truth.joints[:, None])
    return errors


@functools.partial(jax.jit, static_argnames="protocol")
def compared_joints(
    scorer: Scorer, hyps: hypotheses.Hypotheses, protocol: protocols.Protocol
) -> Float[Array, "B M J 3"]:
    """The joints that a protocol compares, metres, rooted at the pelvis or, of J24, at the mid-hip."""
    return _compared(smpl.joints(scorer.neutral.h36m, hyps.rotmats, hyps.betas), hyps.joints24, protocol)


def _compared(
    joints17: Float[Array, "B M 17 3"], joints24: Float[Array, "B M 24 3"], protocol: protocols.Protocol
) -> Float[Array, "B M J 3"]:
    if protocol.regressor == protocols.J24:
        return joints24[..., joints.index_map(joints.J24, protocol.joints), :]
    return joints17[..., joints.index_map(joints.H36M17, protocol.joints), :] - joints17[..., :1, :]


def centroid_joints(
    points: Float[Array, "B M J 3"], log_weights: Float[Array, "B M"], assignment: Int[Array, "B M"], n: int
) -> Float[Array, "B n J 3"]:
    """The weighted mean of the joints of each cluster's members: the alternative to its medoid.

    Args:
      points: any set of joints of each hypothesis, rooted alike.
      log_weights: of eq (2), unnormalised.
      assignment: the cluster, 0 to n - 1, of each hypothesis.
      n: number of clusters; none is empty.
    """
    # Above the floor, so that a cluster of excluded hypotheses has a mean.
    log_w = weights.floored_below_peak(log_weights)
    _, share = jax.vmap(functools.partial(kmeans.shares, num=n))(log_w, assignment)
    return exact.einsum("bmk,bmja->bkja", share, points)


@jax.jit
def members(errors: Measured, index: Int[Array, "B n"]) -> Measured:
    """The errors of the bodies that `index` names among the M measured."""
    return {name: jnp.take_along_axis(error, index, axis=1) for name, error in errors.items()}


def of_sets(errors: Measured, protocol: protocols.Protocol) -> dict[str, Float[Array, "B"]]:
    """The error of each set from those of its members (MPJPE-n, RE-n), under the protocol and its strict sibling.

    Metrics come in the order of the protocol; those that were not measured are left out.
    """
    found = _of_sets(errors, protocol)
    names = (name + suffix for suffix, one in protocols.both(protocol).items() for name in one.metrics)
    return {name: found[name] for name in names if name in found}


@functools.partial(jax.jit, static_argnames="protocol")
def _of_sets(errors: Measured, protocol: protocols.Protocol) -> dict[str, Float[Array, "B"]]:
    result = {}
    for suffix, one in protocols.both(protocol).items():
        own = {name: errors[name + suffix] for name in one.metrics if name + suffix in errors}
        reduced = metrics.reduce_set(own, one.selection, errors["squared24"])
        result |= {name + suffix: value for name, value in reduced.items()}
    return result


@jax.jit
def single(errors: Measured, log_weights: Float[Array, "B M"]) -> dict[str, dict[str, Float[Array, "B"]]]:
    """The error of one body, taken without the truth.

    Args:
      errors: of each body.
      log_weights: of eq (2), unnormalised.

    Returns:
      For each of `SINGLE` metric -> (B,): hypothesis 0; the one of the largest weight (the first of equal ones); the
      mean error under the weights; the mean over bodies drawn with equal chances.
    """
    share = weights.normalized(log_weights)
    known, likeliest = jnp.all(jnp.isfinite(share), axis=1), jnp.argmax(share, axis=1)[:, None]
    found: dict[str, dict[str, Array]] = {name: {} for name in SINGLE}
    for metric, error in errors.items():
        if metric == "squared24":
            continue
        found["first"][metric] = error[:, 0]
        found["most probable"][metric] = jnp.where(known, jnp.take_along_axis(error, likeliest, axis=1)[:, 0], jnp.nan)
        found["expected"][metric] = jnp.sum(share * error, axis=1)
        found["random"][metric] = jnp.mean(error, axis=1)
    return found


@functools.partial(jax.jit, static_argnames="protocol")
def growing(errors: Measured, order: Int[Array, "B M"], protocol: protocols.Protocol) -> dict[str, Float[Array, "B M"]]:
    """Errors of the sets of the first 1, 2, ..., M bodies in an order: `of_sets` at every n in one pass.

    The metrics are those of `metrics.REPORTED`.
    """
    ordered = {name: jnp.take_along_axis(error, order, axis=1) for name, error in errors.items()}
    if protocol.selection == protocols.MINIMUM:
        return {name: jax.lax.cummin(ordered[name], axis=1) for name in metrics.REPORTED}
    least = jax.lax.cummin(ordered["squared24"], axis=1)
    before = jnp.pad(least[:, :-1], ((0, 0), (1, 0)), constant_values=jnp.inf)
    places = jnp.arange(least.shape[1])[None]
    best = jax.lax.cummax(jnp.where(ordered["squared24"] < before, places, 0), axis=1)
    broken = jnp.cumsum(~jnp.isfinite(ordered["squared24"]), axis=1) > 0  # No comparison with NaN is true.
    return {
        name: jnp.where(broken, jnp.nan, jnp.take_along_axis(ordered[name], best, axis=1)) for name in metrics.REPORTED
    }
