"""What one pass over the validation split of a set chooses for the quantizer: temperatures of the weights of eq (2), and how
sharp the probabilities of its clusters are."""

from collections.abc import Sequence
from typing import no_type_check

import flax.struct
import numpy as np

from multibodies_jax.evaluation import calibration, set_errors
from multibodies_jax.evaluation.outputs import Outputs, Settings
from multibodies_jax.hypotheses import weight_kinds
from multibodies_jax.training import multihost

TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Factors on the log-prior among which the quantizer's is chosen; 1 is eq (2) as printed."""


@no_type_check  # Tree operations fill it with NumPy arrays.
class _Seen(flax.struct.PyTreeNode):
    """Of the examples of one batch, by kind and temperature: errors (n, N), and the masses of the sets of each n > 1."""

    errors: dict[tuple[str, float], np.ndarray]
    clusters: dict[tuple[str, float], list[dict[str, calibration.Masses]]]


class Temperatures:
    """Chooses the quantizer's temperature by the error of its sets, and the sharpness that calibrates their probabilities.

    The second depends on the clusters of the first; the masses of all candidates' clusters are kept, so that each batch is
    read once.
    """

    def __init__(self, settings: Settings, kinds: Sequence[str] = ("prior",)):
        """Args:

        settings: of the quantizer.
        kinds: of weights: a sharpness is fitted for each of them, and a temperature chosen for those that read the prior.
        """
        self._settings = settings
        self._temperatures = {kind: TEMPERATURES if weight_kinds.reads_prior(kind) else (1.0,) for kind in kinds}
        self._seen: list[_Seen] = []

    def observe(self, outputs: Outputs) -> None:
        """Reads one batch of the validation split."""
        keep, ns = outputs.valid, self._settings.ns
        mpjpe = {"mpjpe": outputs.errors["mpjpe"]}
        seen = _Seen({}, {})
        for kind, temperatures in self._temperatures.items():
            for t in temperatures:
                sets = [outputs.quantize(n, weights=kind, temperature=t) for n in ns]
                errors = [np.asarray(set_errors.members(mpjpe, its.medoid)["mpjpe"]).min(axis=1) for its in sets]
                seen.errors[kind, t] = np.stack(errors)[:, keep]
                seen.clusters[kind, t] = [
                    calibration.masses(its, outputs.truth, keep, outputs.hyps.log_scores)
                    for n, its in zip(ns, sets, strict=True)
                    if n > 1
                ]
        self._seen.append(seen)

    def gather(self) -> None:
        """Ends the split: adds what the other processes read, if there are any, in the order of the examples."""
        self._seen = multihost.in_turns(self._seen)

    def errors(self, kind: str = "prior") -> dict[float, np.ndarray]:
        """Temperature -> mean MPJPE-n (N,), millimetres, of the sets under the weights of this kind for each n."""
        return {
            t: np.concatenate([seen.errors[kind, t] for seen in self._seen], axis=1).mean(axis=1)
            for t in self._temperatures[kind]
        }

    def chosen(self) -> dict[str, float]:
        """The temperature with the least mean error over n, for each kind of weights that reads the prior."""
        errors = {kind: self.errors(kind) for kind in self._temperatures if weight_kinds.reads_prior(kind)}
        return {kind: min(its, key=lambda t: its[t].mean()) for kind, its in errors.items()}

    def sharpness(self) -> dict[str, dict[str, float]]:
        """`calibration.fit` of the sets under each kind of weights at its chosen temperature; empty of single bodies."""
        chosen = self.chosen() if self._seen else {}
        fits = {
            kind: calibration.fit([seen.clusters[kind, chosen.get(kind, 1.0)] for seen in self._seen])
            for kind in self._temperatures
        }
        return {kind: its for kind, its in fits.items() if its}
