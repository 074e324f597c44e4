"""Files in exactly the layouts of the peers, with random numbers, and the program that converts them.

`layouts.WIDTH` and `HIDDEN` may be made small first.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from multibodies_jax.baselines.graphcmr import hierarchy
from multibodies_jax.convert import __main__ as program
from multibodies_jax.convert import layouts, torch_writer

_INTEGERS = ("faces", "kintree_table", "parent", "vertex_joint_selector.extra_joints_idxs")


def tensors(layout: layouts.Layout, seed: int = 0) -> dict[str, np.ndarray]:
    """Name -> random tensor."""
    rng = np.random.default_rng(seed)
    made = {}
    for tensor in layout.tensors:
        if tensor.name.endswith("num_batches_tracked"):
            made[tensor.name] = np.array(rng.integers(1000))
        elif tensor.name in _INTEGERS:
            made[tensor.name] = np.zeros(tensor.shape, np.int64)
        elif tensor.name == "mask":
            made[tensor.name] = (rng.random(tensor.shape) < 0.5).astype(np.float32)
        else:
            made[tensor.name] = np.float32(0.3) * rng.standard_normal(tensor.shape, np.float32)
            if tensor.name.endswith("running_var"):
                made[tensor.name] = np.abs(made[tensor.name])
    return made


def spin(path: Path, **changed: np.ndarray) -> dict[str, np.ndarray]:
    """Writes SPIN's file and returns its state dict."""
    state = tensors(layouts.spin()) | changed
    torch_writer.save(path, {"model": state, "epoch": 3})
    return state


def multibodies(num_hypotheses: int, flow: tuple[int, int] = (3, 16), body: bool = False) -> dict[str, np.ndarray]:
    """The state dict of 3D-Multibodies, its flow with (layers, width), with the body's buffers or without."""
    parts = {
        "module.model_realnvp.": layouts.flow(*flow),
        "module.model.model.": layouts.network(num_hypotheses),
        **({"module.smpl_mini.": layouts.body()} if body else {}),
    }
    return {prefix + name: x for prefix, layout in parts.items() for name, x in tensors(layout).items()}


def graphcmr(path: Path, vertices: int, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Writes GraphCMR's file for a coarse mesh of `vertices` vertices, and returns its two state dicts."""
    state = {
        "graph_cnn": tensors(layouts.graph_cnn(vertices), seed),
        "smpl_param_regressor": tensors(layouts.smpl_regressor(vertices), seed + 1),
    }
    torch_writer.save(path, {**state, "epoch": 3})
    return state


def mesh_downsampling(path: Path, levels: hierarchy.Hierarchy, faces: np.ndarray, **changed: np.ndarray) -> None:
    """Writes the levels of a mesh as GraphCMR's file has them, in arrays of objects, with a mesh that cannot be read."""
    size, small = len(levels.corners), len(levels.kept)
    starts, ends = hierarchy.edges_of(faces).T
    of_coarse = [(i, j) for i, row in enumerate(levels.neighbours.tolist()) for j in row if i != j]
    rows, columns = np.array(of_coarse).T
    content = {
        "A": [
            scipy.sparse.csc_matrix((np.full(len(starts), 2.0), (starts, ends)), (size, size)),
            scipy.sparse.csc_matrix((np.full(len(rows), 2.0), (rows, columns)), (small, small)),
        ],
        "D": [scipy.sparse.csr_matrix((np.ones(small), (np.arange(small), levels.kept)), (small, size))],
        "U": [
            scipy.sparse.coo_matrix(
                (levels.weights.astype(float).ravel(), (np.repeat(np.arange(size), 3), levels.corners.ravel())),
                (size, small),
            )
        ],
        "F": [faces],
        "M": [Hostile()],
    }
    arrays: dict[str, Any] = {}
    for name, found in content.items():
        arrays[name] = np.empty(len(found), object)
        arrays[name][:] = found
    np.savez(path, **(arrays | changed))  # pyright: ignore[reportArgumentType]


class Hostile:
    """What a file must not make: it would end the process."""

    def __reduce__(self):
        return os.abort, ()


def run(capsys, *arguments) -> tuple[int, str]:
    """(exit status, what was printed to either stream)."""
    status = program.main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return status, streams.out + streams.err
