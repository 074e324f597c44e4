"""Controls: rows that a set of hypotheses has to beat, and one that shows what the evidence is worth.

Random subsets of the hypotheses, the single-hypothesis HMR with tuned noise, sets of bodies that do not depend on the
image, and hypotheses of another image. They are registered as methods of evaluation.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.body import smpl
from multibodies_jax.data import sources, virtual_views
from multibodies_jax.evaluation import fitted, methods, metrics, outputs, protocols, set_errors
from multibodies_jax.geometry import rotations
from multibodies_jax.hypotheses import hypotheses, quantize
from multibodies_jax.training import multihost, setup

RANDOM, NOISE, CODEBOOK = "random n of the M", "HMR + tuned noise", "image-independent"
COMPARED = (RANDOM, NOISE, CODEBOOK)
"""Rows that the main row is compared with."""

NOISE_ROOT_DEG = (0.0, 2.5, 5.0, 10.0, 15.0, 25.0)
NOISE_POSE_DEG = (0.0, 1.0, 2.0, 4.0, 7.0, 11.0, 16.0)
_NOISES_DEG = tuple(itertools.product(NOISE_ROOT_DEG, NOISE_POSE_DEG))
_REFINED_NOISES_DEG = ((2.5, 4.0), (10.0, 11.0), (25.0, 16.0))
_CODEBOOK_PEOPLE = 1000


def perturb(
    hyps: hypotheses.Hypotheses,
    n: int,
    keys: Array,
    root: Float[Array, ""],
    pose: Float[Array, ""],
    joint_model: smpl.JointModel,
) -> hypotheses.Hypotheses:
    """Turns one body per example into n: itself and n - 1 copies whose joints are turned at random.

    Args:
      hyps: leading axes (B, 1).
      keys: one per example.
      root, pose: standard deviation of the axis-angle noise on the root and on each other joint, radians.

    Returns:
      Leading axes (B, n); the sets are nested: a larger n only adds bodies.
    """
    sigma = jnp.concatenate([root[None], jnp.broadcast_to(pose, (23,))])

    def draw(key: Array) -> Array:
        rows = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (24, 3)))(jnp.arange(n))
        return rows.at[0].set(0.0) * sigma[None, :, None]

    noise = rotations.axis_angle_to_matrix(jax.vmap(draw)(keys))
    rotmats = exact.einsum("bmjik,bmjkl->bmjil", jnp.broadcast_to(hyps.rotmats, noise.shape), noise)
    tiled = jax.tree.map(lambda x: jnp.broadcast_to(x, (x.shape[0], n, *x.shape[2:])), hyps)
    return place(rotmats, tiled.betas, tiled.cam, joint_model)


def place(
    rotmats: Float[Array, "*b 24 3 3"],
    betas: Float[Array, "*b 10"],
    cam: Float[Array, "*b 3"],
    joint_model: smpl.JointModel,
) -> hypotheses.Hypotheses:
    """Hypotheses from rotations instead of the network's 6D state."""
    state = jnp.concatenate([rotations.matrix_to_rot6d(rotmats).reshape(*betas.shape[:-1], 144), betas, cam], axis=-1)
    return hypotheses.decode(state, joint_model)


def random_subset(evaluation: methods.Evaluation) -> methods.Method | None:
    """n of the M hypotheses, drawn without replacement; of exchangeable hypotheses the main row is that already."""
    settings = evaluation.settings
    if not evaluation.several or settings.exchangeable:
        return None
    m = evaluation.networks.main.num_hypotheses

    def sets(out: outputs.Outputs, n: int) -> set_errors.Measured:
        return out.members(quantize.random_subset(m, n, out.keys(outputs.SUBSET)))

    return methods.Row(RANDOM, settings.ns, sets, compared=True)


def shuffled_evidence(evaluation: methods.Evaluation) -> methods.Method | None:
    """The main row with n = 1, given the evidence of another example."""
    if not evaluation.several:
        return None
    exchangeable = evaluation.settings.exchangeable

    def sets(out: outputs.Outputs, n: int) -> set_errors.Measured:
        other = out.of_others()
        index = other.first(n) if exchangeable else other.quantize(n).medoid
        return out.measure(hypotheses.pick(other.hyps, index))

    return methods.Row(methods.shuffled_of(evaluation.settings.label), (1,), sets, reads_others=True)


class NoisyHMR:
    """The body of the single-hypothesis HMR and n - 1 noisy copies of it.

    For each of MPJPE and RE, and each n, the noise is the one with the least error on the validation split. Other
    metrics are measured under the noise of MPJPE.
    """

    name, compared, reads_others = NOISE, True, False

    def __init__(self, ns: tuple[int, ...]):
        self.ns = ns
        self._noise_deg: dict[tuple[str, int], tuple[float, float]] = {}
        self._errors: list[np.ndarray] = []

    def observe(self, out: outputs.Outputs) -> None:
        """Measures the sets under every noise on one batch of the validation split."""
        protocol = out.settings.protocol
        errors = []
        for noise_deg in _NOISES_DEG:
            widest = self._measure(out, noise_deg)
            sets = [set_errors.of_sets(_smaller(widest, n), protocol) for n in self.ns]
            errors.append([[np.asarray(found[metric]) for found in sets] for metric in metrics.REPORTED])
        self._errors.append(np.array(errors)[..., out.valid])

    def choose(self) -> dict[str, Any]:
        """Takes the noise with the least mean error, in degrees."""
        means = np.concatenate(multihost.in_turns(self._errors), axis=-1).mean(axis=-1)  # (noises, metrics, ns)
        self._errors = []
        self._noise_deg = {
            (metric, n): _NOISES_DEG[int(means[:, i, j].argmin())]
            for i, metric in enumerate(metrics.REPORTED)
            for j, n in enumerate(self.ns)
        }
        chosen = {f"{m}-{n}": {"root": root, "pose": pose} for (m, n), (root, pose) in self._noise_deg.items()}
        return {"noise_deg": chosen}

    def sets(self, out: outputs.Outputs, n: int) -> set_errors.Measured:
        """See `methods.Method`. Members are sorted by their joint error.

        A protocol that selects by joint error then selects the first member, also of the metrics of another noise.
        """
        result: set_errors.Measured = {}
        for metric in metrics.REPORTED:
            found = _smaller(self._measure(out, self._noise_deg[metric, n]), n)
            found = set_errors.members(found, jnp.argsort(found["squared24"], axis=1, stable=True))
            own = (metric, metric + protocols.STRICT)
            result = result | {name: error for name, error in found.items() if not result or name in own}
        return result

    def _measure(self, out: outputs.Outputs, noise_deg: tuple[float, float]) -> set_errors.Measured:
        """The errors of the largest set; smaller ones are its beginning."""

        def measured() -> set_errors.Measured:
            sigma = jnp.array(np.deg2rad(noise_deg), jnp.float32)
            noisy = _perturb(out.hmr, max(self.ns), out.keys(outputs.NOISE), sigma, out.networks.scorer.j24)
            return out.measure(noisy)

        return out.once((self, noise_deg), measured)


def noisy_hmr(evaluation: methods.Evaluation) -> methods.Method | None:
    """`NoisyHMR` at the sizes of the evaluation, where it has an HMR."""
    return NoisyHMR(evaluation.settings.ns) if evaluation.networks.hmr is not None else None


def noisy_hmr_refined(evaluation: methods.Evaluation) -> methods.Method | None:
    """The body of the single-hypothesis HMR and n - 1 noisy copies of it, all fitted to the visible keypoints.

    The noise is one for all n and metrics, chosen with the factors of the fit.
    """
    if evaluation.networks.hmr is None:
        return None
    ns = evaluation.settings.ns

    def bodies(out: outputs.Outputs, candidate: fitted.Candidate) -> hypotheses.Hypotheses:
        sigma = jnp.array(np.deg2rad(candidate.noise_deg or (0.0, 0.0)), jnp.float32)
        return _perturb(out.hmr, max(ns), out.keys(outputs.NOISE), sigma, out.networks.scorer.j24)

    config, name = evaluation.config, methods.refined_of(NOISE)
    fit = fitted.refined(bodies, config)
    return fitted.Fitted("hmr_noise_refined", name, ns, fit, config, _REFINED_NOISES_DEG, in_order=True)


def codebook(evaluation: methods.Evaluation) -> methods.Method | None:
    """The n training bodies, seen from training views, that quantize the training set best, whatever the image shows."""
    if not evaluation.several:
        return None
    ns = evaluation.settings.ns
    books = codebooks(evaluation.config, evaluation.networks.main.bodies, ns)
    together = hypotheses.concatenate([books[n] for n in ns])
    start = dict(zip(ns, np.cumsum([0, *ns]).tolist(), strict=False))

    def sets(out: outputs.Outputs, n: int) -> set_errors.Measured:
        def measured() -> set_errors.Measured:
            size = out.shape[0]
            return out.measure(jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape[1:])), together))

        found = out.once(CODEBOOK, measured)
        return {name: error[:, start[n] : start[n] + n] for name, error in found.items()}

    return methods.Row(CODEBOOK, ns, sets, compared=True)


def codebooks(config: Any, bodies: setup.Bodies, ns: Sequence[int]) -> dict[int, hypotheses.Hypotheses]:
    """For each n, the n training bodies, seen from training views, that quantize the training set best; axes (1, n)."""
    poses, betas = (jnp.asarray(x[:_CODEBOOK_PEOPLE]) for x in sources.load_people(config, "train"))
    key = jax.random.key(config.seed)
    target = virtual_views.synthesize(poses, betas, jax.random.split(key, len(poses)), bodies.j24, hide="none").target
    everybody = place(target.rotmats[None], target.betas[None], jnp.zeros((1, len(poses), 3)), bodies.j24)
    chosen = {n: quantize.select(everybody, n, key[None], weights="uniform", iterations=100) for n in ns}
    return {n: hypotheses.pick(everybody, q.medoid) for n, q in chosen.items()}


@functools.partial(jax.jit, static_argnames="n")
def _perturb(single, n: int, keys, sigma, joint_model) -> hypotheses.Hypotheses:
    return perturb(single, n, keys, sigma[0], sigma[1], joint_model)


def _smaller(errors: set_errors.Measured, n: int) -> set_errors.Measured:
    return {name: error[:, :n] for name, error in errors.items()}


for _name, _maker in {
    "random": random_subset,
    "hmr_noise": noisy_hmr,
    "hmr_noise_refined": noisy_hmr_refined,
    "codebook": codebook,
    "shuffled": shuffled_evidence,
}.items():
    methods.METHODS.register(_name, _maker)
