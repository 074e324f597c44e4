"""Figures of the documentation's pages that are drawn from the same data as their tables."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from multibodies_jax import io
from multibodies_jax.baselines import controls
from multibodies_jax.evaluation import methods
from multibodies_jax.reporting import pages, plots

RUNS = ("tables", "tables_keypoints", "tables_movenet", "pretrained")
"""The runs (`docs/results/data`) of which figures show the error against n, docs/images/RUN_error_against_n.png, and, where
it is known, the error in training against the images seen, RUN_training.png."""

_SHOWN = (methods.OURS, "SMPL-MDN", "SMPL-CVAE", controls.NOISE)


def write(root: pathlib.Path, check: bool = False) -> list[pathlib.Path]:
    """Draws every figure that is not of the data that are there; delete one to draw it anew.

    Each file keeps a checksum of what it shows. A run without data has no figure.

    Args:
      root: the repository's folder.
      check: draws nothing.

    Returns:
      The files that were out of date, relative to `root`.
    """
    differing = []
    for run in RUNS:
        if not (root / pages.RESULTS / "data" / f"{run}.csv").exists():
            continue
        lines = pages.read(root / pages.RESULTS / "data", run)
        steps = [line | {"images": line["n"]} for line in lines if line["table"] == "training"]
        jobs = [("error_against_n", plots.bands, _panels(lines)), ("training", plots.training, steps)]
        for name, draw, shown in jobs:
            path = pathlib.Path(f"docs/images/{run}_{name}.png")
            checksum = io.sha256(json.dumps(shown).encode())
            if shown and _comment(root / path) != checksum:
                differing.append(path)
                if not check:
                    draw(shown, root / path, checksum)
    return differing


def _panels(every: Sequence[Mapping[str, str]]) -> dict[str, list[list[dict[str, Any]]]]:
    """Set -> the lines of the methods as predicted and refined."""
    lines = [line for line in every if line["table"] == "errors" and line["metric"] == "mpjpe"]
    shown = (_SHOWN, tuple(map(methods.refined_of, _SHOWN)))
    kept = ("method", "n", "mean", "low", "high")
    return {
        dataset: [
            [
                {name: line[name] for name in kept}
                for line in lines
                if line["set"] == dataset and line["method"] in names
            ]
            for names in shown
        ]
        for dataset in dict.fromkeys(line["set"] for line in lines)
    }


def _comment(path: pathlib.Path) -> str | None:
    try:
        with Image.open(path) as image:
            return image.info.get("Comment")
    except OSError:  # Absent, or no image.
        return None
