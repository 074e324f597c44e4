"""Evaluated work directories made of noise, tiny and without a network, for the tests of the report."""

import copy
import json
import pathlib
from typing import Any

import numpy as np

from multibodies_jax.evaluation import intervals

SETS = ("synthetic_bodies/clean", "synthetic_bodies/ambiguous")
IMAGES, STEP, BATCH = 60, 40, 8
LABELS = {"multibodies": "ours", "hmr": "HMR (M = 1)", "smpl_mdn": "SMPL-MDN", "smpl_cvae": "SMPL-CVAE"}
LABELS |= {"spin": "SPIN", "graphcmr": "GraphCMR"}
BASE: dict[str, Any] = {
    "seed": 0,
    "init": "",
    "data": {"dir": "data", "sets": ["synthetic_bodies/clean"]},
    "model": {"name": "multibodies", "num_hypotheses": 50},
    "loss": {"reading": "paper", "reprojection_all": 1.0, "mode0": True},
    "flow": {"noise_mm": 5.0},
    "train": {"batch": BATCH, "log_every": 50},
    "optim": {"learning_rate": 1e-4},
    "quantizer": {"reading": "paper", "weights": "prior"},
    "eval": {"published": "", "vertex_stride": 10},
    "body": {"dir": None, "shape_components": 10},
}
_DIFFICULTY = np.random.default_rng(7).gamma(9.0, 8.0, IMAGES)  # Of each image, for every method: makes pairing pay.


def errors(level: float, seed: int) -> np.ndarray:
    """MPJPE of every image: about 72 mm + level, with noise of 3 mm."""
    noise = np.random.default_rng([seed, int(10 * level) + 10_000]).normal(0, 3, IMAGES)
    return (_DIFFICULTY + level + noise).astype(np.float32)


def methods_of(model: str, m: int, level: float) -> dict[tuple[str, int], float]:
    """(method, n) -> its level: falls by 2 mm from one n to the next."""
    label = LABELS[model]
    if m == 1:
        return {(label, 1): level} | ({(f"{label}, mesh", 1): level - 2} if model == "graphcmr" else {})
    falling = {n: level - 2.0 * i for i, n in enumerate((1, 5, 10, 25))}
    rows = {(label, n): value for n, value in falling.items()} | {(f"all M = {m}", m): level - 9}
    if model == "multibodies":
        others = {"ours, uniform weights": 1.5, "ours, centroids": 0.5, "random n of the M": 4, "image-independent": 60}
        others |= {"HMR + tuned noise": 5, "HMR + tuned noise, refined": 1}
        others |= {"ours, refined": -3.0, "ours, refined, learned scores": -2.5}
        rows |= {(name, n): value + more for name, more in others.items() for n, value in falling.items()}
        rows |= {
            ("HMR (M = 1)", 1): level + 3,
            ("HMR (M = 1), refined", 1): level + 1,
            ("ours, evidence shuffled", 1): level + 90,
        }
    else:
        rows |= {(f"{label}, quantized", n): value + 1 for n, value in falling.items()}
        rows |= {(f"{label}, refined", n): value - 2 for n, value in falling.items()}
    return rows


def make(path: pathlib.Path, model: str = "multibodies", seed: int = 0, level: float = 0.0, **changes) -> pathlib.Path:
    """Writes one work directory; `changes` of its config as model__num_hypotheses=25."""
    config: dict[str, Any] = copy.deepcopy(BASE) | {"seed": seed}
    config["model"] = {"name": model, "num_hypotheses": 1 if model in ("hmr", "spin", "graphcmr") else 50}
    for field, value in changes.items():
        group, name = field.split("__")
        config[group] = config.get(group, {}) | {name: value}
    m = int(config["model"]["num_hypotheses"])
    arrays = _arrays(model, m, level, seed)
    (path / "checkpoints" / str(STEP)).mkdir(parents=True)
    (path / "checkpoints" / str(STEP) / "manifest.json").write_text("{}", encoding="utf-8")
    lines = [{"step": step, "best_mm": 90.0 - step / 2} for step in range(10, STEP + 1, 10)]
    (path / "checkpoints" / "log.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "results.json").write_text(json.dumps(_result(model, m, seed, config, arrays)), encoding="utf-8")
    np.savez(path / "per_example.npz", allow_pickle=False, **arrays)
    return path


def add_examples(path: pathlib.Path, n: int, name: str = "image") -> None:
    """Writes the figures/examples.npz of two images with n bodies each, all in the rest pose."""
    rotmats, betas = np.tile(np.eye(3, dtype=np.float32), (2, n, 24, 1, 1)), np.zeros((2, n, 10), np.float32)
    (path / "figures").mkdir(exist_ok=True)
    np.savez(
        path / "figures" / "examples.npz",
        rotmats=rotmats,
        betas=betas,
        prob=np.full((2, n), 1 / n),
        best=np.zeros(2, int),
        kp2d=np.zeros((2, 24, 2)),
        kp2d_input=np.ones((2, 24)),
        crop=np.zeros((2, 224, 224, 3), np.uint8),
        truth_rotmats=rotmats[:, 0],
        truth_betas=betas[:, 0],
        truth_valid=np.array([1, 0]),
        example_id=np.array([f"{name}_0", f"{name}_1"]),
    )


def edit(path: pathlib.Path, change) -> pathlib.Path:
    """Changes the results.json of a work directory."""
    result = json.loads((path / "results.json").read_text(encoding="utf-8"))
    change(result)
    (path / "results.json").write_text(json.dumps(result), encoding="utf-8")
    return path


def _arrays(model: str, m: int, level: float, seed: int) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for place, dataset in enumerate(SETS):
        arrays[f"{dataset}|example_id"] = np.array([f"{dataset}/{i}" for i in range(IMAGES)])
        for (method, n), own in methods_of(model, m, level).items():
            mpjpe = errors(own + 10 * place, seed)
            arrays |= {f"{dataset}|{method}|{n}|mpjpe": mpjpe, f"{dataset}|{method}|{n}|pa_mpjpe": mpjpe * 0.7}
        hidden = np.where(np.arange(IMAGES) % 2, 20.0 + errors(0, seed), np.nan).astype(np.float32)
        arrays[f"{dataset}|diagnostic|spread_hidden_mm"] = hidden
        arrays[f"{dataset}|diagnostic|beta_norm"] = _DIFFICULTY.astype(np.float32) / 30
        arrays[f"{dataset}|single|first|mpjpe"] = errors(level + 1, seed)
        for part in ("calibration", "calibration_refined") if m > 1 else ():
            arrays |= {f"{dataset}|{part}|5|{name}": values for name, values in _probabilities(seed).items()}
    return arrays


def _probabilities(seed: int) -> dict[str, np.ndarray]:
    """What is kept of the probabilities of each image: those in use say 0.1 nats more than equal ones, those of scores 0.3,
    sharpened ones another 0.1."""
    rng = np.random.default_rng(seed)
    loss = rng.uniform(1.0, 2.0, IMAGES).astype(np.float32)
    less = {"_uniform": 0.0, "": 0.1, "_scores": 0.3, "_fitted": 0.2, "_scores_fitted": 0.4}
    found = {f"log_loss{ending}": loss - np.float32(nats) for ending, nats in less.items()}
    for ending in less:
        found[f"top_probability{ending}"] = np.full(IMAGES, 0.25 if "fitted" in ending else 0.45, np.float32)
        found[f"top_true{ending}"] = (np.arange(IMAGES) % 4 == 0).astype(np.float32)
    return found


def _result(model: str, m: int, seed: int, config: dict, arrays: dict[str, np.ndarray]) -> dict:
    label, metrics = LABELS[model], {}
    for key, values in arrays.items():
        dataset, *rest = key.split("|")
        if len(rest) == 3 and rest[0] not in ("single", "calibration", "calibration_refined"):
            tree = metrics.setdefault(dataset, {}).setdefault(rest[0], {}).setdefault(rest[1], {})
            tree[rest[2]] = intervals.summary(values)
    bins = [{"probability": 0.25, "frequency": 0.2, "count": 30}, {"probability": 0.75, "frequency": 0.5, "count": 10}]
    learned = {"log_loss": 1.2, "sharpness": 1.4 + seed, "top_ece_fitted": 0.02}
    scores = {"ece": 0.1, "temperature": 0.3, "bins": bins, "log_loss": 1.4, "scores": learned}
    scores |= {"sharpness": 0.5, "ece_fitted": 0.05, "bins_fitted": bins[:1]}
    seen = {label: STEP * BATCH} | ({"HMR (M = 1)": STEP * BATCH} if model == "multibodies" else {})
    return {
        "schema": 2,
        "config": config,
        "commit": "0" * 40,
        "body": "a body",
        "body_fingerprint": "f" * 64,
        "seed": seed,
        "split": "test",
        "model": model,
        "label": label,
        "protocol": {"name": "strict", "joints": ["a", "b"]},
        "num_hypotheses": m,
        "steps": {label: STEP},
        "images_seen": seen,
        "init": {"dir": f"trunk_{seed}", "fingerprint": f"{seed:016x}"},
        "datasets": {name: {"name": f"{name}-1", "examples": IMAGES, "fingerprint": f"of {name}"} for name in SETS},
        "metrics": metrics,
        "diagnostics": {name: {"hypotheses_never_best": 7 + seed, "energy_mm": {"5": {"mean": 30.0}}} for name in SETS},
        "calibration": {name: {"5": scores} for name in SETS} if m > 1 else {},
        "calibration_refined": {name: {"5": scores} for name in SETS} if m > 1 else {},
        "curves": {
            name: {
                "n": [1, 2, 3],
                **{kind: {"mpjpe": [9, 8, 7], "pa_mpjpe": [6, 5, 4]} for kind in ("random", "quantized")},
            }
            for name in SETS
        }
        if m > 1
        else {},
        "same_people": {
            "none": {"examples": 5, "single_mpjpe": {"mean": 0.0, "low": 0.0, "high": 0.0}},
            "legs": {
                "examples": 7,
                "single_mpjpe": {"mean": 10.0 + 4 * seed, "low": 3.0 + 2 * seed, "high": 17.0 + 6 * seed},
                "spread_of_hidden_joints_mm": {"mean": -2.0, "low": -3.0, "high": -1.0},
            },
        },
        **({"cvae": {"kl": 3.0 + seed, "verdict": "neither"}} if model == "smpl_cvae" else {}),
    }
