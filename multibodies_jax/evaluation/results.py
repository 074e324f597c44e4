"""What is written of an evaluation: results.json, results.md and per_example.npz (docs/interfaces.md, section 8).

Means over examples, paired differences, use of hypotheses, calibration and curves, from the findings of one set.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, no_type_check

import jax
import numpy as np

from configs import default
from multibodies_jax import devices, io
from multibodies_jax.data import occlusion, sources
from multibodies_jax.evaluation import calibration, intervals, methods, metrics, protocols, results_page
from multibodies_jax.evaluation.outputs import Settings
from multibodies_jax.hypotheses import weight_kinds
from multibodies_jax.registry import Registry
from multibodies_jax.training import multihost, provenance

SCHEMA = 3

Values = np.ndarray | jax.Array

PUBLISHED: Registry[Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = Registry("eval.published")
"""Published numbers by evaluation: from the summaries of the main row (n -> metric -> summary) to rows for results.json."""


@dataclasses.dataclass(frozen=True)
class Choices:
    """What was chosen on the validation split of one set.

    Attributes:
      settings: with the chosen temperatures and sharpnesses.
      tuned: what results.json says of the choices.
      inspected: what the network's own inspection found (`models.build.Network.inspect`), by its part of the config.
    """

    settings: Settings
    tuned: dict[str, Any] = dataclasses.field(default_factory=dict)
    inspected: dict[str, Any] = dataclasses.field(default_factory=dict)


Calibrations = Mapping[str, calibration.Calibration]  # By n.

CALIBRATIONS = ("calibration", "calibration_refined")
"""Kinds of arrays in per_example.npz, and parts of results.json: of the main row, and of the row "refined"."""


@no_type_check  # Filled with the arrays of a batch, then with those of all batches.
@dataclasses.dataclass(frozen=True)
class Findings:
    """What the examples of one set gave, in their order, without padding; leading axis N.

    Attributes:
      ids: of the examples.
      errors: row -> n -> metric -> (N,), millimetres or percent.
      diagnostics: of the full set of M hypotheses; the energies of the quantized sets are `energy_mm|<n>`.
      single: of `set_errors.SINGLE`: metric -> (N,).
      calibration: n -> that of the quantized sets, for n > 1.
      calibration_refined: n -> that of the row "refined"; empty without it.
      curves: "random": metric -> error at n = 1, ..., M (N, M); "quantized", if asked for, to the largest n asked for.
    """

    ids: Values
    errors: Mapping[str, Mapping[str, Mapping[str, Values]]]
    diagnostics: Mapping[str, Values]
    single: Mapping[str, Mapping[str, Values]]
    calibration: Calibrations
    curves: Mapping[str, Mapping[str, Values]]
    calibration_refined: Calibrations = dataclasses.field(default_factory=dict)

    @property
    def flat_errors(self) -> dict[tuple[str, str, str], np.ndarray]:
        """(row, n, metric) -> (N,)."""
        tree = self.errors
        return {
            (m, n, k): np.asarray(v)
            for m, sets in tree.items()
            for n, scores in sets.items()
            for k, v in scores.items()
        }


def ordered_map(function: Callable[..., Any], *trees: Any) -> Any:
    """`jax.tree.map` over findings or parts of them that keeps the order of dictionaries, in which rows are printed."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: ordered_map(function, *(tree[key] for tree in trees)) for key in first}
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first)(**{n: ordered_map(function, *(getattr(tree, n) for tree in trees)) for n in names})
    return function(*trees)


def join(parts: Sequence[Any]) -> Any:
    """Several batches as one, with those of other processes, if there are any, in their places."""
    leaves: list[list[np.ndarray]] = [[] for _ in parts]
    for part, its in zip(parts, leaves, strict=True):
        ordered_map(its.append, part)
    joined = map(np.concatenate, zip(*multihost.in_turns(leaves), strict=True))
    return ordered_map(lambda _: next(joined), parts[0])


def describe(evaluation: methods.Evaluation, trained: Mapping[str, Any]) -> dict[str, Any]:
    """The head of results.json: what was evaluated, and how; `trained` are the metadata of its checkpoint."""
    config, networks, settings = evaluation.config, evaluation.networks, evaluation.settings
    named, *strict = (one.described for one in protocols.both(settings.protocol).values())
    regressors = {settings.label: networks.main} | ({methods.HMR: networks.hmr} if networks.hmr else {})
    return {
        "schema": SCHEMA,
        **provenance.metadata(config, networks.main.bodies),
        "computed": {**devices.described(), "trunk": "XLA" if networks.read is None else "ONNX Runtime"},
        "model": config.model.name,
        "label": settings.label,
        "seed": config.seed,
        "split": config.eval.split,
        "protocol": named,
        **({"protocol_strict": strict[0]} if strict else {}),
        "num_hypotheses": networks.main.num_hypotheses,
        "steps": {name: regressor.step for name, regressor in regressors.items()},
        "images_seen": {name: regressor.images_seen for name, regressor in regressors.items()},
        "inits": {name: regressor.init for name, regressor in regressors.items()},
        "init": trained.get("init") or {"dir": "", "fingerprint": None},
        "training_seconds": trained.get("training_seconds"),
        **({"extended": trained["extended"]} if trained.get("extended") else {}),
        "prior": {"held_out_log_prob": networks.density.held_out_log_prob, "noise_mm": config.flow.noise_mm},
        **{part: {} for part in ("tuned_on_validation", "datasets", "metrics", "compared", "diagnostics")},
        **{part: {} for part in ("single", "calibration")},
    }


def add_set(
    result: dict[str, Any],
    evaluation: methods.Evaluation,
    name: str,
    found: Findings,
    rows: Sequence[methods.Method],
    choices: Choices,
) -> None:
    """Adds what one set gave to the contents of results.json.

    Args:
      result: from `describe`; changed in place.
      evaluation: of the work directory.
      name: of the set.
      found: on the evaluated split.
      rows: of the table.
      choices: what was chosen on the validation split.
    """
    config, settings = evaluation.config, choices.settings
    result["tuned_on_validation"][name] = choices.tuned
    result["temperature"] = settings.temperature  # Prediction uses the one of the last set.
    if settings.temperatures:
        result["temperatures"] = dict(settings.temperatures)
    result |= sharpness_of(settings)
    if "refined" in choices.tuned:
        result["fitting"] = _of_fits(choices.tuned, settings.weights)  # As the temperature.
    result["datasets"][name] = _dataset(config, name, found.ids.tolist())
    timeline, compared = timeline_of(found, settings.protocol), [row.name for row in rows if row.compared]
    result["metrics"][name] = of_metrics(found, timeline)
    result["compared"][name] = comparisons(found, settings.label, compared, timeline)
    if timeline is not None:
        result.setdefault("cameras", {})[name] = of_cameras(found, timeline)
    result["diagnostics"][name] = diagnose(found, result["num_hypotheses"], settings)
    result["single"][name] = of_single(found, timeline)
    result["calibration"][name] = of_calibration(found.calibration, settings)
    if found.calibration_refined:
        chosen = choices.tuned["refined"]["chosen"]
        sharpness = {end: chosen[f"sharpness{end}"] for end in ("", "_scores") if f"sharpness{end}" in chosen}
        of_row: dict[str, Any] = {"temperature": chosen.get("temperature", settings.temperature)}
        of_row |= {"sharpness": {settings.weights: sharpness}}
        refined = of_calibration(found.calibration_refined, dataclasses.replace(settings, **of_row))
        result.setdefault("calibration_refined", {})[name] = refined
    if found.curves:
        result.setdefault("curves", {})[name] = of_curves(found)
    for part, inspected in choices.inspected.items():
        result.setdefault(part, {})[name] = inspected
    if published := default.optional(config, "eval.published"):
        rows_beside = PUBLISHED[published](result["metrics"][name][settings.label])
        result.setdefault("published", {})[name] = rows_beside


def sharpness_of(settings: Settings) -> dict[str, Any]:
    """`sharpness` by kind of weights, for results.json; nothing where none was fitted."""
    found = {kind: its[""] for kind, its in settings.sharpness.items()}
    return {"sharpness": found} if found else {}


def _of_fits(tuned: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What the refined rows chose: the factors under the main row's weights, temperature and sharpness of each kind of weights."""
    rows = {f"refined_{its}": its for its in weight_kinds.KINDS if its != kind} | {"refined": kind}
    chosen = {its: tuned[row]["chosen"] for row, its in rows.items() if row in tuned}
    found = {name: value for name, value in chosen[kind].items() if not name.startswith("sharpness")}
    for name, by_kind in (("temperature", "temperatures"), ("sharpness", "sharpness")):
        its = {of: one[name] for of, one in chosen.items() if name in one}
        found |= {by_kind: its} if its else {}
    return found


def write(workdir: pathlib.Path, result: Mapping[str, Any], arrays: Mapping[str, Values]) -> dict[str, Any]:
    """Replaces the three result files one by one, each atomically: the numbers first, then the page for people.

    Returns:
      What is in results.json: `result` with its own checksum (`io.sealed`).
    """
    result = io.sealed(result)
    io.write_npz(workdir / "per_example.npz", {name: np.asarray(values) for name, values in arrays.items()})
    io.write_json(workdir / "results.json", result)
    io.write_text(workdir / "results.md", results_page.markdown(result) + "\n")
    return result


def _dataset(config: Any, name: str, ids: Sequence[str]) -> dict[str, Any]:
    """What tells a set from every other one: its name with all its options, and its examples."""
    built = sources.source_name(config, name)
    digest = io.sha256("\n".join([built, *ids]).encode())
    return {"name": built, "examples": len(ids), "fingerprint": digest}


def timeline_of(found: Findings, protocol: protocols.Protocol) -> intervals.Timeline | None:
    """When the examples were seen, where they are frames of videos (`Protocol.block`); else None."""
    if not protocol.block:
        return None
    try:
        return intervals.Timeline.of_ids(found.ids.tolist(), protocol.block)
    except ValueError as error:
        raise ValueError(f"Protocol {protocol.name!r} is for frames of videos. {error}") from error


def of_metrics(found: Findings, timeline: intervals.Timeline | None = None) -> dict[str, Any]:
    """method -> n -> metric -> `intervals.summary`, or that of the timeline."""
    return ordered_map(intervals.summary if timeline is None else timeline.summary, found.errors)


def of_cameras(found: Findings, timeline: intervals.Timeline) -> dict[str, Any]:
    """camera -> what `of_metrics` gives of its examples."""
    cameras = np.array([name.rpartition("/")[0].rpartition("/")[2] for name in found.ids.tolist()])
    result = {}
    for camera in np.unique(cameras).tolist():
        its = cameras == camera
        some = ordered_map(lambda values, its=its: values[its], found.errors)
        result[camera] = ordered_map(timeline.rows(its).summary, some)
    return result


def of_single(found: Findings, timeline: intervals.Timeline | None) -> dict[str, Any]:
    """`set_errors.SINGLE` -> metric -> `intervals.summary`, or that of the timeline."""
    return ordered_map(intervals.summary if timeline is None else timeline.summary, found.single)


def of_calibration(found: Mapping[str, calibration.Calibration], settings: Settings) -> dict[str, Any]:
    """n -> `calibration.describe` and the weights in use, and the same of probabilities of the sharpness fitted on validation.

    Where there are learned scores, `scores` has the measures of the same clusters under them.
    """
    result = {}
    for n, one in found.items():
        hit, under = np.asarray(one.hit), {ending: np.asarray(prob) for ending, prob in one.prob.items()}
        result[n] = {"weights": settings.weights, "temperature": settings.factor}
        result[n] |= calibration.describe(hit, under[""], under["_uniform"])
        sharpness = settings.sharpness.get(settings.weights, {})
        result[n] |= _of_sharpened(hit, under.get("_fitted"), sharpness.get(""))
        if "_fitted" in under:
            result[n]["bins_fitted"] = calibration.bins(under["_fitted"], calibration.outcomes(hit, int(n)))
        if "_scores" in under:
            fitted = _of_sharpened(hit, under.get("_scores_fitted"), sharpness.get("_scores"))
            result[n]["scores"] = calibration.scores(hit, under["_scores"]) | fitted
    return result


def _of_sharpened(hit: np.ndarray, prob: np.ndarray | None, sharpness: float | None) -> dict[str, Any]:
    """The scores of sharpened probabilities, with `_fitted` at the end of their names, and the sharpness."""
    if prob is None:
        return {}
    found = {f"{name}_fitted": value for name, value in calibration.scores(hit, prob).items()}
    return {"sharpness": sharpness, **found}


def of_curves(found: Findings) -> dict[str, Any]:
    """Mean errors at every n, of random and of quantized sets; empty where they were not asked for."""
    means = ordered_map(lambda values: values.astype(np.float64).mean(axis=0).tolist(), found.curves)
    if not means:
        return {}
    return {"n": list(range(1, len(means["random"]["mpjpe"]) + 1)), **means}


def per_example(sets: Mapping[str, Findings]) -> dict[str, Values]:
    """The arrays of per_example.npz (docs/interfaces.md, section 8), from what each set gave."""
    return {key: values for name, found in sets.items() for key, values in _arrays_of(name, found).items()}


def _arrays_of(name: str, found: Findings) -> dict[str, Values]:
    arrays: dict[str, Values] = {f"{name}|example_id": found.ids}
    arrays |= {f"{name}|{'|'.join(key)}": values for key, values in found.flat_errors.items()}
    arrays |= {f"{name}|diagnostic|{key}": values for key, values in found.diagnostics.items() if _is_scalar(values)}
    for word, tree in (("single", found.single), ("curve", found.curves)):
        arrays |= {f"{name}|{word}|{kind}|{k}": v for kind, values in tree.items() for k, v in values.items()}
    for word in CALIBRATIONS:
        for n, one in getattr(found, word).items():
            for ending, prob in one.prob.items():
                of_each = calibration.per_image(np.asarray(one.hit), np.asarray(prob))
                arrays |= {f"{name}|{word}|{n}|{k}{ending}": v for k, v in of_each.items()}
    return arrays


def _is_scalar(values: Values) -> bool:
    return values.ndim == 1 and values.dtype.kind == "f"


def comparisons(
    found: Findings, main: str, controls: Collection[str], timeline: intervals.Timeline | None = None
) -> list[dict[str, Any]]:
    """Paired differences main row - control at every n; an interval below 0 says that the main row is better."""
    errors, rows = found.flat_errors, []
    paired = intervals.paired if timeline is None else timeline.paired
    for (method, n, name), values in errors.items():
        if method in controls and name in metrics.REPORTED:
            row = {"control": method, "n": int(n), "metric": name}
            rows.append(row | paired(errors[main, n, name], values))
    return rows


def diagnose(found: Findings, num_hypotheses: int, settings: Settings) -> dict[str, Any]:
    """What the numbers stand on: spread, 2D error, use of hypotheses, energy of the quantized sets."""
    diagnostics = {name: np.asarray(values) for name, values in found.diagnostics.items()}
    result: dict[str, Any] = {}
    for name, values in diagnostics.items():
        if not _is_scalar(values) or np.isnan(values).all():
            continue
        word, _, n = name.partition("|")  # Energies are given for each n.
        summary = intervals.summary(values[~np.isnan(values)])  # NaN: the example lacks it.
        result |= {word: result.get(word, {}) | {n: summary}} if n else {name: summary}
    if not settings.exchangeable:  # The k-th of exchangeable hypotheses is a different one in each image.
        best = np.bincount(diagnostics["best_hypothesis"], minlength=num_hypotheses)
        share = best[best > 0] / best.sum()
        result["hypotheses_ever_best"] = int((best > 0).sum())
        result["hypotheses_never_best"] = int((best == 0).sum())
        result["hypotheses_in_use"] = float(np.exp(-(share * np.log(share)).sum()))
    errors = found.flat_errors
    own, shuffled = ((method, "1", "mpjpe") for method in (settings.label, methods.shuffled_of(settings.label)))
    if own in errors and shuffled in errors:
        result["worse_when_shuffled"] = float(errors[shuffled].mean() / errors[own].mean() - 1)
    return result


def same_people(sets: Mapping[str, Findings], main: str, protocol: protocols.Protocol | None = None) -> dict[str, Any]:
    """What hiding does to the same people: the last set against the first, where they have the same examples.

    Comparing visible with hidden joints within one set would compare trunks with limbs; here every joint of every
    person is compared with itself.
    """
    plain, *_, hidden = [*sets.values()] * 2  # Twice, so that one set is both.
    if plain is hidden or list(plain.ids) != list(hidden.ids):
        return {}
    result: dict[str, Any] = {}
    seen_plain, seen = (np.asarray(found.diagnostics["seen"]) for found in (plain, hidden))
    difference = np.asarray(hidden.diagnostics["spread_mm"]) - np.asarray(plain.diagnostics["spread_mm"])
    single = next((m for m in (methods.HMR, main) if (m, "1", "mpjpe") in hidden.flat_errors), None)
    occluded = np.asarray(hidden.diagnostics["occlusion"])
    timeline = None if protocol is None else timeline_of(hidden, protocol)
    for kind in np.unique(occluded):
        rows = occluded == kind
        if rows.sum() < 2:
            continue
        entry: dict[str, Any] = {"examples": int(rows.sum())}
        paired = intervals.paired if timeline is None else timeline.rows(rows).paired
        for word, where in (("hidden", (seen_plain & ~seen)[rows]), ("visible", seen[rows])):
            if where.any():
                means = (difference[rows] * where).sum(axis=1) / np.maximum(where.sum(axis=1), 1)
                entry[f"spread_of_{word}_joints_mm"] = paired(means, np.zeros_like(means))
        if single:
            key = (single, "1", "mpjpe")
            entry["single_mpjpe"] = paired(hidden.flat_errors[key][rows], plain.flat_errors[key][rows])
        result[occlusion.STRATEGIES[kind]] = entry
    return result
