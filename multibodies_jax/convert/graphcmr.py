"""GraphCMR's checkpoints to work directories and back (Kolotouros et al., CVPR 2019): two networks and the levels of a mesh.

The weights mean something only with the mesh whose coarse vertices they were trained on. The work directory is therefore
bound to the body, and holds the levels of the mesh; nothing licensed is in it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from multibodies_jax import io
from multibodies_jax.baselines.graphcmr import hierarchy, network
from multibodies_jax.body import body_files
from multibodies_jax.convert import forward, layouts, mesh_downsampling, placing, report, torch_writer, workdirs
from multibodies_jax.training import checkpoints

_LEVELS = f"batch_stats/{network.HIERARCHY}/"
_UNUSED = "unused"  # Item of the checkpoint: tensors that nothing reads, for the way back.
_MODEL = {"name": "graphcmr", "trunk": "resnet50", "head": "paper", "num_hypotheses": 1}


def _layouts(vertices: int) -> dict[str, layouts.Layout]:
    return {"graph_cnn": layouts.graph_cnn(vertices), "smpl_param_regressor": layouts.smpl_regressor(vertices)}


def convert(path: pathlib.Path, out: pathlib.Path, sampling: pathlib.Path, body_dir: str) -> list[str]:
    """Makes a work directory of GraphCMR's checkpoint; nothing is written unless all of it fits.

    Args:
      path: a file of torch.save with `graph_cnn` and `smpl_param_regressor`.
      out: the work directory, absent or empty.
      sampling: GraphCMR's `mesh_downsampling.npz`.
      body_dir: folder of the SMPL files ("" is the embedded body, which is of another mesh).

    Returns:
      The lines of the report.

    Raises:
      ConversionError: the file is of another program, a tensor is missing, not expected, of another shape or not finite, or
        the levels are of another mesh than the body.
      RefusedError, ValueError, OSError: a file or `out` cannot be used.
    """
    workdirs.check_free(out)
    files = body_files.load(body_dir)
    levels = mesh_downsampling.read(sampling, np.asarray(files.smpl.faces))
    weights, unused, seen, lines = {}, {}, {}, []
    with forward.open_parts(path, tuple(_layouts(0)), "graphcmr") as (file, parts):
        for key, layout in _layouts(len(levels.kept)).items():
            found = parts[key]
            placing.check(layout, found, path, "What would fit is the file as it was published.")
            weights |= placing.place(layout, found, file.read, path)
            for tensor in layout.skipped:
                if tensor.name in found and tensor.reason == layouts.BATCHES_SEEN:
                    seen[f"{key}.{tensor.name}"] = int(file.read(found[tensor.name]))
                elif tensor.name in found:
                    unused[f"{key}.{tensor.name}"] = file.read(found[tensor.name])
            names = {name: f"{key}.{name}" for name in found}
            lines += [f"{layout.kind}, {len(found)} tensors", *report.placed_lines(layout, names)]
            lines += report.skipped_lines(layout.skipped, names)
    whole = layouts.Layout(
        "GraphCMR's file", tuple(t for part in _layouts(len(levels.kept)).values() for t in part.tensors)
    )
    lines += report.totals(weights, "checkpoints", whole)
    arrays = weights | {_LEVELS + name: array for name, array in levels.arrays().items()}
    own = {"channels": layouts.CHANNELS, "blocks": layouts.BLOCKS, "hidden": layouts.HIDDEN, "rotation": "published"}
    config = {"converted": "graphcmr", "model": _MODEL, "graphcmr": own, "body": {"shape_components": 10}}
    about = workdirs.origin(path, weights, "graphcmr") | {"batches_seen": seen, "hierarchy": levels.fingerprint}
    metadata = {"config": config, "commit": checkpoints.git_commit(), **workdirs.of_body(files), "converted": about}
    with io.new_folder(out) as workdir:
        workdirs.write_regressor(workdir, arrays, 1, metadata, {_UNUSED: unused})
        workdirs.write_config(workdir, config)
    lines += [
        f"Levels of the mesh: {len(levels.corners):,} and {len(levels.kept):,} vertices, fingerprint {levels.fingerprint}.",
        f"Tied to the body: {files.description}.",
        f"Written to {out}.",
    ]
    return lines


def convert_back(workdir: pathlib.Path, out: pathlib.Path, sampling: pathlib.Path) -> list[str]:
    """Writes GraphCMR's checkpoint from a work directory that was converted, or trained at the published sizes.

    Args:
      workdir: the work directory, or its folder of checkpoints.
      out: the new file.
      sampling: the `mesh_downsampling.npz` that will be used with the file: the levels of the mesh are not in it.

    Returns:
      The lines of the report.

    Raises:
      ConversionError: the model is of another architecture, or its levels of the mesh are not those of `sampling`.
      CheckpointError, ValueError, OSError: the work directory, `sampling` or `out` cannot be used.
    """
    if out.exists():
        raise ValueError(f"There is something at {out} already: give a new file.")
    folder = next((f for f in (workdir / "checkpoints", workdir) if checkpoints.latest_step(f) is not None), workdir)
    items, metadata, step = checkpoints.restore(folder)
    arrays = placing.flatten(checkpoints.variables(items["state"]))
    levels = _levels_of(folder, arrays)
    wanted = mesh_downsampling.read(sampling)
    if levels != wanted:
        raise placing.ConversionError(
            f"The weights of {folder} belong to other levels of a mesh (fingerprint {levels.fingerprint}) than those of "
            f"{sampling} ({wanted.fingerprint}): with that file they mean nothing."
        )
    seen = metadata.get("converted", {}).get("batches_seen", {})
    unused = items.get(_UNUSED, {})
    content: dict[str, dict[str, np.ndarray]] = {}
    lines: list[str] = []
    kinds = _layouts(len(levels.kept))
    _check(folder, arrays, kinds)
    for key, layout in kinds.items():
        taken = placing.take(layout, arrays)
        for tensor in layout.skipped:
            name = f"{key}.{tensor.name}"
            if tensor.reason == layouts.BATCHES_SEEN:
                taken[tensor.name] = np.array(seen.get(name, step))
            else:
                taken[tensor.name] = np.asarray(unused.get(name, np.zeros(tensor.shape, np.float32)))
        content[key] = {tensor.name: taken[tensor.name] for tensor in layout.tensors}
        names = {name: f"{key}.{name}" for name in content[key]}
        lines += [f"{layout.kind}, {len(names)} tensors", *report.placed_lines(layout, names)]
    if not unused:
        lines.append(
            "What GraphCMR's file has and nothing reads (the classifier, unused shortcuts) is filled with zeros."
        )
    rotation = metadata["config"].get("graphcmr", {}).get("rotation")
    if rotation != "published":
        lines.append(
            f"Trained with graphcmr.rotation={rotation!r}: GraphCMR's code turns matrices with a negative determinant the "
            "other way, so its bodies can differ."
        )
    with io.replacing(out) as temporary:
        torch_writer.save(temporary, content)
    return [*lines, f"{folder}: fingerprint {checkpoints.fingerprint(arrays)}", f"Written to {out}."]


def _levels_of(folder: pathlib.Path, arrays: dict[str, np.ndarray]) -> hierarchy.Hierarchy:
    """Takes the levels of the mesh out of the arrays of a checkpoint."""
    names = [field.name for field in dataclasses.fields(hierarchy.Hierarchy)]
    if any(_LEVELS + name not in arrays for name in names):
        raise placing.ConversionError(
            f"{folder} does not hold GraphCMR: it has no levels of a mesh. What would fit: `spin` for one hypothesis on "
            "model.trunk='resnet50', `multibodies` for model.head='released'."
        )
    return hierarchy.Hierarchy(**{name: np.asarray(arrays.pop(_LEVELS + name)) for name in names})


def _check(folder: pathlib.Path, arrays: Mapping[str, Any], kinds: Mapping[str, layouts.Layout]) -> None:
    wanted = {path: shape for layout in kinds.values() for path, shape in placing.target_shapes(layout).items()}
    wrong = placing.differences(arrays, wanted)
    if wrong:
        raise placing.ConversionError(
            f"{folder} does not hold GraphCMR of the published sizes:\n" + "\n".join(wrong) + "\nWhat would fit: "
            f"model.trunk='resnet50' with graphcmr.channels={layouts.CHANNELS}, blocks={layouts.BLOCKS}, hidden={layouts.HIDDEN}."
        )
