"""Reads and checks files in SMPL's format: plain arrays out, or an error that says what to do."""

from pathlib import Path
from typing import Any

import numpy as np

KEYS = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "f", "kintree_table")
_WHERE = "SMPL's files (SMPL_NEUTRAL, SMPL_MALE, SMPL_FEMALE; .pkl or .npz) are at https://smpl.is.tue.mpg.de"


def read(path: Path, shape_components: int) -> dict[str, Any]:
    """The arguments of `smpl.build` from an `.npz` with SMPL's official keys.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a body in SMPL's format, or fewer shape components than asked for.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No body model at {path}. {_WHERE}")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            raw = {key: file[key] for key in KEYS if key in file.files}
    else:
        raise ValueError(f"{path} is neither .npz nor .pkl. {_WHERE}")
    missing = [key for key in KEYS if key not in raw]
    if missing:
        raise ValueError(f"{path} is not a body in SMPL's format: it lacks {', '.join(missing)}. {_WHERE}")
    if raw["shapedirs"].shape[-1] < shape_components:
        raise ValueError(
            f"{path} has {raw['shapedirs'].shape[-1]} shape components, {shape_components} were asked for: "
            "lower body.shape_components or use the file with 300."
        )
    parents = raw["kintree_table"][0].astype(np.int64)
    return {
        "v_template": raw["v_template"],
        "shapedirs": raw["shapedirs"][..., :shape_components],
        "posedirs": raw["posedirs"],
        "weights": raw["weights"],
        "J_regressor": raw["J_regressor"],
        "faces": raw["f"].astype(np.int32),
        "parents": (-1, *parents[1:].tolist()),
    }
