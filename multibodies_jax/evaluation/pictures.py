"""Draws the figures of a work directory: examples of the last evaluation set, the prior's samples, curves."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from multibodies_jax import io
from multibodies_jax.body import smpl
from multibodies_jax.data import crops, occlusion, pipeline, sources
from multibodies_jax.evaluation import batches, intervals, methods, outputs
from multibodies_jax.geometry import boxes
from multibodies_jax.hypotheses import hypotheses, sharpening
from multibodies_jax.training import logs
from multibodies_jax.vis import figures

_EXAMPLES = 5  # Rows of figure 6: the first of each strategy, then the next ones.
_SAMPLES = 12  # Of the prior.
_BODIES = 5
_STAGES = ("prior", "stage1", "checkpoints", "hmr")


def draw(
    config: Any,
    workdir: pathlib.Path,
    networks: outputs.Networks,
    settings: outputs.Settings,
    rows: Sequence[methods.Method],
    result: Mapping[str, Any],
) -> None:
    """Writes figures 2, 4, 5 and 6, the error curves, the losses and examples.npz to WORKDIR/figures."""
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {settings.label, methods.UNIFORM, methods.HMR, *(row.name for row in rows if row.compared)}
    for name, sets in result["metrics"].items():
        curves = {
            m: {int(n): (s["mpjpe"]["mean"], intervals.half_width(s["mpjpe"])) for n, s in by_n.items()}
            for m, by_n in sets.items()
            if m in drawn
        }
        figures.error_curve(folder / f"mpjpe_{name.replace('/', '_')}.png", curves, title=f"{name}, {result['split']}")
    stages = {p.name: logs.read(p) for p in map(workdir.joinpath, _STAGES) if (p / logs.LOG).exists()}
    if any(stages.values()):  # Converted weights have no logs.
        figures.loss_curves(folder / "losses.png", stages)
    if networks.density.variables is not None:
        samples = networks.density.sample(jax.random.key(config.seed), _SAMPLES)
        figures.figure4(folder / "figure4_prior_samples.png", np.asarray(samples).reshape(-1, 24, 3))
    _draw_examples(config, folder, networks, settings)


def _draw_examples(config: Any, folder: pathlib.Path, networks: outputs.Networks, settings: outputs.Settings) -> None:
    name, split = config.eval.sets[-1], config.eval.split
    records, rows = _choose(config, name, split)
    out = outputs.Outputs(networks, settings, batches.stacked(pipeline.collate(rows)))
    chosen = out.quantize(min(_BODIES, networks.main.num_hypotheses))
    sharpness = settings.sharpness.get(settings.weights, {}).get("", 1.0)
    prob = np.asarray(sharpening.sharpened(chosen.prob, sharpness))  # As `predict` says them.
    picked = hypotheses.pick(out.hyps, chosen.medoid)
    bodies = networks.main.bodies
    errors = out.measure(picked)["mpjpe"]
    meshes = np.asarray(smpl.mesh(bodies.smpl, picked.rotmats, picked.betas))
    true_meshes = np.asarray(smpl.mesh(bodies.smpl, out.batch.target.rotmats, out.batch.target.betas))
    annotated = [mesh if row["smpl_valid"] else None for mesh, row in zip(true_meshes, rows, strict=True)]
    best = np.argmin(np.asarray(errors), axis=1)
    _store(folder / "examples.npz", records, rows, picked, prob, best)
    faces = np.asarray(bodies.smpl.faces)
    evidence = [_evidence(record, row) for record, row in zip(records, rows, strict=True)]
    examples = [figures.Example(evidence[i], meshes[i], prob[i], int(best[i]), annotated[i]) for i in range(len(rows))]
    figures.figure6(folder / "figure6_hypotheses.png", examples, faces)
    hidden = int(np.argmin([row["kp2d_input"].sum() for row in rows]))  # The most ambiguous of them.
    if networks.hmr is not None:
        body = np.asarray(smpl.mesh(bodies.smpl, out.hmr.rotmats[:, 0], out.hmr.betas[:, 0]))
        figures.figure2(
            folder / "figure2_single_and_set.png",
            evidence[hidden],
            body[hidden],
            meshes[hidden],
            annotated[hidden],
            faces,
        )
    _figure5(folder / "figure5_ambiguous.png", records[hidden])


def _store(
    path: pathlib.Path,
    records: list[dict],
    rows: list[dict],
    picked: hypotheses.Hypotheses,
    prob: np.ndarray,
    best: np.ndarray,
) -> None:
    """What figure 6 shows, so that several methods can be drawn together (docs/interfaces.md, section 8)."""
    arrays = {
        "rotmats": np.asarray(picked.rotmats),
        "betas": np.asarray(picked.betas),
        "prob": prob,
        "best": best,
        "crop": np.stack([_crop(record) for record in records]),
        "example_id": np.array([row["example_id"] for row in rows]),
    }
    arrays |= {key: np.stack([row[key] for row in rows]) for key in ("kp2d", "kp2d_input")}
    for name, key in (("truth_rotmats", "rotmats"), ("truth_betas", "betas"), ("truth_valid", "smpl_valid")):
        arrays[name] = np.stack([row[key] for row in rows])
    io.write_npz(path, arrays)


def _choose(config: Any, name: str, split: str) -> tuple[list[dict], list[dict]]:
    """The first record of every strategy and the ones after them, with their evaluation rows."""
    source = sources.open_source(config, name, split)
    some = [dict(batches.in_box(config, source[i])) for i in range(min(len(source), 40))]
    first = {int(record["occlusion"]): i for i, record in reversed(list(enumerate(some)))}
    order = sorted(range(len(some)), key=lambda i: (i not in first.values(), i))[:_EXAMPLES]
    records = [some[i] for i in order]
    return records, [batches.evaluation_row(config, record) for record in records]


def _evidence(record: dict, row: dict) -> figures.Evidence:
    """What the network saw; the crop is shown also where only its keypoints were used."""
    return figures.Evidence(row["kp2d"], row["kp2d_input"], _crop(record))


def _crop(record: dict) -> np.ndarray:
    transform = boxes.affine(record["box_center"], float(record["box_scale"]), 224)
    return crops.warp(record["image"], transform, 224, record["window"][:2])


def _figure5(path: pathlib.Path, record: dict) -> None:
    shift = np.asarray(record["window"][:2], np.float32)
    figures.figure5(
        path,
        record["image"],
        record["kp2d"] - shift,
        record["kp2d_valid"],
        record["kp2d_input"],
        (record["box_center_full"] - shift, float(record["box_scale_full"])),
        (record["box_center"] - shift, float(record["box_scale"])),
        _crop(record),
        title=occlusion.STRATEGIES[int(record["occlusion"])],
    )
