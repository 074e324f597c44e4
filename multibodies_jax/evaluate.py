"""Evaluates a work directory: the n-quantized errors of Table 1, with the controls that they have to beat."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from multibodies_jax import (
    checkpoints,
    controls,
    experiment,
    gallery,
    inference,
    judge,
    metrics,
    occlusion,
    prior,
    protocols,
    published,
    report,
    smpl,
)
from multibodies_jax.data import pipeline

SCHEMA = 1
TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class Scores:
    """What one split of one set gave; N examples."""

    errors: dict[tuple[str, str, str], np.ndarray]  # (method, n, metric) -> (N,), millimetres.
    diagnostics: dict[str, np.ndarray]  # name -> (N, ...).
    ids: list[str]


def evaluate(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """Evaluates the regressor of a work directory and writes results.json, results.md, per_example.npz and figures.

    Temperature and noise are chosen on the validation split of each set, errors are reported on `eval.split`.

    Returns:
      What is in results.json (docs/interfaces.md, section 8).

    Raises:
      CheckpointError: a checkpoint is missing, damaged or of another body.
      ValueError: the work directory has another config, or a set is empty or lacks what the protocol needs.
    """
    experiment.check_workdir(config, workdir)
    panel = _panel(config, workdir, experiment.load_bodies(config))
    result = _describe(config, panel)
    per_example: dict[str, np.ndarray] = {}
    scores: dict[str, Scores] = {}
    for name in config.eval.sets:
        settings, tuned = _tune(config, panel, name)
        scores[name] = _run(config, panel, name, settings)
        result["tuned_on_validation"][name] = tuned
        result["temperature"] = settings.temperature  # Prediction uses the one of the last set.
        result["datasets"][name] = _dataset(config, name, scores[name].ids)
        result["metrics"][name] = _summaries(scores[name].errors)
        result["compared"][name] = _comparisons(scores[name].errors)
        if config.eval.published:
            rows = published.compare(config.eval.published, result["metrics"][name][judge.OURS])
            result.setdefault("published", {})[name] = rows
        result["diagnostics"][name] = _diagnose(scores[name], panel.ours.num_hypotheses)
        per_example[f"{name}|example_id"] = np.array(scores[name].ids)
        per_example |= {f"{name}|{'|'.join(key)}": value for key, value in scores[name].errors.items()}
    result["same_people"] = _same_people(scores)
    _write(workdir, result, per_example)
    gallery.draw(config, workdir, panel, settings, result)
    print(report.markdown(result))
    print(f"Written to {workdir}: results.md, results.json, per_example.npz, figures/")
    return result


def _panel(config: Any, workdir: pathlib.Path, bodies: experiment.Bodies) -> judge.Panel:
    ours = inference.restore(config, workdir / "checkpoints", bodies)
    with_hmr = config.eval.controls and checkpoints.latest_step(workdir / "hmr") is not None
    with_books = config.eval.controls and ours.num_hypotheses > 1
    truth = protocols.get(config.eval.protocol).truth

    def scored(model: smpl.SmplModel) -> judge.Scored:
        some = np.arange(0, model.v_template.shape[0], config.eval.vertex_stride)
        return judge.Scored(smpl.contract(model, bodies.files.h36m_regressor), smpl.subset(model, some))

    gendered = truth == protocols.GENDERED
    return judge.Panel(
        ours=ours,
        density=prior.load_prior(config, workdir, bodies),
        scored=scored(bodies.smpl),
        books=controls.codebooks(config, bodies, _ns(config, ours)) if with_books else {},
        hmr=inference.restore(config, workdir / "hmr", bodies) if with_hmr else None,
        gendered=(scored(bodies.files.gendered("male")), scored(bodies.files.gendered("female"))) if gendered else None,
    )


def _describe(config: Any, panel: judge.Panel) -> dict[str, Any]:
    """The head of results.json: what was evaluated, and how."""
    named, *strict = map(dataclasses.asdict, protocols.both(protocols.get(config.eval.protocol)).values())
    regressors = {judge.OURS: panel.ours} | ({judge.HMR: panel.hmr} if panel.hmr else {})
    return {
        "schema": SCHEMA,
        **experiment.metadata(config, panel.ours.bodies),
        "seed": config.seed,
        "split": config.eval.split,
        "protocol": named,
        **({"protocol_strict": strict[0]} if strict else {}),
        "num_hypotheses": panel.ours.num_hypotheses,
        "steps": {name: regressor.step for name, regressor in regressors.items()},
        "images_seen": {name: regressor.images_seen for name, regressor in regressors.items()},
        "prior": {"held_out_log_prob": panel.density.held_out_log_prob, "noise_mm": config.flow.noise_mm},
        **{part: {} for part in ("tuned_on_validation", "datasets", "metrics", "compared", "diagnostics")},
    }


def _dataset(config: Any, name: str, ids: Sequence[str]) -> dict[str, Any]:
    """What tells a set from every other one: its name with all its options, and its examples."""
    built = experiment.source_name(config, name)
    digest = hashlib.sha256("\n".join([built, *ids]).encode()).hexdigest()
    return {"name": built, "examples": len(ids), "fingerprint": digest}


def _ns(config: Any, ours: inference.Regressor) -> tuple[int, ...]:
    return tuple(n for n in config.eval.ns if n <= ours.num_hypotheses)


class _Pairs(Sequence):
    """Each record with the one half the set away, read when called, whose evidence the shuffled control takes."""

    def __init__(self, source: Sequence[dict]):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        size = len(self)
        other = (index + max(size // 2, 1)) % size
        return {"record": self._source[index], "other": functools.partial(self._source.__getitem__, other)}


def examples(config: Any, name: str, split: str) -> Iterator[dict[str, Any]]:
    """Evaluation batches of one set, in order, the last one padded; for the controls with another example's evidence."""
    source = _Pairs(experiment.open_source(config, name, split))

    def make(pair: Mapping[str, Any]) -> dict[str, Any]:
        row = experiment.evaluation_row(config, pair["record"])
        if not config.eval.controls:
            return row
        other = experiment.evaluation_row(config, pair["other"]())
        return row | {judge.OTHER + key: other[key] for key in judge.EVIDENCE if key in other}

    return pipeline.evaluation_batches(source, config.eval.batch, make, config.data.threads, config.eval.max_examples)


def _run(config: Any, panel: judge.Panel, name: str, settings: judge.Settings) -> Scores:
    """Scores every method on the evaluated split of one set."""
    size = len(experiment.open_source(config, name, config.eval.split))
    size = min(size, config.eval.max_examples) if config.eval.max_examples else size
    all_errors: list[dict] = []
    all_diagnostics: list[dict] = []
    ids: list[str] = []
    batches = examples(config, name, config.eval.split)
    for batch in tqdm(batches, total=-(-size // config.eval.batch), desc=f"evaluate {name}", unit="batch"):
        keep = batch["valid"] > 0
        ids += list(batch["example_id"][keep])
        errors, diagnostics = judge.judge(panel, _arrays(batch), settings)
        diagnostics = diagnostics | {"occlusion": batch["occlusion"]}
        flat = {(m, n, k): v for m, sets in errors.items() for n, scores in sets.items() for k, v in scores.items()}
        all_errors.append({k: np.asarray(v)[keep] for k, v in flat.items()})
        all_diagnostics.append({k: np.asarray(v)[keep] for k, v in diagnostics.items()})
    return Scores(_joined(all_errors), _joined(all_diagnostics), ids)


def _joined(rows: list[dict]) -> dict:
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def _arrays(batch: dict[str, Any]) -> dict[str, jax.Array]:
    return {k: jnp.asarray(v) for k, v in batch.items() if k != "example_id"}


def _tune(config: Any, panel: judge.Panel, name: str) -> tuple[judge.Settings, dict[str, Any]]:
    """Chooses temperature and noise by the mean error on the validation split of a set."""
    q = config.quantizer
    settings = judge.Settings(
        ns=_ns(config, panel.ours),
        protocol=protocols.get(config.eval.protocol),
        reading=q.reading,
        weights=q.weights,
        starts=q.starts,
        iterations=q.iterations,
        temperature=q.temperature or 1.0,
        noise={},
    )
    tuned: dict[str, Any] = {}
    if panel.ours.num_hypotheses == 1:
        return settings, tuned
    if not q.temperature:
        grid = _temperature_errors(config, panel, name, settings)
        best = min(grid, key=lambda t: grid[t].mean())
        settings = dataclasses.replace(settings, temperature=best)
        errors = {str(t): [round(float(x), 2) for x in v] for t, v in grid.items()}
        tuned["temperature"] = {"chosen": best, "mpjpe_mm": errors}
    if panel.hmr is not None:
        degrees = _best_noise(config, panel, name, settings.ns)
        settings = dataclasses.replace(settings, noise={key: tuple(np.deg2rad(d)) for key, d in degrees.items()})
        tuned["noise_deg"] = {f"{m}-{n}": {"root": root, "pose": pose} for (m, n), (root, pose) in degrees.items()}
    return settings, tuned


def _temperature_errors(
    config: Any, panel: judge.Panel, name: str, settings: judge.Settings
) -> dict[float, np.ndarray]:
    """MPJPE-n on the validation split under prior weights, for each temperature."""
    values: dict[float, list] = {t: [] for t in TEMPERATURES}
    protocol = settings.protocol
    for batch in tqdm(examples(config, name, "validation"), desc="choose the temperature", unit="batch"):
        arrays, keep = _arrays(batch), batch["valid"] > 0
        hyps = judge.hypothesize(panel.ours, panel.density, arrays)
        every = judge.measure(panel, hyps, judge.truth_of(panel, arrays, protocol), protocol)["mpjpe"]
        keys = judge.example_keys(arrays, 0)
        for t in TEMPERATURES:
            chosen = [judge.quantized(hyps, n, keys, settings, weights="prior", temperature=t) for n in settings.ns]
            errors = [jnp.min(jnp.take_along_axis(every, q.medoid, axis=1), axis=1) for q in chosen]
            values[t].append(np.stack(errors)[:, keep])
    return {t: np.concatenate(v, axis=1).mean(axis=1) for t, v in values.items()}


def _best_noise(
    config: Any, panel: judge.Panel, name: str, ns: tuple[int, ...]
) -> dict[tuple[str, int], tuple[float, float]]:
    """(metric, n) -> (root, pose) noise in degrees with the least error of the HMR control on the validation split."""
    pairs = [(root, pose) for root in controls.NOISE_ROOT_DEG for pose in controls.NOISE_POSE_DEG]
    values: list[np.ndarray] = []
    protocol = protocols.get(config.eval.protocol)
    for batch in tqdm(examples(config, name, "validation"), desc="choose the control's noise", unit="batch"):
        arrays, keep = _arrays(batch), batch["valid"] > 0
        single = judge.respond(panel.hmr, arrays)
        errors = [
            judge.noisy_errors(panel, single, arrays, jnp.deg2rad(jnp.array(pair)), ns, protocol) for pair in pairs
        ]
        values.append(np.stack(errors)[..., keep])
    means = np.concatenate(values, axis=-1).mean(axis=-1)  # (pairs, metrics, ns)
    return {(m, n): pairs[int(means[:, i, j].argmin())] for i, m in enumerate(judge.TUNED) for j, n in enumerate(ns)}


def _summaries(errors: dict) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (method, n, name), values in errors.items():
        tree.setdefault(method, {}).setdefault(n, {})[name] = metrics.summary(values)
    return tree


def _comparisons(errors: dict) -> list[dict[str, Any]]:
    """Paired differences ours - control at every n; an interval below 0 says that ours is better."""
    rows = []
    for (method, n, name), values in errors.items():
        if method in judge.CONTROLS and name in judge.TUNED:
            row = {"control": method, "n": int(n), "metric": name}
            rows.append(row | metrics.paired(errors[judge.OURS, n, name], values))
    return rows


def _diagnose(scores: Scores, num_hypotheses: int) -> dict[str, Any]:
    """What the numbers stand on: spread, 2D error, use of hypotheses."""
    diagnostics = scores.diagnostics
    best = np.bincount(diagnostics["best_hypothesis"], minlength=num_hypotheses)
    share = best[best > 0] / best.sum()
    result: dict[str, Any] = {
        name: metrics.summary(values[np.isfinite(values)])
        for name, values in diagnostics.items()
        if values.ndim == 1 and values.dtype.kind == "f" and np.isfinite(values).any()
    }
    result["hypotheses_ever_best"] = int((best > 0).sum())
    result["hypotheses_in_use"] = float(np.exp(-(share * np.log(share)).sum()))
    ours, shuffled = ((method, "1", "mpjpe") for method in (judge.OURS, judge.SHUFFLED))
    if ours in scores.errors and shuffled in scores.errors:
        result["worse_when_shuffled"] = float(scores.errors[shuffled].mean() / scores.errors[ours].mean() - 1)
    return result


def _same_people(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """What hiding does to the same people: the last set against the first, where they have the same examples.

    Comparing visible with hidden joints within one set would compare trunks with limbs; here every joint of every
    person is compared with itself.
    """
    plain, *_, hidden = [*scores.values()] * 2  # Twice, so that one set is both.
    if plain is hidden or plain.ids != hidden.ids:
        return {}
    result: dict[str, Any] = {}
    difference = hidden.diagnostics["spread_mm"] - plain.diagnostics["spread_mm"]
    single = next((m for m in (judge.HMR, judge.OURS) if (m, "1", "mpjpe") in hidden.errors), None)
    for kind in np.unique(hidden.diagnostics["occlusion"]):
        rows = hidden.diagnostics["occlusion"] == kind
        if rows.sum() < 2:
            continue
        entry: dict[str, Any] = {"examples": int(rows.sum())}
        unseen = (plain.diagnostics["seen"] & ~hidden.diagnostics["seen"])[rows]
        for word, where in (("hidden", unseen), ("visible", hidden.diagnostics["seen"][rows])):
            if where.any():
                means = (difference[rows] * where).sum(axis=1) / np.maximum(where.sum(axis=1), 1)
                entry[f"spread_of_{word}_joints_mm"] = metrics.paired(means, np.zeros_like(means))
        if single:
            key = (single, "1", "mpjpe")
            entry["single_mpjpe"] = metrics.paired(hidden.errors[key][rows], plain.errors[key][rows])
        result[occlusion.STRATEGIES[kind]] = entry
    return result


def _write(workdir: pathlib.Path, result: dict[str, Any], per_example: dict[str, np.ndarray]) -> None:
    """Replaces the three result files one by one, each atomically."""
    texts = {"results.json": json.dumps(result, indent=1) + "\n", "results.md": report.markdown(result) + "\n"}
    for name, text in texts.items():
        (workdir / (name + ".tmp")).write_text(text)
        os.replace(workdir / (name + ".tmp"), workdir / name)
    with open(workdir / "per_example.npz.tmp", "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **per_example)
    os.replace(workdir / "per_example.npz.tmp", workdir / "per_example.npz")
