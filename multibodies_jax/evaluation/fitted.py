"""Rows of bodies that were fitted to the visible keypoints: refined hypotheses, and SMPLify, which needs no network."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from multibodies_jax.evaluation import calibration, diagnostics, expected, set_errors, tuning
from multibodies_jax.evaluation.outputs import Outputs
from multibodies_jax.fitting import objective, refine
from multibodies_jax.geometry import cameras
from multibodies_jax.hypotheses import quantize, weight_kinds
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.training import multihost

CANDIDATES = ((0.3, 5.0), (0.1, 5.0), (0.05, 2.0), (0.02, 1.0))
"""Factors of the prior and of the pull among which a row chooses on the validation split."""

EXAMPLES = 50
"""Validation examples on which a row chooses (whole batches of one device, as many as it takes): fits cost more than networks."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """How a row may make its bodies.

    Attributes:
      settings: of the fit.
      noise_deg: of the bodies that it starts from, on the root and on each other joint; None where nothing is drawn.
    """

    settings: refine.Settings
    noise_deg: tuple[float, float] | None = None

    @property
    def described(self) -> dict[str, float]:
        """For results.json."""
        factors = self.settings.weights
        told = {"prior": float(factors.prior), "anchor": float(factors.anchor), "steps": int(self.settings.steps)}
        return told if self.noise_deg is None else told | {"root_deg": self.noise_deg[0], "pose_deg": self.noise_deg[1]}


Fit = Callable[[Outputs, Candidate], Hypotheses]


class Fitted:
    """Sets of fitted bodies.

    On the validation split it chooses the factors of the prior and of the pull (`CANDIDATES`) and the temperature of the
    weights of eq (2) after the fit, by the mean over n of MPJPE-n. Sigma is not chosen: keypoints of embedded people are
    exact, those of a photograph are not. Then it fits the sharpness of the probabilities of its sets (`calibration.fit`).

    Attributes:
      kind: of the weights of the hypotheses after the fit.
      sharpness: what `calibration.fit` found; empty before, and of a row without sets of several bodies.
    """

    compared, reads_others = False, False

    def __init__(
        self,
        key: str,
        name: str,
        ns: tuple[int, ...],
        fit: Fit,
        config: Any,
        noises_deg: Sequence[tuple[float, float] | None] = (None,),
        kind: str = "prior",
        shared: str | None = None,
        expects: bool = False,
        in_order: bool = False,
    ):
        """Args:

        key: under which results.json has what the row chose.
        name: of the row.
        ns: sizes of its sets.
        fit: makes the bodies (B, M), of which a set is quantized.
        config: of the experiment; a factor that `config.fitting` gives is not chosen.
        noises_deg: among which the row chooses as well.
        kind: of the weights of the hypotheses after the fit (`hypotheses.weight_kinds.KINDS`).
        shared: rows of one name here have one `fit`, whose bodies each batch computes once; None shares them with no row.
        expects: measure the expected body alone, fitted as sets of `ns` are.
        in_order: the first n bodies are the set; nothing is quantized, and no weights are read.
        """
        self.key, self.name, self.ns = key, name, (1,) if expects else ns
        self._fit, self._fitted_for, self._expects = fit, ns, expects
        self._lens = default.optional(config, "fitting.lens")
        self._in_order = in_order
        given = default.optional(config, "fitting.prior"), default.optional(config, "fitting.anchor")
        factors = {
            tuple(candidate if own is None else own for own, candidate in zip(given, pair, strict=True)): None
            for pair in CANDIDATES
        }
        self._candidates = [
            Candidate(refine.Settings(objective.Weights(prior=prior, anchor=anchor), config.fitting.steps), noise)
            for prior, anchor in factors
            for noise in noises_deg
        ]
        self.kind, self._shared = kind, self if shared is None else shared
        tempered = not self._in_order and weight_kinds.reads_prior(kind)
        self._temperatures = tuning.TEMPERATURES if tempered else (1.0,)
        self._errors: list[np.ndarray] = []
        # Of each batch, by candidate and temperature: those of each n > 1.
        self._clusters: list[dict[tuple[int, int], list[dict[str, calibration.Masses]]]] = []
        self.sharpness: dict[str, float] = {}
        self._batch = 1  # Of a device.
        self._chosen, self._temperature = self._candidates[0], self._temperatures[0]

    def observe(self, out: Outputs) -> None:
        """Fits under every candidate, on the first batches of the validation split."""
        if sum(errors.shape[-1] for errors in self._errors) >= EXAMPLES:
            return
        errors, clusters = [], {}
        for place, candidate in enumerate(self._candidates):
            fitted = self._fitted(out, candidate)
            for at, t in enumerate(self._temperatures):
                clusters[place, at] = self._masses(fitted, t)
            mpjpe = {"mpjpe": fitted.errors["mpjpe"]}
            found = [
                [set_errors.members(mpjpe, self._index(fitted, n, t))["mpjpe"] for n in self._fitted_for]
                for t in self._temperatures
            ]
            errors.append([[np.asarray(x).min(axis=1) for x in of_sets] for of_sets in found])
        self._errors.append(np.array(errors)[..., out.valid])  # (candidate, temperature, n, example)
        self._clusters.append(clusters)
        self._batch = out.per_device

    def choose(self) -> dict[str, Any]:
        """Takes the candidate and the temperature with the least mean error."""
        # The examples are those of one device in one process, which stops at the same place.
        most = -(-EXAMPLES // self._batch) * self._batch
        means = np.concatenate(multihost.in_turns(self._errors), axis=-1)[..., :most].mean(axis=(-2, -1))
        seen = multihost.in_turns(self._clusters)
        self._errors, self._clusters = [], []
        best, t = (int(k) for k in np.unravel_index(int(means.argmin()), means.shape))
        self._chosen, self._temperature = self._candidates[best], self._temperatures[t]
        tried = [
            one.described | {"mpjpe_mm": [round(float(x), 2) for x in row]}
            for one, row in zip(self._candidates, means, strict=True)
        ]
        tempered = {"temperature": self._temperature} if self._in_order or len(self._temperatures) > 1 else {}
        self.sharpness = calibration.fit([its[best, t] for its in seen], most)
        sharpness = {f"sharpness{ending}": value for ending, value in self.sharpness.items()}
        chosen = self._chosen.described | tempered | sharpness
        return {self.key: {"chosen": chosen, "temperatures": list(self._temperatures), "tried": tried}}

    def sets(self, out: Outputs, n: int) -> set_errors.Measured:
        """See `methods.Method`."""
        fitted = self._fitted(out, self._chosen)
        if self._expects:
            its = fitted.hyps
            log_weights = weight_kinds.log_weights_of(self.kind, its.log_prior, its.log_scores, self._temperature)
            return fitted.measure(expected.expected_body(its, log_weights, out.networks.scorer.j24))
        return fitted.members(self._index(fitted, n, self._temperature))

    def clusters(self, out: Outputs, n: int, **settings: Any) -> tuple[Outputs, quantize.Quantized]:
        """The batch with the fitted bodies under the weights of the row and other `settings`, and its quantized sets."""
        bodies = self._fitted(out, self._chosen).hyps
        its = out.with_hypotheses(bodies, weights=self.kind, temperature=self._temperature, **settings)
        return its, its.quantize(n)

    def reprojection_px(self, out: Outputs) -> jax.Array:
        """Mean 2D error (B,) of all bodies of a row of `refined` on visible keypoints, in pixels of a 224-pixel crop."""
        focal = _focal(out, self._lens)
        return diagnostics.reprojection(self._fitted(out, self._chosen).hyps, out.batch, focal)

    def _fitted(self, out: Outputs, candidate: Candidate) -> Outputs:
        return out.once((self._shared, candidate), lambda: out.with_hypotheses(self._fit(out, candidate)))

    def _index(self, fitted: Outputs, n: int, temperature: float) -> jax.Array:
        if self._in_order:
            return fitted.first(n)
        return fitted.quantize(n, weights=self.kind, temperature=temperature).medoid

    def _masses(self, fitted: Outputs, temperature: float) -> list[dict[str, calibration.Masses]]:
        ns = () if self._in_order else self.ns
        sets = [fitted.quantize(n, weights=self.kind, temperature=temperature) for n in ns if n > 1]
        return [calibration.masses(its, fitted.truth, fitted.valid, fitted.hyps.log_scores) for its in sets]


def refined(bodies: Callable[[Outputs, Candidate], Hypotheses], config: Any) -> Fit:
    """Refines the bodies that a function makes, under the camera that `config.fitting.lens` names."""
    its = default.optional(config, "fitting.lens")

    def fit(out: Outputs, candidate: Candidate) -> Hypotheses:
        keypoints, j24, focal = _keypoints(out), out.networks.scorer.j24, _focal(out, its)
        return refine.refine(bodies(out, candidate), *keypoints, j24, _log_prob(out), candidate.settings, focal)

    return fit


def from_mean_pose(out: Outputs, candidate: Candidate) -> Hypotheses:
    """SMPLify, with three times the steps: the mean pose is far from most."""
    files = out.networks.main.bodies.files
    mean = jnp.asarray(np.concatenate([files.mean_rot6d, files.mean_betas, files.mean_cam]), jnp.float32)
    settings = candidate.settings.replace(steps=3 * candidate.settings.steps)
    points, visible = _keypoints(out)
    return refine.fit_from_mean_pose(points, visible, mean, out.networks.scorer.j24, _log_prob(out), settings)


def _focal(out: Outputs, lens: str) -> diagnostics.Focal:
    """The focal length of fitted bodies' cameras, in half-sides of the crop, under `config.fitting.lens`."""
    its = out.examples.lens
    return its.focal if lens == "image" and its is not None else cameras.FOCAL


def _keypoints(out: Outputs) -> tuple[jax.Array, jax.Array]:
    return out.batch.inputs.evidence, out.batch.inputs.kp2d_input


def _log_prob(out: Outputs) -> jax.tree_util.Partial:
    return jax.tree_util.Partial(type(out.networks.density).log_prob, out.networks.density)
