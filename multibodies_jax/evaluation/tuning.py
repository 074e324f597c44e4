"""What one pass over the validation split of a set chooses for the quantizer: two temperatures of the weights of eq (2)."""

import itertools
from collections.abc import Sequence
from typing import no_type_check

import flax.struct
import jax.numpy as jnp
import numpy as np

from multibodies_jax.evaluation import calibration, set_errors
from multibodies_jax.evaluation.outputs import Outputs, Settings
from multibodies_jax.hypotheses import weights
from multibodies_jax.training import multihost

TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Factors on the log-prior among which the quantizer's is chosen; 1 is eq (2) as printed."""


@no_type_check  # Tree operations fill it with NumPy arrays.
class _Seen(flax.struct.PyTreeNode):
    """Of the examples of one batch: log p(X), learned scores, and for each temperature their errors, and what they fell in."""

    log_prior: np.ndarray
    log_scores: np.ndarray | None
    errors: dict[tuple[str, float], np.ndarray]  # By kind and temperature: (n, N).
    clusters: dict[tuple[float, int], tuple[np.ndarray, np.ndarray]]  # By temperature and n: hit, assignment.


class Temperatures:
    """Chooses the quantizer's temperature by the error of its sets, and the one that calibrates their probabilities.

    The second depends on the clusters of the first; the clusters of all candidates are kept, so that each batch is read
    once (integers: 4 M bytes per example, candidate and n).
    """

    def __init__(self, settings: Settings, kinds: Sequence[str] = ("prior",)):
        """Args:

        settings: of the quantizer.
        kinds: of weights that read the prior: a temperature is chosen for each of them.
        """
        self._settings, self._kinds = settings, tuple(kinds)
        self._seen: list[_Seen] = []

    def observe(self, outputs: Outputs) -> None:
        """Reads one batch of the validation split."""
        keep, ns = outputs.valid, self._settings.ns
        mpjpe = {"mpjpe": outputs.errors["mpjpe"]}
        log_scores = outputs.hyps.log_scores
        scores = None if log_scores is None else np.asarray(log_scores)[keep]
        seen = _Seen(np.asarray(outputs.hyps.log_prior)[keep], scores, {}, {})
        for kind, t in itertools.product(self._kinds, TEMPERATURES):
            chosen = [outputs.quantize(n, weights=kind, temperature=t).medoid for n in ns]
            errors = [np.asarray(set_errors.members(mpjpe, index)["mpjpe"]).min(axis=1) for index in chosen]
            seen.errors[kind, t] = np.stack(errors)[:, keep]
        for t, n in itertools.product(TEMPERATURES, ns):
            if n > 1 and weights.reads_prior(self._settings.weights):
                found = outputs.quantize(n, temperature=t)
                hit = np.asarray(calibration.hits(found, outputs.truth))[keep]
                seen.clusters[t, n] = hit, np.asarray(found.assignment)[keep]
        self._seen.append(seen)

    def gather(self) -> None:
        """Ends the split: adds what the other processes read, if there are any, in the order of the examples."""
        self._seen = multihost.in_turns(self._seen)

    def errors(self, kind: str = "prior") -> dict[float, np.ndarray]:
        """Temperature -> mean MPJPE-n (N,), millimetres, of the sets under the weights of this kind for each n."""
        return {
            t: np.concatenate([seen.errors[kind, t] for seen in self._seen], axis=1).mean(axis=1) for t in TEMPERATURES
        }

    def chosen(self) -> dict[str, float]:
        """The temperature with the least mean error over n, for each kind of weights."""
        errors = {kind: self.errors(kind) for kind in self._kinds}
        return {kind: min(its, key=lambda t: its[t].mean()) for kind, its in errors.items()}

    def calibrated(self, temperature: float) -> dict[str, float]:
        """n -> the temperature that fits the probabilities of the sets chosen under `temperature` (`calibration.fit`).

        Empty where the weights of the quantizer do not read the prior.
        """
        kind, fitted = self._settings.weights, {}
        for n in self._settings.ns if weights.reads_prior(kind) else ():
            if n == 1:
                continue
            prob, hits = [], []
            for seen in self._seen:
                scores = None if seen.log_scores is None else jnp.asarray(seen.log_scores)
                logs = jnp.stack(calibration.at_each(kind, jnp.asarray(seen.log_prior), scores), axis=1)
                hit, assignment = seen.clusters[temperature, n]
                prob.append(calibration.probabilities(logs, jnp.asarray(assignment), n))
                hits.append(hit)
            hit = np.concatenate(hits)
            fitted[str(n)] = calibration.fit(np.concatenate(prob), hit, calibration.GRID)
        return fitted
