"""Evaluates a work directory: the n-quantized errors of Table 1, with the controls that they have to beat."""

import collections
import contextlib
import copy
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from configs import default
from multibodies_jax import devices, io
from multibodies_jax.body import smpl
from multibodies_jax.data import sources
from multibodies_jax.evaluation import (
    batches,
    calibration,
    checks,
    diagnostics,
    fitted,
    methods,
    metrics,
    outputs,
    pictures,
    protocols,
    results,
    results_page,
    set_errors,
    silhouettes,
    tuning,
)
from multibodies_jax.hypotheses import hypotheses, quantize, weight_kinds
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, inference, multihost, packed, prior, provenance, setup

EMBEDDED = "embedded"
"""Value of `eval.packed`: the file of weights that ships with the package."""


def evaluate(config: Any, workdir: pathlib.Path, onnx: bool = False) -> dict[str, Any]:
    """Evaluates the regressor of a work directory and writes results.json, results.md, per_example.npz and figures.

    Temperature and noise are chosen on the validation split of each set, or of the one that `eval.chosen_on` names for it;
    errors are reported on `eval.split`. Each split is read once, and the network runs once for each of its batches:
    `eval.batch` examples on every device at once. Of several processes each takes its share of the batches, and the first
    one writes.

    Args:
      config: of the experiment.
      workdir: of a training, or where the results of `eval.packed` go.
      onnx: the trunk of the network, not that of the controls' HMR, runs in ONNX Runtime (`models.onnx_trunk`).

    Returns:
      What is in results.json (docs/interfaces.md, section 8).

    Raises:
      LockedError: another process evaluates this work directory.
      CheckpointError: a checkpoint is missing, damaged or of another body.
      PackedError: the file of `eval.packed` cannot be used.
      ValueError: the work directory has another config, a name does not exist (`checks.validate`), a set is empty or
        lacks what the protocol needs, or ONNX Runtime cannot run the trunk.
      FloatingPointError: a body, the truth or an error of an example is not finite; nothing was written.
    """
    checks.validate(config)
    file = _packed(config)
    if file is None:
        provenance.check_workdir(config, workdir)
    elif (workdir / "config.json").exists():
        raise ValueError(
            f"{workdir} has networks of its own, and config.eval.packed is to be evaluated: use another --workdir."
        )
    with contextlib.ExitStack() as held:
        claim = functools.partial(held.enter_context, provenance.locked(workdir, "evaluating"))
        multihost.on_first(claim, "evaluating")
        return _evaluate(config, workdir, file, onnx)


def open_inputs(config: Any) -> None:
    """Opens what an evaluation of a config reads, so that a training before it does not end in a missing file.

    Raises:
      ValueError, FileNotFoundError: a set, a body or the work directory of `eval.hmr` is missing.
      BuildError: a set cannot be built.
    """
    _scorer(config, setup.load_bodies(config))
    if config.eval.hmr:
        _hmr_checkpoints(config)
    _open_sets(config)


def _open_sets(config: Any) -> None:
    """Opens every set that an evaluation reads, and makes a row of its first example, before one of them costs minutes."""
    several, inspects = config.model.num_hypotheses != 1, build.NETWORKS[config.model.name].inspect is not None
    splits = {name: {config.eval.split} for name in config.eval.sets}
    if (several and config.quantizer.temperature is None) or inspects or "smplify" in config.eval.methods:
        for name in _chosen_on(config):
            splits.setdefault(name, set()).add("validation")
    sources.open_first(config, {name: tuple(sorted(its)) for name, its in splits.items()})
    for name, its in splits.items():
        for split in its:
            if len(source := sources.open_source(config, name, split)):
                batches.evaluation_row(config, source[0])


def _chosen_on(config: Any) -> tuple[str, ...]:
    """The set on whose validation split everything is chosen, for each of `eval.sets`."""
    return tuple(default.optional(config, "eval.chosen_on") or config.eval.sets)


def _packed(config: Any) -> packed.Packed | None:
    """The file of weights that the config wants to be evaluated; None without one."""
    path = default.optional(config, "eval.packed")
    if path is None:
        return None
    file = packed.read(None if path == EMBEDDED else path)
    file.check(config)
    return file


def _evaluate(config: Any, workdir: pathlib.Path, file: packed.Packed | None, onnx: bool) -> dict[str, Any]:
    sources.check_boxes(config, config.eval.sets)
    if jax.process_count() > 1:
        multihost.on_first(lambda: open_inputs(config), "data")
    evaluation = _open(config, workdir, file, onnx)
    _open_sets(config)
    rows = methods.rows(evaluation)
    trained = checkpoints.restore(workdir / "checkpoints", {})[1] if file is None else {}
    result = results.describe(evaluation, trained)
    if file is not None:
        result["packed"] = {name: file.about[name] for name in ("sha256", "commit", "people")}
    found: dict[str, results.Findings] = {}
    tuned: dict[str, tuple[results.Choices, list[methods.Method]]] = {}
    for name, chosen_on in zip(config.eval.sets, _chosen_on(config), strict=True):
        if chosen_on not in tuned:
            # A copy of each row keeps this choice for later sets that are chosen on the same one.
            tuned[chosen_on] = tune(evaluation, rows, chosen_on), [copy.copy(row) for row in rows]
        choices, its = tuned[chosen_on]
        found[name] = _measure_set(evaluation, choices.settings, its, name)
        results.add_set(result, evaluation, name, found[name], its, choices)
    result["same_people"] = results.same_people(found, evaluation.settings.label, evaluation.settings.protocol)
    if multihost.is_first():
        result = results.write(workdir, result, results.per_example(found))  # First: what follows is made of it.
        print(results_page.markdown(result))
        pictures.draw(config, workdir, evaluation.networks, choices.settings, rows, result)
        print(f"Written to {workdir}: results.md, results.json, per_example.npz, figures/")
    else:
        result = io.sealed(result)
    multihost.on_first(lambda: None, "written")
    return result


def _open(config: Any, workdir: pathlib.Path, file: packed.Packed | None, onnx: bool) -> methods.Evaluation:
    """Restores the networks, of the work directory or of a file, and reads how sets are made and scored."""
    bodies = setup.load_bodies(config)
    if file is None:
        main = inference.restore(config, workdir / "checkpoints", bodies)
    else:
        main = file.regressor("multibodies", config, bodies)
    if weight_kinds.reads_scores(config.quantizer.weights) and main.score_head is None and main.num_hypotheses > 1:
        raise ValueError(
            f"config.quantizer.weights={config.quantizer.weights!r} needs learned scores, and the network has no score "
            f"head ({workdir if file is None else file.path}): train with model.scores, or set config.quantizer.weights='prior'."
        )
    main, read = inference.with_onnx_trunk(main) if onnx else (main, None)
    networks = outputs.Networks(
        main=main,
        density=prior.load_prior(config, workdir, bodies) if file is None else file.density(),
        scorer=_scorer(config, bodies),
        hmr=_hmr(config, workdir, bodies, file) if "hmr" in config.eval.methods and main.num_hypotheses > 1 else None,
        read=read,
    )
    return methods.Evaluation(config, devices.copied(networks), settings_of(config, main.num_hypotheses))


def _scorer(config: Any, bodies: setup.Bodies) -> set_errors.Scorer:
    def scored(model: smpl.SmplModel) -> set_errors.Scored:
        some = np.arange(0, model.v_template.shape[0], config.eval.vertex_stride)
        return set_errors.Scored(smpl.contract(model, bodies.files.h36m_regressor), smpl.subset(model, some))

    gendered = protocols.PROTOCOLS[config.eval.protocol].truth == protocols.GENDERED
    return set_errors.Scorer(
        scored(bodies.smpl),
        bodies.j24,
        (scored(bodies.files.gendered("male")), scored(bodies.files.gendered("female"))) if gendered else None,
        bodies.smpl,
    )


def _hmr(
    config: Any, workdir: pathlib.Path, bodies: setup.Bodies, file: packed.Packed | None
) -> inference.Regressor | None:
    """The single-hypothesis HMR of the controls: of `eval.hmr`, or beside the main network if there is one."""
    if not config.eval.hmr and file is not None:
        return file.regressor("hmr", config, bodies)
    if not config.eval.hmr:
        own = checkpoints.latest_step(workdir / "hmr") is not None
        return inference.restore(config, workdir / "hmr", bodies) if own else None
    directory = _hmr_checkpoints(config)
    m = checkpoints.restore(directory)[1]["num_hypotheses"]
    if m != 1:
        raise ValueError(
            f"config.eval.hmr={config.eval.hmr!r} has M = {m} hypotheses; the controls need a network with one: name the "
            "work directory of configs/hmr.py."
        )
    return inference.restore(config, directory, bodies)


def _hmr_checkpoints(config: Any) -> pathlib.Path:
    """The folder of checkpoints that `eval.hmr` names, which has some."""
    directory = pathlib.Path(config.eval.hmr) / "checkpoints"
    if checkpoints.latest_step(directory) is None:
        raise ValueError(
            f"config.eval.hmr={config.eval.hmr!r} has no checkpoints/ with a finished step: train configs/hmr.py there "
            "first, name another work directory, or leave 'hmr' out of config.eval.methods."
        )
    return directory


def settings_of(config: Any, num_hypotheses: int) -> outputs.Settings:
    """Those of the config, before anything is chosen on a validation split.

    Raises:
      ValueError: every n of `eval.ns` is larger than M > 1.
    """
    ns = tuple(n for n in config.eval.ns if n <= num_hypotheses)
    if not ns and num_hypotheses > 1:
        raise ValueError(
            f"config.eval.ns is {tuple(config.eval.ns)}, and the network has M = {num_hypotheses} hypotheses: ask for an n "
            "that is not larger."
        )
    q, network = config.quantizer, build.NETWORKS[config.model.name]
    return outputs.Settings(
        ns=ns,
        protocol=protocols.PROTOCOLS[config.eval.protocol],
        # A checkpoint with one hypothesis is scored under the name of ours where its model is HMR.
        label=network.label if network.is_own(num_hypotheses) else methods.OURS,
        exchangeable=network.exchangeable,
        reading=q.reading,
        weights=q.weights,
        starts=q.starts,
        iterations=q.iterations,
        temperature=q.temperature or 1.0,
        curve=config.eval.curve,
    )


def tune(evaluation: methods.Evaluation, rows: Sequence[methods.Method], name: str) -> results.Choices:
    """Chooses on the validation split of the set that `name` is, in one pass: temperatures of the weights, sharpness
    of the probabilities, and what rows choose.

    The split is read only if something is to be chosen, or the network has an inspection of its own, a part of the pass.
    """
    config, settings = evaluation.config, evaluation.settings
    kinds = methods.tempered_kinds(evaluation)
    kinds += tuple(kind for kind in methods.weighted_kinds(evaluation) if kind not in kinds)
    tempered = evaluation.several and not config.quantizer.temperature
    temperatures = tuning.Temperatures(settings, kinds) if tempered else None
    tuned_rows = [row for row in rows if isinstance(row, methods.Tuned)]
    network = build.NETWORKS[config.model.name]
    if not (temperatures or tuned_rows or network.inspect):
        return results.Choices(settings)
    observers = [*([temperatures] if temperatures else []), *tuned_rows]

    def observed() -> Iterator[outputs.Outputs]:
        for out in _read(evaluation, settings, name, "validation", others=False):
            for observer in observers:
                observer.observe(out)
            yield out

    inspected: dict[str, Any] = {}
    if network.inspect is not None:
        pairs = ((out.batch, out.hyps) for out in observed())
        inspected[network.config_part or config.model.name] = network.inspect(config, evaluation.networks.main, pairs)
    else:
        collections.deque(observed(), maxlen=0)
    tuned: dict[str, Any] = {}
    if temperatures:
        temperatures.gather()
        chosen, told = temperatures.chosen(), {}
        its = {"temperature": chosen[kinds[0]], "temperatures": chosen, "sharpness": temperatures.sharpness()}
        settings = dataclasses.replace(settings, **its)
        for kind, best in chosen.items():
            errors = temperatures.errors(kind).items()
            told[kind] = {
                "chosen": best,
                "mpjpe_mm": {str(t): [round(float(x), 2) for x in values] for t, values in errors},
            }
        tuned["temperature"] = told.pop(kinds[0])
        tuned |= {"temperatures": told} if told else {}
        tuned |= results.sharpness_of(settings)
    for row in tuned_rows:
        tuned |= row.choose()
    return results.Choices(settings, tuned, inspected)


def _measure_set(
    evaluation: methods.Evaluation, settings: outputs.Settings, rows: Sequence[methods.Method], name: str
) -> results.Findings:
    """Measures every row on the evaluated split of one set."""
    others = any(row.reads_others for row in rows)
    read = _read(evaluation, settings, name, evaluation.config.eval.split, others)
    return results.join([_measure_batch(out, rows) for out in read])


def _read(
    evaluation: methods.Evaluation, settings: outputs.Settings, name: str, split: str, others: bool
) -> Iterator[outputs.Outputs]:
    """The outputs of the networks for every batch of a split."""
    config = evaluation.config
    total = batches.count(config, name, split)
    for batch in tqdm(
        batches.examples(config, name, split, others),
        total=total,
        desc=f"{name}, {split}",
        unit="batch",
        disable=not multihost.is_first(),
    ):
        yield outputs.Outputs(evaluation.networks, settings, batch)


def _measure_batch(out: outputs.Outputs, rows: Sequence[methods.Method]) -> results.Findings:
    """The errors of every row at every n, and what else is reported of the M hypotheses."""
    settings, several = out.settings, out.shape[1] > 1
    clusters = {str(n): out.quantize(n) for n in settings.ns} if several else {}
    errors = {
        row.name: {str(n): set_errors.of_sets(row.sets(out, n), settings.protocol) for n in row.ns} for row in rows
    }
    out.checked("the errors of sets", errors)
    measured = diagnostics.diagnose(out.hyps, out.batch, out.truth, jnp.float32(settings.temperature))
    measured |= {f"energy_mm|{n}": 1000 * jnp.sqrt(found.energy) for n, found in clusters.items()}
    measured |= _silhouettes(out, "", out.hyps)
    if out.networks.hmr is not None:
        measured["hmr_reprojection_px"] = diagnostics.reprojection(out.hmr, out.batch)
        measured |= _silhouettes(out, "hmr_", out.hmr)
    for row in rows:
        if isinstance(row, fitted.Fitted) and row.key in ("refined", "hmr_refined"):
            measured[f"{row.key}_reprojection_px"] = row.reprojection_px(out)
    measured["occlusion"] = out.examples.occlusion
    log_weights = jnp.zeros_like(out.log_weights) if settings.exchangeable else out.log_weights
    single = set_errors.single(out.errors, log_weights)
    out.checked("the errors of single bodies", single)
    found = results.Findings(
        ids=out.examples.example_id,
        errors=errors,
        diagnostics=measured,
        single=single,
        calibration=_calibration(out, clusters),
        calibration_refined=_calibration_refined(out, rows),
        curves=_curves(out) if several else {},
    )
    return results.ordered_map(lambda values: np.asarray(values)[out.valid], found)


def _silhouettes(out: outputs.Outputs, prefix: str, hyps: hypotheses.Hypotheses) -> dict[str, jax.Array]:
    """The agreement of outlines, where the protocol's truth is a body, and not a male or female one."""
    scorer = out.networks.scorer
    if scorer.body is None or scorer.gendered is not None or out.truth.vertices is None:
        return {}
    found = silhouettes.iou(scorer.body, scorer.j24, hyps, out.batch.target, out.examples.lens)
    return {f"{prefix}silhouette_iou": found}


def _calibration(
    out: outputs.Outputs, clusters: Mapping[str, quantize.Quantized]
) -> dict[str, calibration.Calibration]:
    """The calibration of quantized sets of the hypotheses under their weights, by n; one body has none."""
    several = {n: one for n, one in clusters.items() if n != "1"}
    sharpness = out.settings.sharpness.get(out.settings.weights, {})
    return calibration.measure(out.log_weights, out.hyps.log_scores, several, out.truth, sharpness)


def _calibration_refined(out: outputs.Outputs, rows: Sequence[methods.Method]) -> dict[str, calibration.Calibration]:
    """That of the row "refined"; nothing without it."""
    for row in rows:
        if isinstance(row, fitted.Fitted) and row.key == "refined":
            its = {"sharpness": {row.kind: row.sharpness}}
            found = {n: row.clusters(out, n, **its) for n in out.settings.ns if n > 1}
            if found:
                its = next(iter(found.values()))[0]
                return _calibration(its, {str(n): one for n, (_, one) in found.items()})
    return {}


def _curves(out: outputs.Outputs) -> dict[str, dict[str, jax.Array]]:
    """Errors at every n of random subsets (of exchangeable hypotheses: of the main row) and, on request, quantized sets."""
    settings, m = out.settings, out.shape[1]
    order = out.first(m)
    if not settings.exchangeable:
        order = quantize.random_subset(m, m, out.keys(outputs.SUBSET))  # Its first n are those of n alone.
    curves = {"random": set_errors.growing(out.errors, order, settings.protocol)}
    if settings.curve:
        found = [
            set_errors.of_sets(out.members(out.quantize(n).medoid), settings.protocol)
            for n in range(1, min(settings.curve, m) + 1)
        ]
        curves["quantized"] = {name: jnp.stack([sets[name] for sets in found], axis=1) for name in metrics.REPORTED}
    return curves
