"""What the errors of one evaluated set come to: means, paired differences, use of hypotheses, calibration, curves."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from multibodies_jax.data import occlusion
from multibodies_jax.evaluation import calibration, judge, metrics


@dataclasses.dataclass(frozen=True)
class Scores:
    """What one split of one set gave; N examples.

    Attributes:
      found: a `judge.Findings` of all examples in order, of NumPy arrays with leading axis N.
      ids: of the examples.
    """

    found: Any
    ids: list[str]

    @property
    def errors(self) -> dict[tuple[str, str, str], np.ndarray]:
        """(method, n, metric) -> (N,), millimetres."""
        tree = self.found.errors
        return {(m, n, k): v for m, sets in tree.items() for n, scores in sets.items() for k, v in scores.items()}


def ordered_map(function: Callable[..., Any], *trees: Any) -> Any:
    """`jax.tree.map` over findings or parts of them that keeps the order of dictionaries, in which rows are printed."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: ordered_map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, judge.Findings | judge.Calibration):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first)(**{n: ordered_map(function, *(getattr(tree, n) for tree in trees)) for n in names})
    return function(*trees)


def join(parts: Sequence[Any]) -> Any:
    """Several batches as one."""
    return ordered_map(lambda *leaves: np.concatenate(leaves), *parts)


def of_metrics(scores: Scores) -> dict[str, Any]:
    """method -> n -> metric -> `metrics.summary`."""
    return ordered_map(metrics.summary, scores.found.errors)


def of_single(scores: Scores) -> dict[str, Any]:
    """`choices.SINGLE` -> metric -> `metrics.summary`."""
    return ordered_map(metrics.summary, scores.found.single)


def of_calibration(scores: Scores, validation: Mapping[str, Any], temperature: float) -> dict[str, Any]:
    """n -> `calibration.describe` and the temperature in use; with a validation split also the one fitted there."""
    result = {}
    for n, found in scores.found.calibration.items():
        fitted = None
        if n in validation:
            fitted = calibration.fit(validation[n].prob[:, 1:], validation[n].hit, calibration.GRID)
        tuned, *others = np.moveaxis(found.prob, 1, 0)
        result[n] = {"temperature": temperature} | calibration.describe(found.hit, tuned, others[0])
        if fitted is not None:
            bins = calibration.bins(others[calibration.GRID.index(fitted)], calibration.outcomes(found.hit, int(n)))
            result[n] |= {
                "temperature_fitted": fitted,
                "ece_fitted": calibration.expected_error(bins),
                "bins_fitted": bins,
            }
    return result


def of_curves(scores: Scores) -> dict[str, Any]:
    """Mean errors at every n, of random and of quantized sets; empty where they were not asked for."""
    means = ordered_map(lambda values: values.astype(np.float64).mean(axis=0).tolist(), scores.found.curves)
    if not means:
        return {}
    return {"n": list(range(1, len(means["random"]["mpjpe"]) + 1)), **means}


def per_example(name: str, scores: Scores) -> dict[str, np.ndarray]:
    """The arrays of per_example.npz of the set `name` (docs/interfaces.md, section 8)."""
    found = scores.found
    arrays = {f"{name}|example_id": np.array(scores.ids)}
    arrays |= {f"{name}|{'|'.join(key)}": values for key, values in scores.errors.items()}
    arrays |= {f"{name}|diagnostic|{key}": values for key, values in found.diagnostics.items() if _is_scalar(values)}
    for word, tree in (("single", found.single), ("curve", found.curves)):
        arrays |= {f"{name}|{word}|{kind}|{k}": v for kind, values in tree.items() for k, v in values.items()}
    return arrays


def _is_scalar(values: np.ndarray) -> bool:
    return values.ndim == 1 and values.dtype.kind == "f"


def comparisons(scores: Scores, main: str) -> list[dict[str, Any]]:
    """Paired differences main row - control at every n; an interval below 0 says that the main row is better."""
    errors, rows = scores.errors, []
    for (method, n, name), values in errors.items():
        if method in judge.CONTROLS and name in judge.TUNED:
            row = {"control": method, "n": int(n), "metric": name}
            rows.append(row | metrics.paired(errors[main, n, name], values))
    return rows


def diagnose(scores: Scores, num_hypotheses: int, main: str) -> dict[str, Any]:
    """What the numbers stand on: spread, 2D error, use of hypotheses, energy of the quantized sets."""
    diagnostics = scores.found.diagnostics
    result: dict[str, Any] = {}
    for name, values in diagnostics.items():
        if not _is_scalar(values) or not np.isfinite(values).any():
            continue
        word, _, n = name.partition("|")  # Energies are told for each n.
        summary = metrics.summary(values[np.isfinite(values)])
        result |= {word: result.get(word, {}) | {n: summary}} if n else {name: summary}
    if main in (judge.OURS, judge.HMR):  # Others come in random order: their k-th hypothesis is nobody's.
        best = np.bincount(diagnostics["best_hypothesis"], minlength=num_hypotheses)
        share = best[best > 0] / best.sum()
        result["hypotheses_ever_best"] = int((best > 0).sum())
        result["hypotheses_never_best"] = int((best == 0).sum())
        result["hypotheses_in_use"] = float(np.exp(-(share * np.log(share)).sum()))
    own, shuffled = ((method, "1", "mpjpe") for method in (main, judge.shuffled_of(main)))
    if own in scores.errors and shuffled in scores.errors:
        result["worse_when_shuffled"] = float(scores.errors[shuffled].mean() / scores.errors[own].mean() - 1)
    return result


def same_people(scores: Mapping[str, Scores], main: str) -> dict[str, Any]:
    """What hiding does to the same people: the last set against the first, where they have the same examples.

    Comparing visible with hidden joints within one set would compare trunks with limbs; here every joint of every
    person is compared with itself.
    """
    plain, *_, hidden = [*scores.values()] * 2  # Twice, so that one set is both.
    if plain is hidden or plain.ids != hidden.ids:
        return {}
    result: dict[str, Any] = {}
    difference = hidden.found.diagnostics["spread_mm"] - plain.found.diagnostics["spread_mm"]
    single = next((m for m in (judge.HMR, main) if (m, "1", "mpjpe") in hidden.errors), None)
    for kind in np.unique(hidden.found.diagnostics["occlusion"]):
        rows = hidden.found.diagnostics["occlusion"] == kind
        if rows.sum() < 2:
            continue
        entry: dict[str, Any] = {"examples": int(rows.sum())}
        unseen = (plain.found.diagnostics["seen"] & ~hidden.found.diagnostics["seen"])[rows]
        for word, where in (("hidden", unseen), ("visible", hidden.found.diagnostics["seen"][rows])):
            if where.any():
                means = (difference[rows] * where).sum(axis=1) / np.maximum(where.sum(axis=1), 1)
                entry[f"spread_of_{word}_joints_mm"] = metrics.paired(means, np.zeros_like(means))
        if single:
            key = (single, "1", "mpjpe")
            entry["single_mpjpe"] = metrics.paired(hidden.errors[key][rows], plain.errors[key][rows])
        result[occlusion.STRATEGIES[kind]] = entry
    return result
