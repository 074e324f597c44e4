"""Evaluates a work directory: the n-quantized errors of Table 1, with the controls that they have to beat."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

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
    report,
    smpl,
)
from multibodies_jax.data import pipeline

SCHEMA = 1
TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def evaluate(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """Evaluates the regressor of a work directory and writes results.json, results.md, per_example.npz and figures.

    Temperature and noise are chosen on the validation split of the last set, errors are reported on `eval.split`.

    Returns:
      What is in results.json (docs/interfaces.md, section 8).

    Raises:
      CheckpointError: a checkpoint is missing, damaged or of another body.
      ValueError: the work directory has another config, or a set is empty or lacks what the protocol needs.
    """
    experiment.check_workdir(config, workdir)
    bodies = experiment.load_bodies(config)
    panel = _panel(config, workdir, bodies)
    settings, tuned = _tune(config, panel)
    result = {
        "schema": SCHEMA,
        **experiment.metadata(config, bodies),
        "seed": config.seed,
        "split": config.eval.split,
        "protocol": metrics.describe(config.eval.protocol),
        "num_hypotheses": panel.ours.num_hypotheses,
        "images_seen": {judge.OURS: panel.ours.images_seen} | ({judge.HMR: panel.hmr.images_seen} if panel.hmr else {}),
        "tuned_on_validation": tuned,
        "prior": {"held_out_log_prob": panel.density.held_out_log_prob, "noise_mm": config.flow.noise_mm},
        **{part: {} for part in ("datasets", "metrics", "compared", "diagnostics")},
    }
    per_example: dict[str, np.ndarray] = {}
    for name in config.eval.sets:
        errors, diagnostics, ids = _run(config, panel, name, settings)
        result["datasets"][name] = {
            "examples": len(ids),
            "fingerprint": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        }
        result["metrics"][name] = _summaries(errors)
        result["compared"][name] = _comparisons(errors)
        result["diagnostics"][name] = _diagnose(errors, diagnostics, panel.ours.num_hypotheses)
        per_example[f"{name}|example_id"] = np.array(ids)
        per_example |= {f"{name}|{'|'.join(key)}": value for key, value in errors.items()}
    _write(workdir, result, per_example)
    gallery.draw(config, workdir, panel, settings, result)
    print(report.markdown(result))
    print(f"Written to {workdir}: results.md, results.json, per_example.npz, figures/")
    return result


def _panel(config: Any, workdir: pathlib.Path, bodies: experiment.Bodies) -> judge.Panel:
    ours = inference.restore(config, workdir / "checkpoints", bodies)
    with_hmr = config.eval.controls and checkpoints.latest_step(workdir / "hmr") is not None
    with_books = config.eval.controls and ours.num_hypotheses > 1
    stride = np.arange(0, bodies.smpl.v_template.shape[0], config.eval.vertex_stride)
    return judge.Panel(
        ours=ours,
        density=prior.load_prior(config, workdir, bodies),
        surface=smpl.subset(bodies.smpl, stride),
        books={str(n): controls.codebook(config, bodies, n) for n in _ns(config, ours)} if with_books else {},
        hmr=inference.restore(config, workdir / "hmr", bodies) if with_hmr else None,
    )


def _ns(config: Any, ours: inference.Regressor) -> tuple[int, ...]:
    return tuple(n for n in config.eval.ns if n <= ours.num_hypotheses)


def examples(config: Any, name: str, split: str) -> Iterator[dict[str, Any]]:
    """Evaluation batches of one set, in order, the last one padded."""
    source = experiment.open_source(config, name, split)
    make = functools.partial(experiment.evaluation_row, config)
    return pipeline.evaluation_batches(source, config.eval.batch, make, config.data.threads, config.eval.max_examples)


def _run(
    config: Any, panel: judge.Panel, name: str, settings: judge.Settings
) -> tuple[dict[tuple[str, str, str], np.ndarray], dict[str, np.ndarray], list[str]]:
    """Errors {(method, n, metric): (N,)}, diagnostics {name: (N,)} and ids of the evaluated split of one set."""
    total = -(-_size(config, name) // config.eval.batch)
    all_errors: list[dict] = []
    all_diagnostics: list[dict] = []
    ids: list[str] = []
    bar = tqdm(examples(config, name, config.eval.split), total=total, desc=f"evaluate {name}", unit="batch")
    for batch in bar:
        keep = batch["valid"] > 0
        ids += list(batch["example_id"][keep])
        errors, diagnostics = judge.judge(panel, _arrays(batch), settings)
        diagnostics = diagnostics | {"occlusion": batch["occlusion"]}
        flat = {(m, n, k): v for m, sets in errors.items() for n, scores in sets.items() for k, v in scores.items()}
        all_errors.append({k: np.asarray(v)[keep] for k, v in flat.items()})
        all_diagnostics.append({k: np.asarray(v)[keep] for k, v in diagnostics.items()})
    return _joined(all_errors), _joined(all_diagnostics), ids


def _joined(rows: list[dict]) -> dict:
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def _arrays(batch: dict[str, Any]) -> dict[str, jnp.ndarray]:
    return {k: jnp.asarray(v) for k, v in batch.items() if k != "example_id"}


def _size(config: Any, name: str) -> int:
    size = len(experiment.open_source(config, name, config.eval.split))
    return min(size, config.eval.max_examples) if config.eval.max_examples else size


def _tune(config: Any, panel: judge.Panel) -> tuple[judge.Settings, dict[str, Any]]:
    """Chooses temperature and noise by the mean error on the validation split of the last set."""
    q = config.quantizer
    settings = judge.Settings(
        ns=_ns(config, panel.ours),
        protocol=metrics.PROTOCOLS[config.eval.protocol],
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
    batches = [_arrays(batch) for batch in examples(config, config.eval.sets[-1], "validation")]
    if not q.temperature:
        grid = _temperature_errors(panel, batches, settings)
        best = min(grid, key=lambda t: grid[t].mean())
        settings = dataclasses.replace(settings, temperature=best)
        tuned["temperature"] = {
            "chosen": best,
            "mpjpe_mm": {str(t): [round(float(x), 2) for x in v] for t, v in grid.items()},
        }
    if panel.hmr is not None:
        degrees = _best_noise(panel, batches, settings.ns)
        settings = dataclasses.replace(settings, noise={n: tuple(np.deg2rad(d)) for n, d in degrees.items()})
        tuned["noise_deg"] = {str(n): {"root": root, "pose": pose} for n, (root, pose) in degrees.items()}
    return settings, tuned


def _best_noise(panel: judge.Panel, batches: list[dict], ns: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """n -> (root, pose) noise in degrees with the least MPJPE-n of the HMR control."""
    pairs = [(root, pose) for root in controls.NOISE_ROOT_DEG for pose in controls.NOISE_POSE_DEG]
    errors = np.stack(
        [
            _mean([judge.noisy_mpjpe(panel, batch, *map(np.deg2rad, pair), ns=ns) for batch in batches], batches)
            for pair in tqdm(pairs, desc="tune the noise of the control")
        ]
    )
    return {n: pairs[int(errors[:, i].argmin())] for i, n in enumerate(ns)}


def _temperature_errors(panel: judge.Panel, batches: list[dict], settings: judge.Settings) -> dict[float, np.ndarray]:
    """MPJPE-n on the validation batches under prior weights, for each temperature."""
    values: dict[float, list] = {t: [] for t in TEMPERATURES}
    for batch in tqdm(batches, desc="tune the temperature", unit="batch"):
        hyps = judge.hypothesize(panel.ours, panel.density, batch)
        every = judge.measure(panel, hyps, judge.truth_of(panel, batch))["mpjpe"]
        keys = judge.example_keys(batch, 0)
        for t in TEMPERATURES:
            chosen = [judge.select(hyps, n, keys, settings, weights="prior", temperature=t) for n in settings.ns]
            values[t].append(jnp.stack([jnp.min(jnp.take_along_axis(every, i, axis=1), axis=1) for i in chosen]))
    return {t: _mean(v, batches) for t, v in values.items()}


def _mean(values: list[Any], batches: list[dict]) -> np.ndarray:
    """Mean over the examples of per-batch values (len(ns), B)."""
    valid = np.concatenate([batch["valid"] for batch in batches])
    return (np.concatenate([np.asarray(v) for v in values], axis=1) * valid).sum(axis=1) / valid.sum()


def _summaries(errors: dict) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (method, n, name), values in errors.items():
        tree.setdefault(method, {}).setdefault(n, {})[name] = metrics.summary(values)
    return tree


def _comparisons(errors: dict) -> list[dict[str, Any]]:
    """Paired differences ours - control at every n; an interval below 0 says that ours is better."""
    rows = []
    for (method, n, name), values in errors.items():
        if method in judge.CONTROLS and name in ("mpjpe", "pa_mpjpe"):
            rows.append(
                {"control": method, "n": int(n), "metric": name, **metrics.paired(errors[judge.OURS, n, name], values)}
            )
    return rows


def _diagnose(errors: dict, diagnostics: dict[str, np.ndarray], num_hypotheses: int) -> dict[str, Any]:
    """What the numbers stand on: spread, use of hypotheses, error by what is hidden."""
    best = np.bincount(diagnostics["best_hypothesis"], minlength=num_hypotheses)
    share = best / best.sum()
    result: dict[str, Any] = {
        k: metrics.summary(v[np.isfinite(v)])
        for k, v in diagnostics.items()
        if k not in ("best_hypothesis", "occlusion") and np.isfinite(v).any()
    }
    result["hypotheses_ever_best"] = int((best > 0).sum())
    result["hypotheses_in_use"] = float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))
    single = errors.get((judge.HMR, "1", "mpjpe"), errors[judge.OURS, "1", "mpjpe"])
    kinds = diagnostics["occlusion"]
    result["single_mpjpe_by_occlusion"] = {
        occlusion.STRATEGIES[k]: metrics.summary(single[kinds == k]) for k in np.unique(kinds)
    }
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
