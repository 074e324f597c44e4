"""From work directories to files of torch.save that the peers' programs load."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from multibodies_jax import io
from multibodies_jax.body import body_files
from multibodies_jax.convert import body_buffers, layouts, placing, report, torch_writer
from multibodies_jax.convert.forward import REGRESSOR
from multibodies_jax.models import scores
from multibodies_jax.training import checkpoints

_NETWORK, _FLOW, _BODY = "module.model.model.", "module.model_realnvp.", "module.smpl_mini."


def convert(kind: str, workdir: pathlib.Path, out: pathlib.Path, body_dir: str | None = None) -> list[str]:
    """Writes the regressor of a work directory, and for multibodies its prior, in the peers' layout; the same bits.

    Args:
      kind: "spin" for one hypothesis on a ResNet-50, "multibodies" for model.head="released".
      workdir: a work directory, converted or trained, or one of its folders of checkpoints.
      out: the new file.
      body_dir: multibodies only: body files for the buffers of the body model; None leaves these out.

    Returns:
      The lines of the report: every tensor, and what a file of the peers has beside these.

    Raises:
      ConversionError: the model is of another architecture.
      CheckpointError, ValueError, OSError: the work directory, `out` or the body files cannot be used.
    """
    if kind == "resnet50":
        raise ValueError("A trunk alone is not written back: use `spin --reverse`, which has it with the same names.")
    if out.exists():
        raise ValueError(f"There is something at {out} already: give a new file.")
    folder = next((f for f in (workdir / "checkpoints", workdir) if checkpoints.latest_step(f) is not None), workdir)
    items, metadata, step = checkpoints.restore(folder)
    checkpoints.check_parts(folder, items, ("state",))
    checkpoints.check_parts(folder, items["state"], ("params",))
    checkpoints.check_parts(folder, metadata, ("num_hypotheses", "config"))
    arrays = _arrays(items["state"], metadata, folder)
    layout = layouts.spin() if kind == "spin" else layouts.network(metadata["num_hypotheses"])
    _check(layout, arrays, metadata, folder)
    seen = (metadata.get("converted") or {}).get("batches_seen", {})
    tensors, lines = _tensors(layout, arrays, seen, step)
    if kind == "spin":
        content: dict[str, Any] = {"model": tensors}
    else:
        flow, more = _flow(workdir / "prior")
        buffers = body_buffers.buffers(body_files.load(body_dir)) if body_dir is not None else {}
        parts = {_FLOW: flow, _NETWORK: tensors, _BODY: buffers}
        content = {prefix + name: array for prefix, part in parts.items() for name, array in part.items()}
        lines += more
        if not buffers:
            lines.append(f"Left out: the {len(layouts.body().tensors)} buffers {_BODY}*; --body.dir=FOLDER fills them.")
    if scores.NAME in items["state"]["params"]:
        lines.append("Left out: the score head, for which theirs has no place.")
    _write(out, content)
    return [*lines, *report.totals(arrays, str(folder), layout), f"Written to {out}."]


def _arrays(state: Mapping[str, Any], metadata: Mapping[str, Any], folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Path -> array of the network's weights that evaluation would use, with the mean body; no peer has scores."""
    if "mean_state" not in metadata:
        raise ValueError(
            f"{folder} does not say from which mean body its regressor starts: it was written by an older version. "
            "Train one step more with this version, and convert that."
        )
    variables = checkpoints.variables(state)
    params = {name: part for name, part in variables["params"].items() if name != scores.NAME}
    return {
        **placing.flatten(variables | {"params": params}),
        "mean_state": np.array([metadata["mean_state"]], np.float32),
    }


def _check(
    layout: layouts.Layout, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any], folder: pathlib.Path
) -> None:
    wanted = placing.target_shapes(layout)
    lines = placing.differences(arrays, wanted)
    model = metadata["config"]["model"]
    lines += [
        f"  config.model.{field}: {model.get(field)!r} there, {value!r} expected"
        for field, value in REGRESSOR.items()
        if model.get(field) != value
    ]
    if lines:
        raise placing.ConversionError(
            f"{folder} does not hold {layout.kind}:\n" + "\n".join(lines) + "\nWhat would fit: `spin` for one "
            "hypothesis on model.trunk='resnet50', `multibodies` for model.head='released'."
        )


def _tensors(
    layout: layouts.Layout, arrays: Mapping[str, np.ndarray], batches_seen: Mapping[str, int], step: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Name -> tensor in the layout's order, and the lines about them."""
    taken = placing.take(layout, arrays)
    tracked = [tensor.name for tensor in layout.skipped if tensor.reason == layouts.BATCHES_SEEN]
    counts = {name: np.array(batches_seen.get(name, step)) for name in tracked}
    tensors = {t.name: (taken | counts)[t.name] for t in layout.tensors if t.name in taken or t.name in counts}
    names = {name: name for name in tensors}
    omitted = [tensor for tensor in layout.skipped if tensor.name not in counts]
    lines = [f"{layout.kind}: {len(tensors)} tensors", *report.placed_lines(layout, names)]
    lines += [f"  {name:<48} {int(count)} batches seen" for name, count in counts.items()]
    return tensors, lines + report.skipped_lines(omitted, {tensor.name: tensor.name for tensor in omitted})


def _flow(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors of the prior, or none and why."""
    if checkpoints.latest_step(folder) is None:
        return {}, [f"Left out: the flow; there is no {folder}."]
    items, _, _ = checkpoints.restore(folder)
    checkpoints.check_parts(folder, items, ("params", "fixed"))
    stats = items["fixed"]["stats"]
    if np.any(stats["mean"] != 0) or np.any(stats["std"] != 1):
        return {}, ["Left out: the flow; ours standardises its input, for which theirs has no place."]
    tree = {"params": items["params"], "masks": items["fixed"]["masks"]}
    arrays = placing.flatten(tree)
    layout = layouts.flow(*arrays["params/couplings/shift_0/bias"].shape)
    names = {slot.name: _FLOW + slot.name for slot in layout.slots}
    lines = [f"{layout.kind}: {len(names)} tensors", *report.placed_lines(layout, names)]
    return placing.take(layout, arrays), [*lines, *report.totals(arrays, "prior", layout)]


def _write(out: pathlib.Path, content: Mapping[str, Any]) -> None:
    with io.replacing(out) as temporary:
        torch_writer.save(temporary, content)
