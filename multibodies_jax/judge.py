"""Scores every method on one batch: sets of bodies in, errors per example out; one jitted program per batch shape."""

import functools
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax import cameras, controls, hypotheses, inference, joints, metrics, prior, quantize, smpl
from multibodies_jax.inference import Regressor

OURS, UNIFORM, PRINTED, RELEASED = (
    "ours",
    "ours, uniform weights",
    "ours, prior at temperature 1",
    "ours, hypothesis 0 kept",
)
RANDOM, HMR, NOISE = "random n of the M", "HMR (M = 1)", "HMR + tuned noise"
CODEBOOK, SHUFFLED = "image-independent", "ours, evidence shuffled"
CONTROLS = (RANDOM, NOISE, CODEBOOK)

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


class Quantizer(flax.struct.PyTreeNode):
    """Static settings of `quantize.select`."""

    reading: str = flax.struct.field(pytree_node=False)
    weights: str = flax.struct.field(pytree_node=False)
    starts: int = flax.struct.field(pytree_node=False)
    iterations: int = flax.struct.field(pytree_node=False)


@functools.partial(jax.jit, static_argnames=("ns", "protocol"))
def judge(
    panel: Panel,
    batch: dict[str, Array],
    quantizer: Quantizer,
    temperature: Float[Array, ""],
    noise: dict[str, Float[Array, "2"]],
    ns: tuple[int, ...],
    protocol: str,
) -> tuple[Errors, dict[str, Array]]:
    """Errors of all methods at all n, and diagnostics of the full set of M hypotheses.

    Args:
      panel: the methods.
      batch: an evaluation batch (docs/interfaces.md, section 2).
      quantizer: how OURS is quantized.
      temperature: of the prior's weights.
      noise: n -> (root, pose) noise of the NOISE control, radians.
      ns: the sizes of the sets.
      protocol: a name in `metrics.PROTOCOLS`.
    """
    truth = truth_of(panel, batch)
    hyps = inference.score(panel.ours(batch), panel.density)
    score = functools.partial(score_set, panel=panel, truth=truth, protocol=metrics.PROTOCOLS[protocol])
    errors: Errors = {}
    for name, sets in _sets(panel, batch, hyps, quantizer, temperature, noise, ns):
        errors[name] = {str(n): score(hypotheses_n) for n, hypotheses_n in sets.items()}
    return errors, _diagnostics(panel, batch, hyps, truth, temperature)


def _sets(panel, batch, hyps, quantizer, temperature, noise, ns):
    """Yields (method, {n: Hypotheses (B, n)})."""
    keys = example_keys(batch, 0)
    fixed = {"starts": quantizer.starts, "iterations": quantizer.iterations}

    def quantized(reading: str, weights: str, t: Array | float) -> dict[int, hypotheses.Hypotheses]:
        chosen = {
            n: quantize.select(hyps, n, keys, reading=reading, weights=weights, temperature=t, **fixed) for n in ns
        }
        return {n: hypotheses.pick(hyps, q.medoid) for n, q in chosen.items()}

    yield OURS, quantized(quantizer.reading, quantizer.weights, temperature)
    m = hyps.log_prior.shape[1]
    if m > 1:
        yield UNIFORM, quantized("paper", "uniform", 1.0)
        yield PRINTED, quantized("paper", "prior", 1.0)
        yield RELEASED, quantized("released", quantizer.weights, temperature)
        subsets = {n: quantize.random_subset(m, n, example_keys(batch, 1)) for n in ns}
        yield RANDOM, {n: hypotheses.pick(hyps, index) for n, index in subsets.items()}
        yield f"all M = {m}", {m: hyps}
    if panel.hmr is not None:
        single = panel.hmr(batch)
        yield HMR, {1: single}
        if noise:
            noisy = example_keys(batch, 2)
            j24 = panel.ours.bodies.j24
            yield NOISE, {n: controls.perturb(single, n, noisy, noise[str(n)][0], noise[str(n)][1], j24) for n in ns}
    if panel.books:
        size = len(hyps.log_prior)
        tiled = {n: jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape[1:])), panel.books[str(n)]) for n in ns}
        yield CODEBOOK, tiled
    if m > 1:
        shuffled = inference.score(panel.ours(_shuffle(batch)), panel.density)
        q = quantize.select(
            shuffled, 1, keys, reading=quantizer.reading, weights=quantizer.weights, temperature=temperature, **fixed
        )
        yield SHUFFLED, {1: hypotheses.pick(shuffled, q.medoid)}


def _shuffle(batch: dict[str, Array]) -> dict[str, Array]:
    """Gives every example the evidence of its neighbour."""
    evidence = ("image", "kp2d", "kp2d_input", "evidence")
    return batch | {k: jnp.roll(batch[k], 1, axis=0) for k in evidence if k in batch}


def example_keys(batch: dict[str, Array], purpose: int) -> Array:
    """One key per example, from its hash alone: no result depends on the batch or its order."""
    key = jax.random.key(purpose)
    return jax.vmap(lambda h: jax.random.fold_in(key, h))(batch["example_hash"])


class Truth(flax.struct.PyTreeNode):
    """The body that is to be found; B leading."""

    joints17: Float[Array, "B 17 3"]
    joints24: Float[Array, "B 24 3"]
    vertices: Float[Array, "B V 3"]


def truth_of(panel: Panel, batch: dict[str, Array]) -> Truth:
    """Joints and vertices of the true SMPL parameters, in the body's own frame."""
    bodies, (rotmats, betas) = panel.ours.bodies, (batch["rotmats"], batch["betas"])
    return Truth(
        joints17=smpl.joints(bodies.h36m, rotmats, betas),
        joints24=smpl.joints(bodies.j24, rotmats, betas),
        vertices=smpl.mesh(panel.surface, rotmats, betas),
    )


def score_set(
    hyps: hypotheses.Hypotheses, panel: Panel, truth: Truth, protocol: metrics.Protocol
) -> dict[str, Float[Array, "B"]]:
    """Errors of a set of n bodies per example: of the one that the protocol selects."""
    joints17 = smpl.joints(panel.ours.bodies.h36m, hyps.rotmats, hyps.betas)
    result = metrics.evaluate_set(joints17, hyps.joints24, truth.joints17, truth.joints24, protocol)
    surface = smpl.mesh(panel.surface, hyps.rotmats, hyps.betas) - joints17[..., :1, :]
    target = (truth.vertices - truth.joints17[:, :1])[:, None]
    return result | {
        "vertex": jnp.min(metrics.vertex_error_mm(surface, jnp.broadcast_to(target, surface.shape)), axis=1)
    }


def _diagnostics(panel, batch, hyps, truth, temperature) -> dict[str, Array]:
    """Per example: spread of visible and hidden joints, 2D error, use of hypotheses, effective number."""
    seen = batch["kp2d_input"] > 0
    m = hyps.log_prior.shape[1]
    spread = metrics.joint_spread_mm(hyps.joints24, jnp.full(hyps.log_prior.shape, 1.0 / m))
    result = {
        "spread_visible_mm": _mean_where(spread, seen),
        "spread_hidden_mm": _mean_where(spread, ~seen),
        "reprojection_px": _reprojection(hyps, batch),
        "best_hypothesis": jnp.argmin(metrics.mpjpe_mm(hyps.joints24, _centred(truth.joints24)[:, None]), axis=1),
        "effective_printed": inference.effective_number(hyps.log_prior, 1.0),
        "effective_tuned": inference.effective_number(hyps.log_prior, temperature),
        "log_prior_spread": jnp.std(hyps.log_prior, axis=1),
    }
    if panel.hmr is not None:
        result["hmr_reprojection_px"] = _reprojection(panel.hmr(batch), batch)
    return result


def _centred(joints24: Float[Array, "B 24 3"]) -> Float[Array, "B 24 3"]:
    return joints24 - jnp.mean(joints24[:, list(joints.MIDHIP_J24)], axis=1, keepdims=True)


def _reprojection(hyps: hypotheses.Hypotheses, batch: dict[str, Array]) -> Float[Array, "B"]:
    """Mean 2D error of all hypotheses on visible keypoints, in pixels of a 224-pixel crop."""
    projected = cameras.project_crop(hyps.joints24 + hyps.midhip[..., None, :], hyps.cam)
    return jnp.mean(metrics.reprojection_px(projected, batch["kp2d"], batch["kp2d_input"]), axis=1)


def _mean_where(values: Float[Array, "B 24"], where: Array) -> Float[Array, "B"]:
    """Mean over the joints that count; NaN where none does (left out of every average)."""
    total = jnp.sum(jnp.where(where, values, 0.0), axis=1)
    count = jnp.sum(where, axis=1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


@jax.jit
def scored(panel: Panel, batch: dict[str, Array]) -> tuple[hypotheses.Hypotheses, Array, Array, Array]:
    """(scored hypotheses, their H36M joints, the true ones, keys): what choosing a temperature needs."""
    hyps = inference.score(panel.ours(batch), panel.density)
    joints17 = smpl.joints(panel.ours.bodies.h36m, hyps.rotmats, hyps.betas)
    return hyps, joints17, smpl.joints(panel.ours.bodies.h36m, batch["rotmats"], batch["betas"]), example_keys(batch, 0)


@functools.partial(jax.jit, static_argnames="ns")
def quantized_mpjpe(
    hyps: hypotheses.Hypotheses,
    joints17: Float[Array, "B M 17 3"],
    target17: Float[Array, "B 17 3"],
    keys: Array,
    quantizer: Quantizer,
    temperature: Float[Array, ""],
    ns: tuple[int, ...],
) -> Float[Array, "N B"]:
    """MPJPE-n of quantized sets for each n."""
    every = metrics.mpjpe14_mm(joints17, target17)
    fixed = {"starts": quantizer.starts, "iterations": quantizer.iterations}

    def at(n: int) -> Array:
        q = quantize.select(
            hyps, n, keys, reading=quantizer.reading, weights=quantizer.weights, temperature=temperature, **fixed
        )
        return jnp.min(jnp.take_along_axis(every, q.medoid, axis=1), axis=1)

    return jnp.stack([at(n) for n in ns])


@functools.partial(jax.jit, static_argnames="ns")
def noisy_mpjpe(
    panel: Panel, batch: dict[str, Array], sigma: Float[Array, "2"], ns: tuple[int, ...]
) -> Float[Array, "N B"]:
    """MPJPE-n of HMR with pose noise (root, pose in radians) for each n."""
    bodies = panel.ours.bodies
    noisy = controls.perturb(panel.hmr(batch), max(ns), example_keys(batch, 2), sigma[0], sigma[1], bodies.j24)
    joints17 = smpl.joints(bodies.h36m, noisy.rotmats, noisy.betas)
    errors = metrics.mpjpe14_mm(joints17, smpl.joints(bodies.h36m, batch["rotmats"], batch["betas"]))
    return jnp.stack([jnp.min(errors[:, :n], axis=1) for n in ns])
