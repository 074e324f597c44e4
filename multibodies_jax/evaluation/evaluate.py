"""Evaluates a work directory: the n-quantized errors of Table 1, with the controls that they have to beat."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from multibodies_jax import io
from multibodies_jax.baselines import controls
from multibodies_jax.body import smpl
from multibodies_jax.data import pipeline, sources
from multibodies_jax.evaluation import batches, judge, pictures, protocols, results_page, set_errors, summaries
from multibodies_jax.models import build
from multibodies_jax.released import published
from multibodies_jax.training import checkpoints, inference, prior, provenance, setup

SCHEMA = 2
TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def evaluate(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """Evaluates the regressor of a work directory and writes results.json, results.md, per_example.npz and figures.

    Temperature and noise are chosen on the validation split of each set, errors are reported on `eval.split`.

    Returns:
      What is in results.json (docs/interfaces.md, section 8).

    Raises:
      CheckpointError: a checkpoint is missing, damaged or of another body.
      ValueError: the work directory has another config, or a set is empty or lacks what the protocol needs.
    """
    provenance.check_workdir(config, workdir)
    panel = _panel(config, workdir, setup.load_bodies(config))
    settings = _settings(config, panel)
    result = _describe(config, panel, settings.method, checkpoints.restore(workdir / "checkpoints", {})[1])
    per_example: dict[str, np.ndarray] = {}
    scores: dict[str, summaries.Scores] = {}
    network = build.NETWORKS[config.model.name]
    for name in config.eval.sets:
        settings, tuned = _tune(config, panel, name)
        scores[name] = _run(config, panel, name, settings)
        result["tuned_on_validation"][name] = tuned
        result["temperature"] = settings.temperature  # Prediction uses the one of the last set.
        result["datasets"][name] = _dataset(config, name, scores[name].ids)
        _fill(result, name, scores[name], settings, _validation_calibration(config, panel, name, settings))
        # Where the config sets the temperature, there need be no validation split.
        if network.inspect is not None and panel.ours.num_hypotheses > 1 and not config.quantizer.temperature:
            batches = map(_arrays, examples(config, name, "validation", others=False))
            part = network.config_part or config.model.name
            result.setdefault(part, {})[name] = network.inspect(config, panel.ours, batches)
        if config.eval.get("published"):
            rows = published.compare(config.eval.published, result["metrics"][name][settings.method])
            result.setdefault("published", {})[name] = rows
        per_example |= summaries.per_example(name, scores[name])
    result["same_people"] = summaries.same_people(scores, settings.method)
    pictures.draw(config, workdir, panel, settings, result)
    _write(workdir, result, per_example)
    print(results_page.markdown(result))
    print(f"Written to {workdir}: results.md, results.json, per_example.npz, figures/")
    return result


def _fill(
    result: dict[str, Any],
    name: str,
    scores: summaries.Scores,
    settings: judge.Settings,
    validation: dict[str, judge.Calibration],
) -> None:
    """Adds what one set gave."""
    result["metrics"][name] = summaries.of_metrics(scores)
    result["compared"][name] = summaries.comparisons(scores, settings.method)
    result["diagnostics"][name] = summaries.diagnose(scores, result["num_hypotheses"], settings.method)
    result["single"][name] = summaries.of_single(scores)
    result["calibration"][name] = summaries.of_calibration(scores, validation, settings.factor)
    if scores.found.curves:
        result.setdefault("curves", {})[name] = summaries.of_curves(scores)


def _panel(config: Any, workdir: pathlib.Path, bodies: setup.Bodies) -> judge.Panel:
    ours = inference.restore(config, workdir / "checkpoints", bodies)
    with_controls = config.eval.controls and ours.num_hypotheses > 1
    truth = protocols.get(config.eval.protocol).truth

    def scored(model: smpl.SmplModel) -> set_errors.Scored:
        some = np.arange(0, model.v_template.shape[0], config.eval.vertex_stride)
        return set_errors.Scored(smpl.contract(model, bodies.files.h36m_regressor), smpl.subset(model, some))

    gendered = truth == protocols.GENDERED
    return judge.Panel(
        ours=ours,
        density=prior.load_prior(config, workdir, bodies),
        scorer=set_errors.Scorer(
            scored(bodies.smpl),
            bodies.j24,
            (scored(bodies.files.gendered("male")), scored(bodies.files.gendered("female"))) if gendered else None,
        ),
        books=controls.codebooks(config, bodies, _ns(config, ours)) if with_controls else {},
        hmr=_hmr(config, workdir, bodies) if with_controls else None,
    )


def _hmr(config: Any, workdir: pathlib.Path, bodies: setup.Bodies) -> inference.Regressor | None:
    """The single-hypothesis HMR of the controls: of `eval.hmr`, or of the work directory itself if it has one."""
    if not config.eval.hmr:
        own = checkpoints.latest_step(workdir / "hmr") is not None
        return inference.restore(config, workdir / "hmr", bodies) if own else None
    directory = pathlib.Path(config.eval.hmr) / "checkpoints"
    if checkpoints.latest_step(directory) is None:
        raise ValueError(
            f"config.eval.hmr={config.eval.hmr!r} has no checkpoints/ with a finished step: train configs/hmr.py there "
            "first, name another work directory, or leave the controls out with config.eval.controls=False."
        )
    m = checkpoints.restore(directory)[1]["num_hypotheses"]
    if m != 1:
        raise ValueError(
            f"config.eval.hmr={config.eval.hmr!r} has M = {m} hypotheses; the controls need a network with one: name the "
            "work directory of configs/hmr.py."
        )
    return inference.restore(config, directory, bodies)


def _describe(config: Any, panel: judge.Panel, method: str, trained: Mapping[str, Any]) -> dict[str, Any]:
    """The head of results.json: what was evaluated, and how; `trained` are the metadata of its checkpoint."""
    named, *strict = map(dataclasses.asdict, protocols.both(protocols.get(config.eval.protocol)).values())
    regressors = {method: panel.ours} | ({judge.HMR: panel.hmr} if panel.hmr else {})
    return {
        "schema": SCHEMA,
        **provenance.metadata(config, panel.ours.bodies),
        "model": config.model.name,
        "label": method,
        "seed": config.seed,
        "split": config.eval.split,
        "protocol": named,
        **({"protocol_strict": strict[0]} if strict else {}),
        "num_hypotheses": panel.ours.num_hypotheses,
        "steps": {name: regressor.step for name, regressor in regressors.items()},
        "images_seen": {name: regressor.images_seen for name, regressor in regressors.items()},
        "inits": {name: regressor.init for name, regressor in regressors.items()},
        "init": trained.get("init") or {"dir": "", "fingerprint": None},
        "training_seconds": trained.get("training_seconds"),
        "prior": {"held_out_log_prob": panel.density.held_out_log_prob, "noise_mm": config.flow.noise_mm},
        **{part: {} for part in ("tuned_on_validation", "datasets", "metrics", "compared", "diagnostics")},
        **{part: {} for part in ("single", "calibration")},
    }


def _dataset(config: Any, name: str, ids: Sequence[str]) -> dict[str, Any]:
    """What tells a set from every other one: its name with all its options, and its examples."""
    built = sources.source_name(config, name)
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


def examples(config: Any, name: str, split: str, others: bool = True) -> Iterator[dict[str, Any]]:
    """Evaluation batches of one set, in order, the last one padded.

    With `others` and `eval.controls` they have another example's evidence beside, as the shuffled control needs.
    """
    source = _Pairs(sources.open_source(config, name, split))

    def make(pair: Mapping[str, Any]) -> dict[str, Any]:
        row = batches.evaluation_row(config, pair["record"])
        if not others or not config.eval.controls:
            return row
        other = batches.evaluation_row(config, pair["other"]())
        return row | {judge.OTHER + key: other[key] for key in judge.EVIDENCE if key in other}

    return pipeline.evaluation_batches(source, config.eval.batch, make, max_examples=config.eval.max_examples)


def _run(config: Any, panel: judge.Panel, name: str, settings: judge.Settings) -> summaries.Scores:
    """Scores every method on the evaluated split of one set."""
    size = len(sources.open_source(config, name, config.eval.split))
    size = min(size, config.eval.max_examples) if config.eval.max_examples else size
    parts: list[judge.Findings] = []
    ids: list[str] = []
    batches = examples(config, name, config.eval.split)
    for batch in tqdm(batches, total=-(-size // config.eval.batch), desc=f"evaluate {name}", unit="batch"):
        keep = batch["valid"] > 0
        ids += list(batch["example_id"][keep])
        found = judge.judge(panel, _arrays(batch), settings)
        found = found.replace(diagnostics=found.diagnostics | {"occlusion": batch["occlusion"]})
        parts.append(_kept(found, keep))
    return summaries.Scores(summaries.join(parts), ids)


def _kept(tree: Any, keep: np.ndarray) -> Any:
    """The examples of a batch that are no padding, as NumPy arrays."""
    return summaries.ordered_map(lambda values: np.asarray(values)[keep], tree)


def _arrays(batch: dict[str, Any]) -> dict[str, jax.Array]:
    return {k: jnp.asarray(v) for k, v in batch.items() if k != "example_id"}


def _settings(config: Any, panel: judge.Panel) -> judge.Settings:
    """Those of the config, before anything is chosen on a validation split."""
    q = config.quantizer
    if config.eval.curve and q.reading == "released":
        raise ValueError(
            "config.eval.curve has no config.quantizer.reading='released': choose 'paper' or 'keep_first', or set "
            "the curve to 0."
        )
    # One hypothesis is nobody's set.
    named = panel.ours.num_hypotheses > 1 or config.model.name == "hmr"
    return judge.Settings(
        ns=_ns(config, panel.ours),
        protocol=protocols.get(config.eval.protocol),
        reading=q.reading,
        weights=q.weights,
        starts=q.starts,
        iterations=q.iterations,
        temperature=q.temperature or 1.0,
        noise={},
        method=judge.main(config.model.name) if named else judge.OURS,
        curve=config.eval.curve,
    )


def _tune(config: Any, panel: judge.Panel, name: str) -> tuple[judge.Settings, dict[str, Any]]:
    """Chooses temperature and noise by the mean error on the validation split of a set."""
    settings = _settings(config, panel)
    tuned: dict[str, Any] = {}
    if panel.ours.num_hypotheses == 1:
        return settings, tuned
    if not config.quantizer.temperature:
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
    for batch in tqdm(examples(config, name, "validation", others=False), desc="choose the temperature", unit="batch"):
        arrays, keep = _arrays(batch), batch["valid"] > 0
        hyps = judge.hypothesize(panel.ours, panel.density, arrays)
        every = set_errors.measure(panel.scorer, hyps, set_errors.truth_of(panel.scorer, arrays, protocol), protocol)[
            "mpjpe"
        ]
        keys = judge.example_keys(arrays, 0)
        for t in TEMPERATURES:
            chosen = [judge.quantized(hyps, n, keys, settings, weights="prior", temperature=t) for n in settings.ns]
            errors = [jnp.min(jnp.take_along_axis(every, q.medoid, axis=1), axis=1) for q in chosen]
            values[t].append(np.stack(errors)[:, keep])
    return {t: np.concatenate(v, axis=1).mean(axis=1) for t, v in values.items()}


def _validation_calibration(
    config: Any, panel: judge.Panel, name: str, settings: judge.Settings
) -> dict[str, judge.Calibration]:
    """What the temperature of the probabilities is fitted to: the quantized sets of the validation split.

    Empty without sets, and where the config sets the temperature: then nothing is chosen, and there need be no split.
    """
    ns = [n for n in settings.ns if n > 1]
    if panel.ours.num_hypotheses == 1 or not ns or config.quantizer.temperature:
        return {}
    parts = []
    for batch in tqdm(examples(config, name, "validation", others=False), desc="calibrate", unit="batch"):
        arrays = _arrays(batch)
        hyps = judge.hypothesize(panel.ours, panel.density, arrays)
        keys = judge.example_keys(arrays, 0)
        clusters = {str(n): judge.quantized(hyps, n, keys, settings) for n in ns}
        truth = set_errors.truth_of(panel.scorer, arrays, settings.protocol)
        parts.append(_kept(judge.calibrations(hyps, clusters, truth, settings), batch["valid"] > 0))
    return summaries.join(parts)


def _best_noise(
    config: Any, panel: judge.Panel, name: str, ns: tuple[int, ...]
) -> dict[tuple[str, int], tuple[float, float]]:
    """(metric, n) -> (root, pose) noise in degrees with the least error of the HMR control on the validation split."""
    pairs = [(root, pose) for root in controls.NOISE_ROOT_DEG for pose in controls.NOISE_POSE_DEG]
    values: list[np.ndarray] = []
    protocol = protocols.get(config.eval.protocol)
    for batch in tqdm(
        examples(config, name, "validation", others=False), desc="choose the control's noise", unit="batch"
    ):
        arrays, keep = _arrays(batch), batch["valid"] > 0
        single = judge.respond(panel.hmr, arrays)
        errors = [
            judge.noisy_errors(panel, single, arrays, jnp.deg2rad(jnp.array(pair)), ns, protocol) for pair in pairs
        ]
        values.append(np.stack(errors)[..., keep])
    means = np.concatenate(values, axis=-1).mean(axis=-1)  # (pairs, metrics, ns)
    return {(m, n): pairs[int(means[:, i, j].argmin())] for i, m in enumerate(judge.TUNED) for j, n in enumerate(ns)}


def _write(workdir: pathlib.Path, result: dict[str, Any], per_example: dict[str, np.ndarray]) -> None:
    """Replaces the three result files one by one, each atomically; results.json comes last and says that all are there."""
    page = results_page.markdown(result) + "\n"
    io.write_npz(workdir / "per_example.npz", per_example)
    io.write_text(workdir / "results.md", page)
    io.write_json(workdir / "results.json", result)
