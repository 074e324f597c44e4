"""Figures of a report: error against n, spread and 2D error, training, reliability, error against shape, hypotheses."""

import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multibodies_jax import untrusted
from multibodies_jax.baselines import controls
from multibodies_jax.body import body_files, smpl
from multibodies_jax.evaluation import methods
from multibodies_jax.reporting import extras, runs, statistics, tables, text
from multibodies_jax.vis import figures

_SHAPE_BINS, _SHAPE_NS = 5, (1, 5, 25)
_SPREAD_BINS = 5
_SPREAD = ("spread_visible_mm", "spread_hidden_mm")
_ERROR_2D = ("reprojection_px", "reprojection_hidden_px")
_TICKS = (1, 2, 5, 10, 25, 50, 100)
_IMAGES = 3  # Of the figure of hypotheses.
_LEAST = 20  # Predictions in a bin of the reliability diagram: fewer say nothing.
_SAME_MM = 0.5
_COLORED = (methods.OURS, "SMPL-MDN", "SMPL-CVAE", "SPIN", controls.NOISE, methods.HMR, "GraphCMR")
_COLORS = dict(zip(_COLORED, figures.LINES, strict=False))
_EMBEDDED = ("synthetic_bodies", "clean", "ambiguous")
_TITLES = {"clean": "all keypoints visible", "ambiguous": "limbs hidden"}
_ARRAYS = ("rotmats", "betas", "prob", "best", "kp2d", "kp2d_input", "crop", "truth_rotmats", "truth_betas")


def draw(cast: runs.Cast, doc: Mapping[str, Any], folder: pathlib.Path) -> list[str]:
    """Draws whatever the work directories have the numbers for; returns the names of the PNG files."""
    jobs: dict[str, Callable[[pathlib.Path], bool]] = {}
    for name in cast.sets:
        suffix = name.replace("/", "_")
        jobs[f"every_n_{suffix}.png"] = lambda path, name=name: every_n(cast, doc, name, path)
        jobs[f"reliability_{suffix}.png"] = lambda path, name=name: reliability(cast, name, path)
        jobs[f"shape_{suffix}.png"] = lambda path, name=name: error_by_shape(cast, name, path)
    jobs["error_against_n.png"] = lambda path: error_against_n(cast, path)
    jobs["spread.png"] = lambda path: spread(cast, path)
    jobs["training.png"] = lambda path: training(doc["training"], path)
    jobs["hypotheses.png"] = lambda path: hypotheses(cast, path)
    return [name for name, job in jobs.items() if job(folder / name)]


def error_against_n(cast: runs.Cast, path: pathlib.Path) -> bool:
    """MPJPE of the best of n with bands: ours, the baselines and HMR with noise, as predicted and refined; a line a set."""
    panels = {}
    for dataset in cast.sets:
        sets = [row for row in tables.table1(cast, dataset) if row.method in (row.group.main, controls.NOISE)]
        sets = [row for row in sets if row.group.num_hypotheses > 1]
        fitted = {methods.refined_of(row.label) for row in sets}
        both = sets, [row for row in tables.refined(cast, dataset) if row.label in fitted]
        panels[dataset] = [[cell for cell in tables.cells(rows, dataset) if cell["metric"] == "mpjpe"] for rows in both]
    return bands(panels, path)


def bands(
    panels: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], path: pathlib.Path, comment: str | None = None
) -> bool:
    """MPJPE of the best of n with bands; a line of panels for each set.

    Args:
      panels: set -> rows of the methods as predicted, and refined, if there are any, each with `method`, `n`, `mean`,
        `low` and `high`. Panels have axes of their own: refinement halves errors.
      path: of the PNG.
      comment: kept in it.

    Returns:
      Whether there was something to draw.
    """
    shown = [
        (i, word) for i, word in enumerate(("as predicted", "refined")) if any(rows[i] for rows in panels.values())
    ]
    if not shown:
        return False
    shape = (len(panels), 2) if len(shown) > 1 else (1, len(panels))
    figure = Figure(figsize=(4.9 * shape[1], 3.7 * shape[0]), dpi=150, layout="constrained")
    axes = figure.subplots(*shape, squeeze=False).reshape(len(panels), len(shown))
    for line, (dataset, columns) in zip(axes, panels.items(), strict=True):
        for axis, (i, word) in zip(line, shown, strict=True):
            rows = columns[i]
            for method in dict.fromkeys(row["method"] for row in rows):
                its = sorted((row for row in rows if row["method"] == method), key=lambda row: int(row["n"]))
                _band(axis, its, color_of(method), label=f"{method}{_sameness(its)}")
            _log_axis(axis, sorted({int(row["n"]) for row in rows}))
            axis.set(ylabel="MPJPE of the best of n, mm")
            axis.set_title(f"{title_of(dataset)}, {word}", fontsize=10)
    return _finish(figure, list(axes.flat), path, comment)


def color_of(label: str) -> str:
    """The colour of a method's lines, the same in all figures; of its rows refined or under other weights as well."""
    return next((color for name, color in _COLORS.items() if label.startswith(name)), figures.LINES[7])


def title_of(dataset: str) -> str:
    """What a set is called in a figure."""
    return _TITLES.get(dataset.rpartition("/")[2], dataset) if dataset.partition("/")[0] in _EMBEDDED else dataset


def _sameness(rows: Sequence[Mapping[str, Any]]) -> str:
    """Said of a line that is level, because all bodies of a set are one."""
    means = [float(row["mean"]) for row in rows]
    return " (collapsed)" if len(rows) > 1 and max(means) - min(means) < _SAME_MM else ""


def _log_axis(axis: Axes, ticks: Sequence[int] = _TICKS) -> None:
    """An axis of n."""
    axis.set_xscale("log")
    axis.set_xticks(ticks, [str(n) for n in ticks])
    axis.minorticks_off()
    axis.set(xlabel="n, number of bodies")


def spread(cast: runs.Cast, path: pathlib.Path) -> bool:
    """Visible against hidden joints of the M hypotheses, spread and 2D error, and the error against the spread.

    The images with hidden joints, by the spread of these in bins of as many each: the error of n = 1 and of the best of
    the largest n. Spread that means something grows with the error of one body, and the best of n stays below it.
    """
    dataset = next((name for name in reversed(cast.sets) if tables.is_ambiguous(name)), cast.sets[-1])
    groups = [group for group in _main_groups(cast) if group.num_hypotheses > 1]
    groups = [group for group in groups if f"{dataset}|diagnostic|{_SPREAD[1]}" in group.names]
    if not groups:
        return False
    figure, axes = _panels(3)
    found = {(row["method"], row["name"]): row for row in extras.diagnostics(cast, dataset)}
    for axis, names, unit in zip(axes, (_SPREAD, _ERROR_2D), ("spread, mm", "2D error, px of 224"), strict=False):
        for i, (name, color) in enumerate(zip(names, figures.LINES, strict=False)):
            rows = [found.get((group.label, name)) for group in groups]
            x = [k + 0.36 * (i - 0.5) for k, row in enumerate(rows) if row]
            rows = [row for row in rows if row]
            if not rows:
                continue
            word = ("visible", "hidden")[i]
            axis.bar(x, [row["mean"] for row in rows], 0.34, color=color, alpha=0.35, label=f"{word} joints")
            _bars(axis, x, rows, color, "", linestyle="none", markersize=0)
        axis.set_xticks(range(len(groups)), [group.label for group in groups])
        axis.set(ylabel=unit, ylim=(0, None), xlim=(-0.7, len(groups) - 0.3))
    axes[0].set_title(f"{title_of(dataset)}: all M hypotheses", fontsize=10)
    for group in groups:
        _error_by_spread(axes[2], group, dataset, color_of(group.label))
    low, high = axes[2].get_ylim()
    axes[2].set(xlabel="spread of the hidden joints, mm", ylabel="MPJPE, mm", ylim=(low, high + (high - low) / 3))
    return _finish(figure, axes, path)


def _error_by_spread(axis: Axes, group: runs.Group, dataset: str, color: str) -> None:
    """Lines of the error of n = 1 and of the best of the largest n, mean over bins of images of equal spread."""
    keys = {n: key for (n, metric), key in tables.keys_of(group, dataset, group.main).items() if metric == "mpjpe"}
    wide = group.stack(f"{dataset}|diagnostic|{_SPREAD[1]}").mean(axis=0)
    known = np.flatnonzero(np.isfinite(wide))
    if len(known) < 2 * _SPREAD_BINS or not keys:
        return
    bins = np.array_split(known[np.argsort(wide[known], kind="stable")], _SPREAD_BINS)
    x = [float(wide[index].mean()) for index in bins]
    for n, style in ((min(keys), "-"), (max(keys), "--")):
        errors = group.stack(keys[n]).mean(axis=0)
        ends = [_interval(group.runs[0], dataset, errors[:, None], index) for index in bins]
        rows = [
            {"n": at, "mean": float(errors[index].mean()), "low": float(low[0]), "high": float(high[0])}
            for at, index, (low, high) in zip(x, bins, ends, strict=True)
        ]
        _band(axis, rows, color, linestyle=style, label=f"{group.label}, n = {n}")


def _interval(run: runs.Run, dataset: str, values: np.ndarray, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean over some images (N,) of each column of values (N, K)."""
    timeline = run.timeline(dataset)
    return statistics.bootstrap(values[some], timeline=timeline and timeline.rows(some))


def _band(axis: Axes, rows: Sequence[Mapping[str, Any]], color: str, linestyle: str = "-", label: str = "") -> None:
    """A line of means over `n` with the band of their intervals."""
    n, mean, low, high = (np.array([row[name] for row in rows], float) for name in ("n", "mean", "low", "high"))
    axis.plot(n, mean, color=color, marker="o", markersize=3, linewidth=1.3, linestyle=linestyle, label=label)
    axis.fill_between(n, low, high, color=color, alpha=0.15, linewidth=0)


def every_n(cast: runs.Cast, doc: Mapping[str, Any], dataset: str, path: pathlib.Path) -> bool:
    """MPJPE and RE against n: the main row of every method with its intervals, and lines through every n if measured."""
    figure, axes = _panels(len(tables.TUNED))
    groups = _main_groups(cast)
    for axis, metric in zip(axes, tables.TUNED, strict=True):
        for i, group in enumerate(groups):
            color = color_of(group.label)
            rows = tables.cells([tables.Method(group.label, group, group.main)], dataset)
            points = {row["n"]: row for row in rows if row["metric"] == metric}
            if group.num_hypotheses == 1 and points:
                axis.axhline(points[1]["mean"], color=color, linewidth=0.9, linestyle=":")
            drawn = _draw_curves(axis, group, dataset, metric, color)
            shifted = np.array(list(points)) * (1 + 0.02 * (i - len(groups) / 2))  # So that no bar covers another.
            line = "none" if drawn else "-"
            _bars(axis, shifted.tolist(), list(points.values()), color, group.label, linestyle=line)
        _log_axis(axis)
        axis.set(ylabel=f"{text.metric_label(metric)}, mm")
    axes[0].set_title(f"{title_of(dataset)}, {doc['split']}", fontsize=10)
    return _finish(figure, axes, path)


def training(rows: Sequence[Mapping[str, Any]], path: pathlib.Path, comment: str | None = None) -> bool:
    """The error of what the losses see against the images seen (`extras.training`), with the range over seeds.

    Args:
      rows: with `method`, `images`, `mean` and, of several seeds, `seed_min` and `seed_max`.
      path: of the PNG.
      comment: kept in it.

    Returns:
      Whether there was something to draw.
    """
    figure, axes = _panels(1)
    for method in dict.fromkeys(row["method"] for row in rows):
        its = [row for row in rows if row["method"] == method]
        images, mean = (np.array([float(row[name]) for row in its]) for name in ("images", "mean"))
        color = color_of(methods.HMR if method == extras.FIRST_STAGE else method)
        style = "--" if method == extras.FIRST_STAGE else "-"
        axes[0].plot(images / 1000, mean, color=color, linewidth=1.3, linestyle=style, label=method)
        if all(row.get("seed_min") for row in its):
            low, high = (np.array([float(row[name]) for row in its]) for name in ("seed_min", "seed_max"))
            axes[0].fill_between(images / 1000, low, high, color=color, alpha=0.15, linewidth=0)
    axes[0].set(xlabel="images seen, thousands", ylabel="training error of what the losses see, mm", ylim=(0, None))
    return _finish(figure, axes, path, comment)


def reliability(cast: runs.Cast, dataset: str, path: pathlib.Path) -> bool:
    """How often the truth falls into a cluster against the probability of that cluster; one panel an n.

    Of the sharpness fitted on the validation split (of older results: the temperature), where there is one, else of the
    masses of the clusters.
    """
    shown = {group.label for group in _main_groups(cast)}
    rows = [_fitted(row) for row in extras.calibration(cast, dataset) if row["bins"] and row["method"] in shown]
    ns = sorted({row["n"] for row in rows})
    if not rows:
        return False
    figure, axes = _panels(len(ns))
    for axis, n in zip(axes, ns, strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
        for row in (row for row in rows if row["n"] == n):
            bins = [bin for bin in row["bins"] if bin["count"] >= _LEAST]
            points = np.array([[b["probability"], b["frequency"], b["count"]] for b in bins], float).reshape(-1, 3)
            label = f"{row['method']}, ECE {row['ece']:.3f}" if "ece" in row else row["method"]
            color = color_of(row["method"])
            axis.plot(*points[:, :2].T, color=color, linewidth=1.1, label=label)
            sizes = 6 + 60 * points[:, 2] / points[:, 2].sum()
            axis.scatter(*points[:, :2].T, s=sizes, color=color)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of a cluster", ylabel="share with the truth in it")
        axis.set_title(f"{title_of(dataset)}, n = {n}", fontsize=9)
    return _finish(figure, axes, path)


def _fitted(row: tables.Row) -> tables.Row:
    if not row["bins_fitted"] or "ece_fitted" not in row:
        return row
    return row | {"bins": row["bins_fitted"], "ece": row["ece_fitted"]}


def error_by_shape(cast: runs.Cast, dataset: str, path: pathlib.Path) -> bool:
    """MPJPE against the norm of the true shape (the paper's failure case), in bins of as many images each."""
    key = f"{dataset}|diagnostic|beta_norm"
    norms = next((group.stack(key)[0] for group in cast.groups if key in group.names), None)
    if norms is None or not np.isfinite(norms).all() or len(norms) < 2 * _SHAPE_BINS:
        return False
    series = _shape_series(cast, dataset)
    if not series:
        return False
    order = np.array_split(np.argsort(norms, kind="stable"), _SHAPE_BINS)
    values = np.stack([errors.mean(axis=0) for errors in series.values()], axis=1)
    figure, axes = _panels(1)
    centers = [float(norms[index].mean()) for index in order]
    bins = [(values[index].mean(axis=0), *_interval(cast.runs[0], dataset, values, index)) for index in order]
    for i, (label, color) in enumerate(zip(series, figures.LINES, strict=False)):
        rows = [{"mean": mean[i], "low": low[i], "high": high[i]} for mean, low, high in bins]
        _bars(axes[0], centers, rows, color, label)
    axes[0].set(xlabel="norm of the true shape", ylabel="MPJPE, mm")
    axes[0].set_title(title_of(dataset), fontsize=10)
    return _finish(figure, axes, path)


def hypotheses(cast: runs.Cast, path: pathlib.Path) -> bool:
    """Bodies of the methods for the same images, from the figures/examples.npz of the first seed of each."""
    found = {group.label: arrays for group in _main_groups(cast) if (arrays := _read_examples(group.runs[0]))}
    if not found:
        return False
    ids = next(iter(found.values()))["example_id"]
    found = {label: arrays for label, arrays in found.items() if np.array_equal(arrays["example_id"], ids)}
    config = cast.runs[0].result["config"].get("body", {})
    try:
        bodies = body_files.load(config.get("dir") or "", config.get("shape_components", 10))
    except (OSError, ValueError):
        return False  # Bodies that are not on this machine.
    if bodies.fingerprint != cast.runs[0].result["body_fingerprint"]:
        return False
    images = [
        {label: _example(bodies.smpl, arrays, i) for label, arrays in found.items()} for i in range(len(ids))[:_IMAGES]
    ]
    figures.by_method(path, images, np.asarray(bodies.smpl.faces))
    return True


def _main_groups(cast: runs.Cast) -> list[runs.Group]:
    return [group for role in runs.ROLES if (group := cast.reference(role))]


def _draw_curves(axis: Axes, group: runs.Group, dataset: str, metric: str, color: str) -> bool:
    """A line through every n of the main row, a dotted one of the other way to take n; says whether there was the first."""
    ours = group.role == "multibodies"
    for kind, words in (("quantized", "quantized"), ("random", "random n of the M")):
        n, mean = _curve(group, dataset, kind, metric)
        main = (kind == "quantized") == ours
        style: dict[str, Any] = (
            {"linewidth": 1.1} if main else {"linestyle": ":", "linewidth": 1, "label": f"{group.label}, {words}"}
        )
        if len(n):
            axis.plot(n, mean, color=color, **style)
    return len(_curve(group, dataset, "quantized" if ours else "random", metric)[0]) > 0


def _curve(group: runs.Group, dataset: str, kind: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """n and the mean over seeds of results.json's `curves`; empty where they were not measured."""
    found = [runs.dig(run.result, "curves", dataset) or {} for run in group.runs]
    means = [runs.dig(f, kind, metric) for f in found]
    if any(mean is None for mean in means) or len({len(mean) for mean in means if mean}) != 1:
        return np.empty(0), np.empty(0)
    mean = np.mean(np.asarray(means, float), axis=0)
    return np.asarray(found[0]["n"][: len(mean)], float), mean


def _shape_series(cast: runs.Cast, dataset: str) -> dict[str, np.ndarray]:
    series = {}
    for group in (cast.reference("multibodies"), cast.reference("hmr")):
        keys = tables.keys_of(group, dataset, group.main) if group else {}
        for n in _SHAPE_NS:
            if group and (n, "mpjpe") in keys:
                name = group.label if group.num_hypotheses == 1 else f"{group.label}, n = {n}"
                series[name] = group.stack(keys[n, "mpjpe"])
    return series


def _read_examples(run: runs.Run) -> dict[str, np.ndarray] | None:
    """The examples of a run's figure; None where there are none, or, which is said, damaged ones."""
    path = run.path / "figures" / "examples.npz"
    if not path.is_file():
        return None
    try:
        arrays = untrusted.read_npz(path)
    except (OSError, ValueError) as error:
        told = str(error)
    else:
        count = np.size(arrays.get("example_id", ()))
        if count and all(np.shape(arrays.get(name, 0))[:1] == (count,) for name in (*_ARRAYS, "truth_valid")):
            return arrays
        told = f"{path} lacks arrays, or they differ in length"
    print(f"left out of the figure of bodies: {told}. Evaluate {run.path} again.", file=sys.stderr)
    return None


def _example(body: smpl.SmplModel, arrays: Mapping[str, np.ndarray], i: int) -> figures.Example:
    def mesh(prefix: str) -> np.ndarray:
        rotmats, betas = (jnp.asarray(arrays[prefix + name][i], jnp.float32) for name in ("rotmats", "betas"))
        return np.asarray(smpl.mesh(body, rotmats, betas))

    evidence = figures.Evidence(arrays["kp2d"][i], arrays["kp2d_input"][i], arrays["crop"][i])
    truth = mesh("truth_") if arrays["truth_valid"][i] else None
    return figures.Example(evidence, mesh(""), arrays["prob"][i], int(arrays["best"][i]), truth)


def _bars(
    axis: Axes, x: Sequence[float], rows: Sequence[Mapping[str, Any]], color: str, label: str, **style: Any
) -> None:
    """Means with their intervals."""
    mean = np.array([row["mean"] for row in rows], float)
    reach = np.abs(np.array([[row["low"] for row in rows], [row["high"] for row in rows]], float) - mean[None])
    style = {"marker": "o", "markersize": 4, "linewidth": 1.1} | style
    axis.errorbar(x, mean, yerr=reach, capsize=2.5, color=color, label=label, **style)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.9 * count, 3.8), dpi=150, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _finish(figure: Figure, axes: Sequence[Axes], path: pathlib.Path, comment: str | None = None) -> bool:
    """Writes the figure, with a comment in the file, unless nothing was drawn into it; says which."""
    if not any(axis.has_data() for axis in axes):
        return False
    for axis in axes:
        figures.open_frame(axis)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=6, frameon=False, handlelength=3)
    figure.savefig(path, format="png", facecolor="white", metadata={"Comment": comment} if comment else None)
    return True
