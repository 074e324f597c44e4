"""What stands beside the tables: single hypotheses, spread and use of hypotheses, calibration, what hiding limbs does, and
how all were trained."""

import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from multibodies_jax import untrusted
from multibodies_jax.evaluation import methods, results, results_page
from multibodies_jax.reporting import runs, statistics, tables
from multibodies_jax.training import logs

Row = tables.Row
SINGLE = ("first", "most probable", "expected", "random")
FIRST_STAGE = "first stage, M = 1"
_STRETCHES = 20  # Of a training, in each of which the error is averaged.
_NUMBERS = ("hypotheses_ever_best", "hypotheses_never_best", "hypotheses_in_use", "worse_when_shuffled")
_PARTS: dict[str, Callable[[str], str]] = dict(zip(results.CALIBRATIONS, (str, methods.refined_of), strict=True))
"""Parts of results.json with the calibration of sets, and what its rows are called."""
_SCORES = (
    *("temperature", "ece", "ece_uniform", "top_ece", "log_loss", "log_loss_uniform"),
    *("top_ece_uniform", "top_ece_scores", "log_loss_scores"),
    *("sharpness", "ece_fitted", "top_ece_fitted", "log_loss_fitted"),
    *("sharpness_scores", "top_ece_scores_fitted", "log_loss_scores_fitted"),
    "temperature_fitted",  # Of evaluations before sharpness was fitted.
)
_ENDINGS = (
    "",
    "_uniform",
    "_scores",
    "_fitted",
    "_scores_fitted",
)  # Of the measures of each image, as `calibration.Calibration`.


def single(cast: runs.Cast, dataset: str) -> list[Row]:
    """Errors of one hypothesis of each group, by how it is taken: the first, the most probable, the mean over all."""
    columns = {
        (group.label, *rest): group.stack(key)
        for group, key, kind, rest in _arrays(cast, dataset)
        if kind == "single" and len(rest) == 2
    }
    return [
        {"set": dataset, "method": method, "taken": taken, "metric": metric} | summary
        for (method, taken, metric), summary in statistics.summarize(columns, cast.runs[0].timeline(dataset)).items()
    ]


def diagnostics(cast: runs.Cast, dataset: str) -> list[Row]:
    """Every diagnostic that was measured per image: spread, 2D error, effective number of hypotheses, ..."""
    columns = {
        (group.label, *rest): group.stack(key)
        for group, key, kind, rest in _arrays(cast, dataset)
        if kind == "diagnostic" and len(rest) == 1
    }
    columns = {key: values for key, values in columns.items() if np.isfinite(values).all(axis=0).any()}
    return [
        {"set": dataset, "method": method, "name": name} | summary
        for (method, name), summary in statistics.summarize(columns, cast.runs[0].timeline(dataset)).items()
    ]


def numbers(cast: runs.Cast, dataset: str) -> list[Row]:
    """Numbers that describe a whole run: hypotheses ever and never best or in use, root of the quantization energy."""
    rows = []
    for group in cast.groups:
        found = [run.result["diagnostics"].get(dataset, {}) for run in group.runs]
        # Hypotheses of the baselines are exchangeable, so statistics of one index are not reported for them.
        names = _NUMBERS if group.role in ("hmr", "multibodies") else _NUMBERS[-1:]
        values = {name: [f.get(name) for f in found] for name in names}
        for n in dict.fromkeys(n for f in found for n in f.get("energy_mm", {})):
            values[f"energy_mm, n = {n}"] = [runs.dig(f, "energy_mm", n, "mean") for f in found]
        for name, of_seeds in values.items():
            rows += _over_runs(of_seeds, {"set": dataset, "method": group.label, "name": name})
    return rows


def calibration(cast: runs.Cast, dataset: str) -> list[Row]:
    """Scores of the clusters' probabilities at every n, mean over seeds, also of refined sets; the bins of all seeds together.

    Where the numbers of each image are known, `intervals` has those of the log losses, of the calibration errors of the
    top, and of the differences to the log loss of uniform weights in percent of its mean (`log_loss_less`,
    `log_loss_scores_less`, the same with `_fitted` before `_less`): name -> `mean`, `low` and `high`.
    """
    rows = []
    for group, (part, label) in itertools.product(cast.groups, _PARTS.items()):
        found = [runs.dig(run.result, part, dataset) or {} for run in group.runs]
        for n in sorted({n for f in found for n in f}, key=int):
            of_seeds = [
                f[n] | {_of_scores(name): value for name, value in f[n].get("scores", {}).items()}
                for f in found
                if n in f
            ]
            if len({"sharpness" in f for f in of_seeds}) > 1:  # Of some seeds a temperature was fitted, long ago.
                of_seeds = [{name: value for name, value in f.items() if "fitted" not in name} for f in of_seeds]
            scores = {
                name: float(np.mean([f[name] for f in of_seeds]))
                for name in _SCORES
                if all(name in f for f in of_seeds)
            }
            if scores.get("temperature") == 0:  # Uniform weights, which have none.
                del scores["temperature"]
            row = {"set": dataset, "method": label(group.label), "n": int(n), "seeds": len(of_seeds)}
            bins = {kind: _pooled([b for f in of_seeds for b in f.get(kind, [])]) for kind in ("bins", "bins_fitted")}
            rows.append(row | scores | bins | {"intervals": _intervals(group, f"{dataset}|{part}|{n}")})
    return rows


def _of_scores(name: str) -> str:
    """What a measure of the probabilities is called under learned scores."""
    bare = name.removesuffix("_fitted")
    return f"{bare}_scores{name[len(bare) :]}"


def _intervals(group: runs.Group, place: str) -> dict[str, Mapping[str, float]]:
    """Those of `calibration`, from the arrays of per_example.npz whose keys begin with `place`."""
    timeline = group.runs[0].timeline(place.partition("|")[0])
    endings = [ending for ending in _ENDINGS if f"{place}|log_loss{ending}" in group.names]
    losses = {f"log_loss{ending}": group.stack(f"{place}|log_loss{ending}") for ending in endings}
    found: dict[str, Mapping[str, float]] = dict(statistics.summarize(losses, timeline))
    pairs = {f"{name}_less": (its, losses["log_loss_uniform"]) for name, its in losses.items() if "uniform" not in name}
    for name, its in statistics.compare(pairs, timeline, ranked=False).items():
        whole = found["log_loss_uniform"]["mean"]
        found[name] = {end: 100 * its[end] / whole for end in ("mean", "low", "high")}
    for ending in endings:
        probability, true = (group.stack(f"{place}|{name}{ending}") for name in ("top_probability", "top_true"))
        mean, low, high = statistics.calibration_error(probability, true, timeline)
        found[f"top_ece{ending}"] = {"mean": mean, "low": low, "high": high}
    return found


def cameras(cast: runs.Cast, dataset: str) -> list[Row]:
    """Errors of each camera of frames of videos (`evaluation.results.of_cameras`), of the first seed of ours."""
    ours = cast.reference("multibodies")
    found = runs.dig(ours.runs[0].result, "cameras", dataset) if ours else None
    return [
        {"set": dataset, "camera": camera, "method": method, "n": int(n), "metric": metric}
        | {name: summary[name] for name in ("mean", "low", "high")}
        for camera, rows in (found or {}).items()
        for method, by_n in rows.items()
        for n, scores in by_n.items()
        for metric, summary in scores.items()
    ]


def same_people(cast: runs.Cast) -> dict[str, Any]:
    """What hiding does to the same people, of ours: `evaluation.results.same_people`, as means over seeds.

    The ends of an interval are means over seeds, too, so that it is at least as wide as that of the mean over seeds would be.
    """
    ours = cast.reference("multibodies")
    found = [run.result.get("same_people") or {} for run in ours.runs] if ours else []
    return {
        hidden: _means([of_seed[hidden] for of_seed in found if hidden in of_seed])
        for hidden in dict.fromkeys(kind for of_seed in found for kind in of_seed)
    }


def _means(of_seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over seeds of one kind of occlusion."""
    result: dict[str, Any] = {"examples": of_seeds[0]["examples"]}
    for name in results_page.SAME_PEOPLE:
        known = [entry[name] for entry in of_seeds if name in entry]
        for summary in _over_runs((entry["mean"] for entry in known), {}):
            ends = {end: float(np.mean([entry[end] for entry in known])) for end in ("low", "high")}
            result[name] = summary | ends
    return result


def information(cast: runs.Cast) -> list[Row]:
    """What the runs of SMPL-CVAE say about the information in z: every number of their `cvae`, whatever it is."""
    rows = []
    for group in cast.groups:
        flat = [dict(_leaves(run.result.get("cvae") or {})) for run in group.runs]
        for name in dict.fromkeys(name for f in flat for name in f):
            values = [f.get(name) for f in flat]
            head = {"method": group.label, "name": name}
            if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
                rows += _over_runs(values, head)
            else:
                rows.append(head | {"values": [str(v) for v in values]})
    return rows


def training(cast: runs.Cast) -> list[Row]:
    """The error of what the losses see on training batches, against the images seen: says whether a training has settled.

    The best hypothesis of ours, the virtual prediction (eq 9) of SMPL-MDN, the decoded truth of SMPL-CVAE: not which
    method is better. The methods go on where the first stage ended that they started from, if its log is still there.

    Returns:
      Of each method, the first stage before it, in `_STRETCHES` stretches: `method`, `images` (at the end of a stretch),
      `mean` over its logged steps and over seeds, mm, `seed_min`, `seed_max` and `seeds`.
    """
    groups = [group for group in cast.groups if not group.differs]
    starts = [_best_mm(path) for run in groups[0].runs if (path := _first_stage(run))] if groups else []
    starts = [points for points in starts if len(points)]
    seen = max((points[-1, 0] for points in starts), default=0.0)
    rows = _stretches(FIRST_STAGE, starts, 0.0)
    for group in groups:
        rows += _stretches(group.label, [points for run in group.runs if len(points := _best_mm(run.path))], seen)
    return rows


def _first_stage(run: runs.Run) -> pathlib.Path | None:
    """The work directory from which a run started, if it is there."""
    path = run.config.get("init")
    return pathlib.Path(path) if isinstance(path, str) and path and pathlib.Path(path).is_dir() else None


def _best_mm(workdir: pathlib.Path) -> np.ndarray:
    """Images seen and training error, mm, of each logged step (N, 2); none of converted weights, which have no log."""
    try:
        batch = runs.dig(untrusted.read_json(workdir / "config.json", dict), "train", "batch")
        lines = logs.read(workdir / "checkpoints")
        points = [
            (line["step"] * batch, line["best_mm"]) for line in lines if line.get("best_mm") is not None and batch
        ]
        return np.array(points, float).reshape(-1, 2)
    except (OSError, ValueError, KeyError, TypeError):
        return np.zeros((0, 2))


def _stretches(method: str, of_seeds: Sequence[np.ndarray], before: float) -> list[Row]:
    """The rows of one method in `training`; its seeds have the same logged steps, or the shortest counts."""
    if not of_seeds:
        return []
    length = min(map(len, of_seeds))
    rows = []
    for index in np.array_split(np.arange(length), min(_STRETCHES, length)):
        means = [float(points[index, 1].mean()) for points in of_seeds]
        images = int(before + of_seeds[0][index[-1], 0])
        summary = {"mean": float(np.mean(means)), "seed_min": min(means), "seed_max": max(means), "seeds": len(means)}
        rows.append({"method": method, "images": images} | summary)
    return rows


def fairness(cast: runs.Cast) -> list[Row]:
    """How each run was trained: what has to be equal for a fair comparison, and where it came from."""
    rows = []
    for group in cast.groups:
        for run in group.runs:
            result = run.result
            rows.append(
                {
                    "method": group.label,
                    "seed": run.seed,
                    "hypotheses": run.num_hypotheses,
                    "images_seen": result["images_seen"].get(run.label),
                    "steps": result["steps"].get(run.label),
                    "batch": runs.dig(run.config, "train", "batch"),
                    "learning_rate": runs.dig(run.config, "optim", "learning_rate"),
                    "init": result["init"]["fingerprint"],
                    "training_seconds": result.get("training_seconds"),
                    "commit": result["commit"],
                    "workdir": str(run.path),
                }
            )
    return rows


def _arrays(cast: runs.Cast, dataset: str) -> Iterator[tuple[runs.Group, str, str, list[str]]]:
    """(group, key, its second part, the parts after) of every array of per_example.npz of one set."""
    for group in cast.groups:
        for key in group.names:
            where, *parts = key.split("|")
            if where == dataset and parts:
                yield group, key, parts[0], parts[1:]


def _over_runs(values: Iterable[Any], head: Mapping[str, Any]) -> list[Row]:
    known = [float(v) for v in values if v is not None]
    if not known:
        return []
    spread = {"mean": float(np.mean(known)), "seeds": len(known), "seed_min": min(known), "seed_max": max(known)}
    return [{**head, **spread}]


def _pooled(bins: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bins of several seeds as one list of ten equal widths, each by its counts; empty ones are left out."""
    sums = np.zeros((10, 3))
    for one in bins:
        if one["count"]:
            place = min(int(one["probability"] * 10), 9)
            sums[place] += np.array([one["probability"], one["frequency"], 1.0]) * one["count"]
    return [{"probability": float(p / c), "frequency": float(f / c), "count": int(c)} for p, f, c in sums if c]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}, ")
        else:
            yield prefix + name, value
