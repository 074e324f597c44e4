"""Scores every method on one batch. Each body is measured once; a method is then a choice among measured bodies."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax import cameras, controls, hypotheses, inference, joints, metrics, prior, protocols, quantize, smpl
from multibodies_jax.inference import Regressor

OURS, UNIFORM, PRINTED, KEPT = (
    "ours",
    "ours, uniform weights",
    "ours, prior at temperature 1",
    "ours, hypothesis 0 kept",
)
RANDOM, HMR, NOISE = "random n of the M", "HMR (M = 1)", "HMR + tuned noise"
CODEBOOK, SHUFFLED = "image-independent", "ours, evidence shuffled"
CONTROLS = (RANDOM, NOISE, CODEBOOK)
OTHER = "other_"  # Prefix of the evidence of another example in a batch.
EVIDENCE = ("image", "kp2d", "kp2d_input")
TUNED = ("mpjpe", "pa_mpjpe")  # Metrics that the noise of NOISE is tuned for, each on its own; others take the first's.

Errors = dict[str, dict[str, dict[str, Array]]]  # method -> n -> metric -> (B,), millimetres.


class Scored(flax.struct.PyTreeNode):
    """What is measured of a body model: the joints of the metrics, and some vertices for the vertex error."""

    h36m: smpl.JointModel
    surface: smpl.SmplModel


class Panel(flax.struct.PyTreeNode):
    """Everything that is compared, as one argument of jit."""

    ours: Regressor
    density: prior.Prior
    scored: Scored  # The neutral body: of predictions, and of the truth where a protocol has no gendered one.
    books: Mapping[
        str, hypotheses.Hypotheses
    ]  # n -> image-independent set, leading axes (1, n); empty without controls.
    hmr: Regressor | None = None
    gendered: tuple[Scored, Scored] | None = None  # Male, female: the truth of protocols that want it.


@dataclasses.dataclass(frozen=True)
class Settings:
    """How sets are made and scored.

    Attributes:
      ns: sizes of the sets.
      protocol: what was compared with what.
      reading, weights, starts, iterations: of the quantizer (`quantize.select`), for OURS.
      temperature: of the prior's weights.
      noise: (metric, n) -> (root, pose) noise of NOISE, radians; empty without that control.
    """

    ns: tuple[int, ...]
    protocol: protocols.Protocol
    reading: str
    weights: str
    starts: int
    iterations: int
    temperature: float
    noise: Mapping[tuple[str, int], tuple[float, float]]


def judge(panel: Panel, batch: dict[str, Array], settings: Settings) -> tuple[Errors, dict[str, Array]]:
    """Errors of all methods at all n, and diagnostics of the full set of M hypotheses.

    Args:
      panel: the methods.
      batch: an evaluation batch (docs/interfaces.md, section 2), without `example_id`; SHUFFLED needs the evidence of
        other examples beside.
      settings: of the sets.
    """
    hyps = hypothesize(panel.ours, panel.density, batch)
    protocol = settings.protocol
    truth = truth_of(panel, batch, protocol)
    every = measure(panel, hyps, truth, protocol)
    of_set = functools.partial(of_sets, protocol=protocol)
    errors: Errors = {}
    for name, chosen in _choices(hyps, batch, settings).items():
        errors[name] = {str(n): of_set(every, index) for n, index in chosen.items()}
    if panel.hmr is not None:
        single = respond(panel.hmr, batch)
        errors[HMR] = {"1": of_set(measure(panel, single, truth, protocol))}
        if settings.noise:
            errors[NOISE] = {str(n): _noisy(panel, single, truth, batch, n, settings) for n in settings.ns}
    if panel.books:
        errors[CODEBOOK] = _codebook(panel, truth, len(batch["valid"]), settings)
    if panel.ours.num_hypotheses > 1 and any(key.startswith(OTHER) for key in batch):
        shuffled = hypothesize(panel.ours, panel.density, _shuffle(batch))
        first = quantized(shuffled, 1, example_keys(batch, 0), settings).medoid
        errors[SHUFFLED] = {"1": of_set(measure(panel, hypotheses.pick(shuffled, first), truth, protocol))}
    diagnostics = _diagnose(hyps, batch, truth, jnp.float32(settings.temperature))
    if panel.hmr is not None:
        diagnostics["hmr_reprojection_px"] = _reprojection(single, batch)
    return errors, diagnostics


@jax.jit
def hypothesize(regressor: Regressor, density: prior.Prior, batch: dict[str, Array]) -> hypotheses.Hypotheses:
    """Scored hypotheses (B, M) of a batch."""
    return inference.score(regressor(batch), density)


@jax.jit
def respond(regressor: Regressor, batch: dict[str, Array]) -> hypotheses.Hypotheses:
    """Hypotheses of a batch without their log-prior."""
    return regressor(batch)


def quantized(hyps: hypotheses.Hypotheses, n: int, keys: Array, settings: Settings, **other: Any) -> quantize.Quantized:
    """`quantize.select` under the settings; `other` replaces some of them."""
    fields = ("reading", "weights", "temperature", "starts", "iterations")
    return quantize.select(hyps, n, keys, **{name: getattr(settings, name) for name in fields} | other)


def _choices(hyps: hypotheses.Hypotheses, batch: dict[str, Array], settings: Settings) -> dict[str, dict[int, Array]]:
    """method -> {n: indices (B, n) into the M hypotheses}."""
    keys, m = example_keys(batch, 0), hyps.log_prior.shape[1]
    if m == 1:
        return {OURS: {1: jnp.zeros((len(keys), 1), jnp.int32)}}
    every = jnp.broadcast_to(jnp.arange(m)[None], (len(keys), m))
    random_keys = example_keys(batch, 1)
    variants = {
        OURS: {},
        UNIFORM: {"reading": "paper", "weights": "uniform"},
        PRINTED: {"reading": "paper", "weights": "prior", "temperature": 1.0},
        KEPT: {"reading": "keep_first"},
    }
    chosen = {
        name: {n: quantized(hyps, n, keys, settings, **other).medoid for n in settings.ns}
        for name, other in variants.items()
    }
    chosen[RANDOM] = {n: quantize.random_subset(m, n, random_keys) for n in settings.ns}
    return chosen | {f"all M = {m}": {m: every}}


def _shuffle(batch: dict[str, Array]) -> dict[str, Array]:
    """Gives every example the evidence of another one: its `other_...` entries."""
    return batch | {key.removeprefix(OTHER): value for key, value in batch.items() if key.startswith(OTHER)}


@functools.partial(jax.jit, static_argnames="purpose")
def example_keys(batch: dict[str, Array], purpose: int) -> Array:
    """One key per example, from its hash alone: no result depends on the batch or its order."""
    key = jax.random.key(purpose)
    return jax.vmap(lambda h: jax.random.fold_in(key, h))(batch["example_hash"])


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
def truth_of(panel: Panel, batch: dict[str, Array], protocol: protocols.Protocol) -> Truth:
    """The truth of a protocol and of its strict sibling, which differ in the root only."""
    given, given_valid = batch["joints3d"], batch["joints3d_valid"]
    midhip = jnp.mean(given[:, list(joints.MIDHIP_J24)], axis=1)
    if protocol.truth == protocols.GIVEN:
        roots = {"pelvis": given[:, joints.J24.index("pelvis")], "mid-hip": midhip}
        compared = given[:, joints.index_map(joints.J24, protocol.joints)]
        return Truth(compared, roots, given - midhip[:, None], given_valid, None)
    joints17, vertices = _true_body(panel, batch, gendered=protocol.truth == protocols.GENDERED)
    joints24 = smpl.joints(panel.ours.bodies.j24, batch["rotmats"], batch["betas"])
    return Truth(
        joints=joints17[:, joints.index_map(joints.H36M17, protocol.joints)],
        roots={"pelvis": joints17[:, 0]},
        joints24=joints24 - jnp.mean(joints24[:, list(joints.MIDHIP_J24)], axis=1, keepdims=True),
        valid24=jnp.ones_like(given_valid),
        vertices=vertices - joints17[:, :1],
    )


def _true_body(panel: Panel, batch: dict[str, Array], gendered: bool) -> tuple[Array, Array]:
    """Joints (B, 17, 3) and vertices (B, V, 3) of the true SMPL parameters on the neutral body, or on its own gender's."""
    rotmats, betas = batch["rotmats"], batch["betas"]
    scored = panel.gendered if gendered else (panel.scored,)
    if scored is None:
        raise ValueError("The panel has no male and female bodies, against which this protocol scores.")
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
    panel: Panel, hyps: hypotheses.Hypotheses, truth: Truth, protocol: protocols.Protocol
) -> dict[str, Float[Array, "B M"]]:
    """Every metric of every hypothesis, under the protocol and (with its suffix) the strict sibling, and `squared24`."""
    joints17 = smpl.joints(panel.scored.h36m, hyps.rotmats, hyps.betas)
    surface = smpl.mesh(panel.scored.surface, hyps.rotmats, hyps.betas) - joints17[..., :1, :]
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
    """Errors of the sets that `index` (B, n) chooses among the measured (None: all), under the protocol and its sibling."""
    if index is not None:
        errors = {name: jnp.take_along_axis(error, index, axis=1) for name, error in errors.items()}
    result = {}
    for suffix, one in protocols.both(protocol).items():
        own = {name: errors[name + suffix] for name in one.metrics}
        reduced = metrics.reduce_set(own, one.selection, errors["squared24"])
        result |= {name + suffix: value for name, value in reduced.items()}
    return result


def _noisy(panel, single, truth, batch, n: int, settings: Settings) -> dict[str, Array]:
    """Errors (B,) of HMR with noise: each metric under the noise that is best for it in sets of n."""
    keys, result = example_keys(batch, 2), {}
    for metric in TUNED:
        sigma = jnp.array(settings.noise[metric, n], jnp.float32)
        noisy = _perturb(single, max(settings.ns), keys, sigma, panel.ours.bodies.j24)
        errors = {name: error[:, :n] for name, error in measure(panel, noisy, truth, settings.protocol).items()}
        scores = of_sets(errors, protocol=settings.protocol)
        own = {metric, metric + protocols.STRICT}
        result |= {name: score for name, score in scores.items() if name in own or not result}
    return result


@functools.partial(jax.jit, static_argnames="n")
def _perturb(single, n: int, keys, sigma, joint_model) -> hypotheses.Hypotheses:
    return controls.perturb(single, n, keys, sigma[0], sigma[1], joint_model)


def _codebook(panel: Panel, truth: Truth, size: int, settings: Settings) -> dict[str, dict[str, Array]]:
    """Errors of the image-independent sets, all measured in one go."""
    together = hypotheses.concatenate([panel.books[str(n)] for n in settings.ns])
    everywhere = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape[1:])), together)
    errors = measure(panel, everywhere, truth, settings.protocol)
    result, start = {}, 0
    for n in settings.ns:
        part = {name: error[:, start : start + n] for name, error in errors.items()}
        result[str(n)], start = of_sets(part, protocol=settings.protocol), start + n
    return result


@jax.jit
def _diagnose(
    hyps: hypotheses.Hypotheses, batch: dict[str, Array], truth: Truth, temperature: Array
) -> dict[str, Array]:
    """Per example: spread of visible and hidden joints, 2D error, use of hypotheses, effective number."""
    seen = batch["kp2d_input"] > 0
    m = hyps.log_prior.shape[1]
    spread = metrics.joint_spread_mm(hyps.joints24, jnp.full(hyps.log_prior.shape, 1.0 / m))
    return {
        "spread_visible_mm": _mean_where(spread, seen),
        "spread_hidden_mm": _mean_where(spread, ~seen),
        "spread_mm": spread,
        "seen": seen,
        "reprojection_px": _reprojection(hyps, batch),
        "best_hypothesis": jnp.argmin(_joint_distance(hyps, truth), axis=1),
        "effective_printed": inference.effective_number(hyps.log_prior, 1.0),
        "effective_tuned": inference.effective_number(hyps.log_prior, temperature),
        "log_prior_spread": jnp.std(hyps.log_prior, axis=1),
    }


def _joint_distance(hyps: hypotheses.Hypotheses, truth: Truth) -> Float[Array, "B M"]:
    """Sum of the distances of the true J24 joints."""
    squared = jnp.sum(jnp.square(hyps.joints24 - truth.joints24[:, None]), axis=3)
    return jnp.sum(truth.valid24[:, None] * jnp.sqrt(squared), axis=2)


@jax.jit
def _reprojection(hyps: hypotheses.Hypotheses, batch: dict[str, Array]) -> Float[Array, "B"]:
    """Mean 2D error of all hypotheses on visible keypoints, in pixels of a 224-pixel crop."""
    projected = cameras.project_crop(hyps.joints24 + hyps.midhip[..., None, :], hyps.cam)
    return jnp.mean(metrics.reprojection_px(projected, batch["kp2d"], batch["kp2d_input"]), axis=1)


def _mean_where(values: Float[Array, "B 24"], where: Array) -> Float[Array, "B"]:
    """Mean over the joints that count; NaN where none does (left out of every average)."""
    total = jnp.sum(jnp.where(where, values, 0.0), axis=1)
    count = jnp.sum(where, axis=1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


@functools.partial(jax.jit, static_argnames=("ns", "protocol"))
def noisy_errors(
    panel: Panel,
    single: hypotheses.Hypotheses,
    batch: dict[str, Array],
    sigma: Float[Array, "2"],
    ns: tuple[int, ...],
    protocol: protocols.Protocol,
) -> Float[Array, "T N B"]:
    """Errors of the sets of HMR with noise (root, pose in radians), for each metric in TUNED and each n."""
    noisy = _perturb(single, max(ns), example_keys(batch, 2), sigma, panel.ours.bodies.j24)
    errors = measure(panel, noisy, truth_of(panel, batch, protocol), protocol)
    sets = [of_sets({name: error[:, :n] for name, error in errors.items()}, protocol=protocol) for n in ns]
    return jnp.stack([jnp.stack([scores[metric] for scores in sets]) for metric in TUNED])
