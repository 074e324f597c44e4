"""Reads and checks files in SMPL's format: plain arrays out, or an error that says what to do."""

from pathlib import Path
from typing import Any

import numpy as np

from multibodies_jax import untrusted
from multibodies_jax.body import pickles

KEYS = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "f", "kintree_table")
_WHERE = (
    "Accepted are SMPL_NEUTRAL, SMPL_MALE and SMPL_FEMALE as the official .pkl (v1.0 or v1.1) or an .npz with the keys "
    f"{', '.join(KEYS)}. SMPL can be had at https://smpl.is.tue.mpg.de"
)


def read(path: Path, shape_components: int) -> dict[str, Any]:
    """The arguments of `smpl.build` from a `.pkl` or `.npz` with SMPL's official keys.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a body in SMPL's format, its arrays do not fit together, or it has fewer shape components
        than asked for (more are cut).
    """
    raw = _read_keys(path)
    missing = [key for key in KEYS if key not in raw]
    if missing:
        raise ValueError(f"{path} is not a body in SMPL's format: it lacks {', '.join(missing)}. {_WHERE}")
    arrays = {key: _numbers(path, key, raw[key]) for key in KEYS}
    _check_shapes(path, arrays)
    _check_sums(path, arrays)
    available = arrays["shapedirs"].shape[2]
    if not 1 <= shape_components <= available:
        raise ValueError(
            f"{path} has {available} shape components, {shape_components} were asked for: ask for 1 to {available} "
            "(body.shape_components), or use the file with 300."
        )
    return {
        "v_template": arrays["v_template"],
        "shapedirs": arrays["shapedirs"][:, :, :shape_components],
        "posedirs": arrays["posedirs"],
        "weights": arrays["weights"],
        "J_regressor": arrays["J_regressor"],
        "faces": _faces(path, arrays["f"], len(arrays["v_template"])),
        "parents": _parents(path, arrays["kintree_table"]),
    }


def _read_keys(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no body model at {path}. {_WHERE}")
    if path.suffix == ".npz":
        with untrusted.open_npz(path, f"{_WHERE}.") as file:
            return {key: file[key] for key in KEYS if key in file}
    if path.suffix == ".pkl":
        raw = pickles.load(path)
        if not isinstance(raw, dict):
            raise ValueError(f"{path} holds a {type(raw).__name__}, not a dictionary of arrays. {_WHERE}")
        return raw
    raise ValueError(f"{path} ends neither in .npz nor in .pkl. {_WHERE}")


def _numbers(path: Path, key: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ValueError(f"{path}: {key} is {got}, not an array of numbers. {_WHERE}")
    if not np.isfinite(value).all():
        raise ValueError(f"{path}: {key} has {np.sum(~np.isfinite(value))} values that are NaN or infinite.")
    return value


def _check_shapes(path: Path, arrays: dict[str, np.ndarray]) -> None:
    if arrays["kintree_table"].ndim != 2 or arrays["v_template"].ndim != 2:
        raise ValueError(f"{path}: kintree_table and v_template must be tables (2 x J and V x 3). {_WHERE}")
    V, J = len(arrays["v_template"]), arrays["kintree_table"].shape[1]
    if not V or not J:
        raise ValueError(f"{path} has {V} vertices and {J} joints; a body has some of both. {_WHERE}")
    expected = {
        "v_template": (V, 3),
        "shapedirs": (V, 3, None),
        "posedirs": (V, 3, 9 * (J - 1)),
        "weights": (V, J),
        "J_regressor": (J, V),
        "f": (None, 3),
        "kintree_table": (2, J),
    }
    for key, shape in expected.items():
        got = arrays[key].shape
        if len(got) != len(shape) or any(want not in (None, have) for want, have in zip(shape, got, strict=True)):
            wanted = " x ".join("any" if length is None else str(length) for length in shape)
            raise ValueError(f"{path}: {key} has shape {got}; with {V} vertices and {J} joints it must be {wanted}.")


def _check_sums(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # Official regressors are rounded: their rows sum to 1 within 1e-3.
    for key, tolerance in (("weights", 1e-3), ("J_regressor", 1e-2)):
        sums = arrays[key].sum(axis=1, dtype=np.float64)
        worst = np.abs(sums - 1).argmax()
        if abs(sums[worst] - 1) > tolerance:
            raise ValueError(f"{path}: row {worst} of {key} sums to {sums[worst]:.6g}, not to 1.")
    if arrays["weights"].min() < -1e-6:
        raise ValueError(f"{path}: weights has negative entries (down to {arrays['weights'].min():.3g}).")


def _faces(path: Path, faces: np.ndarray, num_vertices: int) -> np.ndarray:
    if faces.size and (faces.min() < 0 or faces.max() >= num_vertices):
        raise ValueError(f"{path}: f refers to vertices {faces.min()} to {faces.max()}, but there are {num_vertices}.")
    return faces.astype(np.int32)


def _parents(path: Path, table: np.ndarray) -> tuple[int, ...]:
    """Each joint's parent, -1 for the root (written as 2^32 - 1 in official files); the table's columns are joints."""
    order, parents = table[1].astype(np.int64), table[0].astype(np.int64)
    if not np.array_equal(order, np.arange(len(order))):
        raise ValueError(
            f"{path}: the second row of kintree_table must number the joints from 0, got {order.tolist()}."
        )
    if np.any(parents[1:] < 0) or np.any(parents[1:] >= order[1:]):
        raise ValueError(f"{path}: kintree_table must name an earlier joint as each parent, got {parents.tolist()}.")
    return (-1, *parents[1:].tolist())
