"""Work directories made of converted weights (docs/interfaces.md, sections 6 and 7), whole or absent."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from multibodies_jax import io
from multibodies_jax.body import body_files
from multibodies_jax.convert import placing, report
from multibodies_jax.training import checkpoints

_STEP = 0  # Of the converted weights: no step of ours was taken.


def check_free(out: pathlib.Path) -> None:
    """Refuses a place for a work directory that is neither absent nor an empty folder.

    Raises:
      ValueError: there is something at `out`.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ValueError(f"There is something at {out} already: give a new folder, or delete that one first.")


def origin(path: pathlib.Path, arrays: Mapping[str, np.ndarray], kind: str) -> dict[str, Any]:
    """What the metadata say about a converted file."""
    return {
        "kind": kind,
        "file": path.name,
        "sha256": io.sha256_of_file(path),
        "fingerprint": checkpoints.fingerprint(arrays),
        "parameters": report.parameter_counts(arrays),
    }


def of_body(files: body_files.BodyFiles | None) -> dict[str, Any]:
    """The metadata of the body that weights were made for; without its files, `checkpoints.check_body` explains."""
    if files is None:
        return {"body": "SMPL, whose files were not given when converting", "body_fingerprint": None}
    return {"body": files.description, "body_fingerprint": files.fingerprint}


def write_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes config.json: the fields that the weights decide, and `converted`, which leaves all others free."""
    io.write_json(workdir / "config.json", config)


def write_regressor(
    workdir: pathlib.Path,
    arrays: Mapping[str, np.ndarray],
    num_hypotheses: int,
    metadata: Mapping[str, Any],
    others: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> None:
    """Writes checkpoints/ from arrays by path (`params/...`, `batch_stats/...`, `mean_state`), and other items beside."""
    tree = placing.nest(arrays)
    mean_state = tree.pop("mean_state", None)
    about = {"num_hypotheses": num_hypotheses, "images_seen": 0, "data_position": None, **metadata}
    if mean_state is not None:
        about["mean_state"] = mean_state.reshape(-1).tolist()
    state = {"step": np.int32(_STEP), **tree}
    checkpoints.save(workdir / "checkpoints", _STEP, {"state": state, **(others or {})}, about)


def write_prior(workdir: pathlib.Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Writes prior/ from the arrays of a flow on metres: no standardisation, no noise, no held-out likelihood known."""
    tree = placing.nest(arrays)
    size = tree["masks"]["couplings"].shape[-1]
    stats = {"mean": np.zeros(size, np.float32), "std": np.ones(size, np.float32)}
    items = {"params": tree["params"], "fixed": {"masks": tree["masks"], "stats": stats}}
    checkpoints.save(workdir / "prior", _STEP, items, {"noise_mm": 0.0, "held_out_log_prob": None, **metadata})
