"""Scores every method on one batch. Each body is measured once; a method is then a choice among measured bodies."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax import cameras, controls, hypotheses, inference, joints, metrics, prior, quantize, smpl
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


class Panel(flax.struct.PyTreeNode):
    """Everything that is compared, as one argument of jit."""

    ours: Regressor
    density: prior.Prior
    surface: smpl.SmplModel  # The vertices on which the vertex error is taken.
    books: Mapping[
        str, hypotheses.Hypotheses
    ]  # n -> image-independent set, leading axes (1, n); empty without controls.
    hmr: Regressor | None = None


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
    protocol: metrics.Protocol
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
      batch: an evaluation batch (docs/interfaces.md, section 2), without `example_id`.
      settings: of the sets.
    """
    hyps = hypothesize(panel.ours, panel.density, batch)
    truth = truth_of(panel, batch)
    every = measure(panel, hyps, truth)
    of_set = functools.partial(_of_set, protocol=settings.protocol)
    errors: Errors = {}
    for name, chosen in _choices(hyps, batch, settings).items():
        errors[name] = {str(n): of_set(every, index) for n, index in chosen.items()}
    if panel.hmr is not None:
        single = respond(panel.hmr, batch)
        errors[HMR] = {"1": of_set(measure(panel, single, truth))}
        if settings.noise:
            errors[NOISE] = {str(n): _noisy(panel, single, truth, batch, n, settings) for n in settings.ns}
    if panel.books:
        errors[CODEBOOK] = _codebook(panel, truth, len(batch["valid"]), settings)
    m = panel.ours.num_hypotheses
    if m > 1:
        shuffled = hypothesize(panel.ours, panel.density, _shuffle(batch))
        first = quantized(shuffled, 1, example_keys(batch, 0), settings).medoid
        errors[SHUFFLED] = {"1": of_set(measure(panel, hypotheses.pick(shuffled, first), truth))}
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
    """The body that is to be found; B leading."""

    joints17: Float[Array, "B 17 3"]
    joints24: Float[Array, "B 24 3"]
    vertices: Float[Array, "B V 3"]


@jax.jit
def truth_of(panel: Panel, batch: dict[str, Array]) -> Truth:
    """Joints and vertices of the true SMPL parameters, in the body's own frame; joints24 mid-hip centred."""
    bodies, (rotmats, betas) = panel.ours.bodies, (batch["rotmats"], batch["betas"])
    joints24 = smpl.joints(bodies.j24, rotmats, betas)
    return Truth(
        joints17=smpl.joints(bodies.h36m, rotmats, betas),
        joints24=joints24 - jnp.mean(joints24[:, list(joints.MIDHIP_J24)], axis=1, keepdims=True),
        vertices=smpl.mesh(panel.surface, rotmats, betas),
    )


@jax.jit
def measure(panel: Panel, hyps: hypotheses.Hypotheses, truth: Truth) -> dict[str, Float[Array, "B M"]]:
    """Errors of every hypothesis: MPJPE, RE, vertex error (rooted at the pelvis), and the J24 error of the authors' choice."""
    joints17 = smpl.joints(panel.ours.bodies.h36m, hyps.rotmats, hyps.betas)
    surface = smpl.mesh(panel.surface, hyps.rotmats, hyps.betas) - joints17[..., :1, :]
    true_surface = (truth.vertices - truth.joints17[:, :1])[:, None]
    return {
        "mpjpe": metrics.mpjpe14_mm(joints17, truth.joints17),
        "pa_mpjpe": metrics.pa_mpjpe14_mm(joints17, truth.joints17),
        "vertex": metrics.vertex_error_mm(surface, true_surface),
        "squared24": jnp.mean(jnp.square(hyps.joints24 - truth.joints24[:, None]), axis=(2, 3)),
    }


def _of_set(errors: dict[str, Array], index: Array | None = None, *, protocol: metrics.Protocol) -> dict[str, Array]:
    """Errors (B,) of the sets that `index` (B, n) chooses, by the protocol's selection."""
    if index is not None:
        errors = {name: jnp.take_along_axis(error, index, axis=1) for name, error in errors.items()}
    return metrics.reduce_set({k: v for k, v in errors.items() if k != "squared24"}, errors["squared24"], protocol)


def _noisy(panel, single, truth, batch, n: int, settings: Settings) -> dict[str, Array]:
    """Errors (B,) of HMR with noise: each metric under the noise that is best for it in sets of n."""
    keys, result = example_keys(batch, 2), {}
    for metric in TUNED:
        sigma = jnp.array(settings.noise[metric, n], jnp.float32)
        noisy = _perturb(single, max(settings.ns), keys, sigma, panel.ours.bodies.j24)
        errors = {name: error[:, :n] for name, error in measure(panel, noisy, truth).items()}
        scores = _of_set(errors, protocol=settings.protocol)
        result = scores if not result else result | {metric: scores[metric]}
    return result


@functools.partial(jax.jit, static_argnames="n")
def _perturb(single, n: int, keys, sigma, joint_model) -> hypotheses.Hypotheses:
    return controls.perturb(single, n, keys, sigma[0], sigma[1], joint_model)


def _codebook(panel: Panel, truth: Truth, size: int, settings: Settings) -> dict[str, dict[str, Array]]:
    """Errors of the image-independent sets, all measured in one go."""
    together = hypotheses.concatenate([panel.books[str(n)] for n in settings.ns])
    everywhere = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape[1:])), together)
    errors = measure(panel, everywhere, truth)
    result, start = {}, 0
    for n in settings.ns:
        part = {name: error[:, start : start + n] for name, error in errors.items()}
        result[str(n)], start = _of_set(part, protocol=settings.protocol), start + n
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
        "best_hypothesis": jnp.argmin(metrics.mpjpe_mm(hyps.joints24, truth.joints24[:, None]), axis=1),
        "effective_printed": inference.effective_number(hyps.log_prior, 1.0),
        "effective_tuned": inference.effective_number(hyps.log_prior, temperature),
        "log_prior_spread": jnp.std(hyps.log_prior, axis=1),
    }


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


@functools.partial(jax.jit, static_argnames="ns")
def noisy_errors(
    panel: Panel, single: hypotheses.Hypotheses, batch: dict[str, Array], sigma: Float[Array, "2"], ns: tuple[int, ...]
) -> Float[Array, "T N B"]:
    """Errors of the sets of HMR with noise (root, pose in radians), for each metric in TUNED and each n."""
    bodies = panel.ours.bodies
    noisy = _perturb(single, max(ns), example_keys(batch, 2), sigma, bodies.j24)
    joints17 = smpl.joints(bodies.h36m, noisy.rotmats, noisy.betas)
    target17 = smpl.joints(bodies.h36m, batch["rotmats"], batch["betas"])
    errors = jnp.stack([metrics.mpjpe14_mm(joints17, target17), metrics.pa_mpjpe14_mm(joints17, target17)])
    return jnp.stack([jnp.min(errors[:, :, :n], axis=2) for n in ns], axis=1)
