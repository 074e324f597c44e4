"""Scores every method on one batch. Each body is measured once; a method is then a choice among measured bodies."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.baselines import controls
from multibodies_jax.body import smpl
from multibodies_jax.evaluation import calibration, choices, diagnostics, metrics, protocols, set_errors
from multibodies_jax.geometry import joints
from multibodies_jax.hypotheses import hypotheses, quantize
from multibodies_jax.hypotheses.weights import posterior_weights, tempered
from multibodies_jax.training import inference, prior
from multibodies_jax.training.inference import Regressor

OURS, UNIFORM, PRINTED, KEPT = (
    "ours",
    "ours, uniform weights",
    "ours, prior at temperature 1",
    "ours, hypothesis 0 kept",
)
CENTROIDS = "ours, centroids"
RANDOM, HMR, NOISE = "random n of the M", "HMR (M = 1)", "HMR + tuned noise"
CODEBOOK, SHUFFLED = "image-independent", "ours, evidence shuffled"
_MAIN = {"multibodies": OURS, "hmr": HMR, "smpl_mdn": "SMPL-MDN", "smpl_cvae": "SMPL-CVAE"}
CONTROLS = (RANDOM, NOISE, CODEBOOK)
OTHER = "other_"  # Prefix of the evidence of another example in a batch.
EVIDENCE = ("image", "kp2d", "kp2d_input")
TUNED = ("mpjpe", "pa_mpjpe")  # Metrics that the noise of NOISE is tuned for, each on its own; others take the first's.

Errors = dict[str, dict[str, dict[str, Array]]]  # method -> n -> metric -> (B,), millimetres.


def main(name: str) -> str:
    """The method of the main row of a model, by `config.model.name`."""
    return _MAIN[name]


def quantized_of(method: str) -> str:
    """The row of a baseline's quantized sets; its main row has the first n hypotheses, which come in random order."""
    return f"{method}, quantized"


def shuffled_of(method: str) -> str:
    """The row of a method that sees the evidence of another example."""
    return f"{method}, evidence shuffled"


class Panel(flax.struct.PyTreeNode):
    """Everything that is compared, as one argument of jit."""

    ours: Regressor
    density: prior.Prior
    scorer: set_errors.Scorer
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
      method: the main row; of OURS it is the quantized sets, of any other the first n hypotheses.
      curve: the errors of the quantized sets at every n from 1 to this (at most M); 0: none.
    """

    ns: tuple[int, ...]
    protocol: protocols.Protocol
    reading: str
    weights: str
    starts: int
    iterations: int
    temperature: float
    noise: Mapping[tuple[str, int], tuple[float, float]]
    method: str = OURS
    curve: int = 0

    @property
    def factor(self) -> float:
        """The factor on the log-prior in the weights under which the quantizer clusters; 0 for uniform ones."""
        return 0.0 if self.weights == "uniform" else self.temperature


@no_type_check  # Tree operations fill it with NumPy arrays as well.
class Calibration(flax.struct.PyTreeNode):
    """In which of n clusters the truth falls, and what the clusters' probabilities were.

    Attributes:
      hit: see `calibration.nearest`.
      prob: under the weights of the quantizer, then at each of `calibration.GRID`.
    """

    hit: Int[Array, "B"]
    prob: Float[Array, "B T n"]


@no_type_check
class Findings(flax.struct.PyTreeNode):
    """What one batch gave.

    Attributes:
      errors: of all methods at all n.
      diagnostics: of the full set of M hypotheses; the energies of the quantized sets are `energy_mm|<n>`.
      single: of `choices.SINGLE`: metric -> (B,).
      calibration: n -> that of the quantized sets, for n > 1.
      curves: "random": metric -> error at n = 1, ..., M; "quantized", if asked for, to the largest n asked for.
    """

    errors: Errors
    diagnostics: dict[str, Array]
    single: dict[str, dict[str, Array]]
    calibration: dict[str, Calibration]
    curves: dict[str, dict[str, Array]]


def judge(panel: Panel, batch: dict[str, Array], settings: Settings) -> Findings:
    """Errors of all methods at all n, and what else is told of the full set of M hypotheses.

    Args:
      panel: the methods.
      batch: an evaluation batch (docs/interfaces.md, section 2), without `example_id`; SHUFFLED needs the evidence of
        other examples beside.
      settings: of the sets.
    """
    hyps = hypothesize(panel.ours, panel.density, batch)
    protocol = settings.protocol
    truth = set_errors.truth_of(panel.scorer, batch, protocol)
    every = set_errors.measure(panel.scorer, hyps, truth, protocol)
    several = panel.ours.num_hypotheses > 1
    cache = Quantizer(hyps, example_keys(batch, 0), settings)
    clusters = {str(n): cache(n) for n in settings.ns} if several else {}
    errors: Errors = {}
    for name, chosen in _choices(cache, batch, settings).items():
        errors[name] = {str(n): set_errors.of_sets(every, index, protocol=protocol) for n, index in chosen.items()}
    if several and settings.method == OURS:
        errors[CENTROIDS] = _of_centroids(
            panel, hyps, tempered(hyps.log_prior, jnp.float32(settings.factor)), clusters, truth, protocol=protocol
        )
    errors |= _controls(panel, batch, truth, settings)
    measured = diagnostics.diagnose(hyps, batch, truth, jnp.float32(settings.temperature))
    measured |= {f"energy_mm|{n}": 1000 * jnp.sqrt(found.energy) for n, found in clusters.items()}
    if panel.hmr is not None:
        measured["hmr_reprojection_px"] = diagnostics.reprojection(respond(panel.hmr, batch), batch)
    weights = tempered(hyps.log_prior, jnp.float32(settings.factor))
    return Findings(
        errors,
        measured,
        _single(every, weights if settings.method == OURS else jnp.zeros_like(weights)),
        calibrations(hyps, clusters, truth, settings),
        _curves(cache, every, batch, settings) if several else {},
    )


def _controls(panel: Panel, batch: dict[str, Array], truth: set_errors.Truth, settings: Settings) -> Errors:
    """HMR alone and with noise, image-independent sets, evidence of other examples: those that the panel has."""
    errors: Errors = {}
    protocol = settings.protocol
    if panel.hmr is not None:
        single = respond(panel.hmr, batch)
        errors[HMR] = {
            "1": set_errors.of_sets(set_errors.measure(panel.scorer, single, truth, protocol), protocol=protocol)
        }
        if settings.noise:
            errors[NOISE] = {str(n): _noisy(panel, single, truth, batch, n, settings) for n in settings.ns}
    if panel.books:
        errors[CODEBOOK] = _codebook(panel, truth, len(batch["valid"]), settings)
    if panel.ours.num_hypotheses > 1 and any(key.startswith(OTHER) for key in batch):
        shuffled = hypothesize(panel.ours, panel.density, _shuffle(batch))
        cache = Quantizer(shuffled, example_keys(batch, 0), settings)
        first = cache(1).medoid if settings.method == OURS else jnp.zeros((len(batch["valid"]), 1), jnp.int32)
        found = set_errors.measure(panel.scorer, hypotheses.pick(shuffled, first), truth, protocol)
        errors[shuffled_of(settings.method)] = {"1": set_errors.of_sets(found, protocol=protocol)}
    return errors


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


class Quantizer:
    """`quantized` of one batch, each way of choosing once."""

    def __init__(self, hyps: hypotheses.Hypotheses, keys: Array, settings: Settings):
        self.hyps, self.keys, self.settings = hyps, keys, settings
        self._found: dict[tuple, quantize.Quantized] = {}

    def __call__(self, n: int, **other: Any) -> quantize.Quantized:
        fields = {name: getattr(self.settings, name) for name in ("reading", "weights", "temperature")} | other
        if fields["weights"] == "uniform":
            fields["temperature"] = 1.0  # Has no effect.
        place = (n, *fields.values())
        if place not in self._found:
            self._found[place] = quantized(self.hyps, n, self.keys, self.settings, **fields)
        return self._found[place]


def _choices(cache: Quantizer, batch: dict[str, Array], settings: Settings) -> dict[str, dict[int, Array]]:
    """method -> {n: indices (B, n) into the M hypotheses}."""
    size, m = cache.hyps.log_prior.shape
    every = jnp.broadcast_to(jnp.arange(m)[None], (size, m))
    if m == 1:
        return {settings.method: {1: every}}
    whole = {f"all M = {m}": {m: every}}
    if settings.method != OURS:
        main = {settings.method: {n: every[:, :n] for n in settings.ns}}
        return main | {quantized_of(settings.method): {n: cache(n).medoid for n in settings.ns}} | whole
    variants = {
        OURS: {},
        UNIFORM: {"weights": "uniform"},
        PRINTED: {"weights": "prior", "temperature": 1.0},
        KEPT: {"reading": "keep_first"},
    }
    chosen = {name: {n: cache(n, **other).medoid for n in settings.ns} for name, other in variants.items()}
    random_keys = example_keys(batch, 1)
    chosen[RANDOM] = {n: quantize.random_subset(m, n, random_keys) for n in settings.ns}
    return chosen | whole


@functools.partial(jax.jit, static_argnames="protocol")
def _of_centroids(
    panel: Panel,
    hyps: hypotheses.Hypotheses,
    log_weights: Float[Array, "B M"],
    clusters: dict[str, quantize.Quantized],
    truth: set_errors.Truth,
    protocol: protocols.Protocol,
) -> dict[str, dict[str, Array]]:
    """Errors of the sets of centroids, which are joints and no bodies: n -> metric -> (B,)."""
    pred = smpl.joints(panel.scorer.neutral.h36m, hyps.rotmats, hyps.betas)
    pred = pred[..., joints.index_map(joints.H36M17, protocol.joints), :] - pred[..., :1, :]
    result = {}
    for n, found in clusters.items():
        means = choices.centroid_joints(pred, log_weights, found.assignment, int(n))
        errors = {"squared24": metrics.squared24(found.centroid, truth.joints24, truth.valid24)}
        for suffix, one in protocols.both(protocol).items():
            target = truth.joints - truth.roots[one.truth_root][:, None]
            errors["mpjpe" + suffix] = metrics.mpjpe_mm(means, target[:, None])
            errors["pa_mpjpe" + suffix] = metrics.pa_mpjpe_mm(means, truth.joints[:, None])
        result[n] = set_errors.of_sets(errors, protocol=protocol)
    return result


@jax.jit
def _single(every: dict[str, Float[Array, "B M"]], log_weights: Float[Array, "B M"]) -> dict[str, dict[str, Array]]:
    errors = {name: error for name, error in every.items() if name != "squared24"}
    return choices.single(errors, posterior_weights(log_weights))


def calibrations(
    hyps: hypotheses.Hypotheses, clusters: dict[str, quantize.Quantized], truth: set_errors.Truth, settings: Settings
) -> dict[str, Calibration]:
    """Of the quantized sets with n > 1."""
    temperatures = jnp.array((settings.factor, *calibration.GRID), jnp.float32)
    return _calibrations(hyps.log_prior, {n: c for n, c in clusters.items() if n != "1"}, truth, temperatures)


@jax.jit
def _calibrations(log_prior, clusters, truth, temperatures) -> dict[str, Calibration]:
    return {
        n: Calibration(
            calibration.nearest(found.centroid, truth.joints24, truth.valid24),
            calibration.probabilities(log_prior, found.assignment, int(n), temperatures),
        )
        for n, found in clusters.items()
    }


def _curves(
    cache: Quantizer, every: dict[str, Array], batch: dict[str, Array], settings: Settings
) -> dict[str, dict[str, Array]]:
    """Errors at every n: of RANDOM (of a baseline: of its main row) and, on request, of the quantized sets."""
    size, m = cache.hyps.log_prior.shape
    order = jnp.broadcast_to(jnp.arange(m)[None], (size, m))
    if settings.method == OURS:
        order = quantize.random_subset(m, m, example_keys(batch, 1))  # Its first n are those of n alone.
    curves = {"random": _growing(every, order, protocol=settings.protocol)}
    if settings.curve:
        fields = ("reading", "weights", "temperature", "starts", "iterations")
        options = {name: getattr(settings, name) for name in fields}
        medoids = quantize.select_every(cache.hyps, range(1, min(settings.curve, m) + 1), cache.keys, **options)
        curves["quantized"] = _of_every(every, medoids, protocol=settings.protocol)
    return curves


_growing = functools.partial(jax.jit, static_argnames="protocol")(choices.growing)
_of_every = functools.partial(jax.jit, static_argnames="protocol")(choices.of_every)


def _shuffle(batch: dict[str, Array]) -> dict[str, Array]:
    """Gives every example the evidence of another one: its `other_...` entries."""
    return batch | {key.removeprefix(OTHER): value for key, value in batch.items() if key.startswith(OTHER)}


@functools.partial(jax.jit, static_argnames="purpose")
def example_keys(batch: dict[str, Array], purpose: int) -> Array:
    """One key per example, from its hash alone: no result depends on the batch or its order."""
    key = jax.random.key(purpose)
    return jax.vmap(lambda h: jax.random.fold_in(key, h))(batch["example_hash"])


def _noisy(panel, single, truth, batch, n: int, settings: Settings) -> dict[str, Array]:
    """Errors (B,) of HMR with noise: each metric under the noise that is best for it in sets of n."""
    keys, result = example_keys(batch, 2), {}
    for metric in TUNED:
        sigma = jnp.array(settings.noise[metric, n], jnp.float32)
        noisy = _perturb(single, max(settings.ns), keys, sigma, panel.scorer.j24)
        errors = {
            name: error[:, :n]
            for name, error in set_errors.measure(panel.scorer, noisy, truth, settings.protocol).items()
        }
        scores = set_errors.of_sets(errors, protocol=settings.protocol)
        own = {metric, metric + protocols.STRICT}
        result |= {name: score for name, score in scores.items() if name in own or not result}
    return result


@functools.partial(jax.jit, static_argnames="n")
def _perturb(single, n: int, keys, sigma, joint_model) -> hypotheses.Hypotheses:
    return controls.perturb(single, n, keys, sigma[0], sigma[1], joint_model)


def _codebook(panel: Panel, truth: set_errors.Truth, size: int, settings: Settings) -> dict[str, dict[str, Array]]:
    """Errors of the image-independent sets, all measured in one go."""
    together = hypotheses.concatenate([panel.books[str(n)] for n in settings.ns])
    everywhere = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape[1:])), together)
    errors = set_errors.measure(panel.scorer, everywhere, truth, settings.protocol)
    result, start = {}, 0
    for n in settings.ns:
        part = {name: error[:, start : start + n] for name, error in errors.items()}
        result[str(n)], start = set_errors.of_sets(part, protocol=settings.protocol), start + n
    return result


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
    noisy = _perturb(single, max(ns), example_keys(batch, 2), sigma, panel.scorer.j24)
    errors = set_errors.measure(panel.scorer, noisy, set_errors.truth_of(panel.scorer, batch, protocol), protocol)
    sets = [set_errors.of_sets({name: error[:, :n] for name, error in errors.items()}, protocol=protocol) for n in ns]
    return jnp.stack([jnp.stack([scores[metric] for scores in sets]) for metric in TUNED])
