"""Files in exactly the layouts of the peers, with random numbers, and the program that converts them.

`layouts.WIDTH` and `HIDDEN` may be made small first.
"""

from pathlib import Path

import numpy as np

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


def run(capsys, *arguments) -> tuple[int, str]:
    """(exit status, what was printed to either stream)."""
    status = program.main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return status, streams.out + streams.err
