"""From the peers' files to work directories: SPIN, 3D-Multibodies, torchvision's ResNet-50."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax import body_files, checkpoints
from multibodies_jax.convert import body_buffers, layouts, placing, report, torch_reader, workdirs
from multibodies_jax.models import hmr

KINDS = ("spin", "multibodies", "resnet50")
_FLOW, _BODY = "model_realnvp.", "smpl_mini."
_LAST_CONV = "layer5.2.conv3.weight"  # Its outputs tell M.
# What the weights decide, for the config.json of the work directory.
REGRESSOR = {"trunk": "resnet50", "iterations": 3, "activation": "none"}


@dataclasses.dataclass(frozen=True)
class Part:
    """The tensors of a file that go together.

    Attributes:
      path: of the file.
      layout: what they are.
      names: bare name -> name in the file.
      arrays: path -> array, as placed.
      batches_seen: bare name -> the counts that nothing reads.
    """

    path: pathlib.Path
    layout: layouts.Layout
    names: dict[str, str]
    arrays: dict[str, np.ndarray]
    batches_seen: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Model:
    """What becomes a work directory: `parts` by folder, `model.head`, M, metadata of the body, lines for the report."""

    parts: dict[str, Part]
    head: str
    num_hypotheses: int
    body: dict[str, Any]
    notes: list[str]


def convert(
    kind: str, path: pathlib.Path, out: pathlib.Path, flow: pathlib.Path | None = None, body_dir: str | None = None
) -> list[str]:
    """Makes a work directory of a file of torch.save; nothing is written unless all of it fits.

    Args:
      kind: one of `KINDS`.
      path: the file.
      out: the work directory, absent or empty.
      flow: multibodies only: another file of the same layout, whose flow is taken (their `init_flow`).
      body_dir: folder of the SMPL files that the weights were trained with ("" is the embedded body), or None.

    Returns:
      The lines of the report.

    Raises:
      ConversionError: a tensor is missing, not expected, of another shape or not finite; both sides are listed.
      RefusedError, ValueError, OSError: the file, `out` or the body files cannot be used.
    """
    workdirs.check_free(out)
    files = None if body_dir is None else body_files.load(body_dir)
    if kind == "multibodies":
        model = _multibodies(path, flow, files)
    else:
        model = _spin(path, files) if kind == "spin" else _resnet50(path)
    with workdirs.fresh(out) as workdir:
        _write(workdir, kind, model)
    return [*_report(model.parts), *model.notes, f"Written to {out}."]


def _spin(path: pathlib.Path, files: body_files.BodyFiles | None) -> Model:
    with torch_reader.open_file(path) as file:
        part = _read(layouts.spin(), *_found(file, path), file, path)
    return Model({"checkpoints": part}, "paper", 1, workdirs.of_body(files), _about_body(part, files))


def _resnet50(path: pathlib.Path) -> Model:
    with torch_reader.open_file(path) as file:
        part = _read(layouts.resnet50(), *_found(file, path), file, path)
    part = dataclasses.replace(part, arrays=part.arrays | _fresh_head())
    body = {"body": "none: a trunk for any body", "body_fingerprint": checkpoints.ANY_BODY}
    note = "The head is new, with random weights: a start for training (--config.init), not a model to evaluate."
    return Model({"checkpoints": part}, "paper", 1, body, [note])


def _multibodies(path: pathlib.Path, flow_path: pathlib.Path | None, files: body_files.BodyFiles | None) -> Model:
    with torch_reader.open_file(path) as file:
        names, found = _found(file, path)
        flow, body, network = _divide(found)
        num_hypotheses = _num_hypotheses(network)
        part = _read(layouts.network(num_hypotheses), names, network, file, path, found)
        if num_hypotheses == 1:
            raise placing.ConversionError(f"{path} has a single hypothesis; model.head='released' needs more: use `spin`.")
        if body:
            placing.check(layouts.body(), body, path, "")
            if files is not None:
                body_buffers.check_same_body(body, file.read, files, path)
        if flow_path is None:
            prior = _read(_flow_layout(flow), _prefixed(names, _FLOW), flow, file, path, found)
    notes = report.skipped_lines(layouts.body().skipped, _prefixed(names, _BODY))
    if flow_path is not None:
        prior, more = _flow_of(flow_path)
        notes += more + ([f"The {len(flow)} tensors of the flow in {path} were left out."] if flow else [])
    notes += [f"M = {num_hypotheses} hypotheses.", *_about_body(part, files)]
    return Model({"checkpoints": part, "prior": prior}, "released", num_hypotheses, workdirs.of_body(files), notes)


def _flow_of(path: pathlib.Path) -> tuple[Part, list[str]]:
    """The flow in a file that may hold a network, too, and what is said about that."""
    with torch_reader.open_file(path) as file:
        names, found = _found(file, path)
        flow = _divide(found)[0] or found
        part = _read(_flow_layout(flow), names | _prefixed(names, _FLOW), flow, file, path, found)
    return part, [f"The flow is that of {path}, of which {len(found) - len(flow)} other tensors were left aside."]


def _found(file: torch_reader.TorchFile, path: pathlib.Path) -> tuple[dict[str, str], dict[str, Any]]:
    """(bare name -> name in the file, bare name -> tensor)."""
    tensors = placing.state_dict(file.root, path)
    names = placing.bare_names(tensors, path)
    return names, {bare: tensors[name] for bare, name in names.items()}


def _divide(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The tensors of the flow and of the body, by their names in these, and those of the network."""
    flow = {name.removeprefix(_FLOW): value for name, value in found.items() if name.startswith(_FLOW)}
    body = {name.removeprefix(_BODY): value for name, value in found.items() if name.startswith(_BODY)}
    return flow, body, {name: value for name, value in found.items() if not name.startswith((_FLOW, _BODY))}


def _prefixed(names: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {bare.removeprefix(prefix): name for bare, name in names.items() if bare.startswith(prefix)}


def _num_hypotheses(network: Mapping[str, Any]) -> int:
    shape = getattr(network.get(_LAST_CONV), "shape", None) or (0,)
    return max(1, shape[0] // (32 * layouts.WIDTH))


def _flow_layout(flow: Mapping[str, Any]) -> layouts.Layout:
    """The layout of a flow as deep and as wide as this one; the released depth and width where it does not tell."""
    mask, first = (getattr(flow.get(name), "shape", ()) for name in ("mask", "t.0.0.weight"))
    return layouts.flow(mask[0] if mask else 20, first[0] if first else 512)


def _read(
    layout: layouts.Layout,
    names: Mapping[str, str],
    found: Mapping[str, Any],
    file: torch_reader.TorchFile,
    path: pathlib.Path,
    whole: Mapping[str, Any] | None = None,
) -> Part:
    """Checks tensors against a layout and places them; `whole` is all that the file has, for the advice."""
    placing.check(layout, found, path, _advice(layout, found, found if whole is None else whole))
    arrays = placing.place(layout, found, file.read, path)
    if "masks/couplings" in arrays:
        mask = arrays["masks/couplings"]
        if not np.isin(mask, (0.0, 1.0)).all():
            raise placing.ConversionError(f"{path}: mask of the flow holds other numbers than 0 and 1; it is no mask.")
        arrays["masks/couplings"] = mask.astype(np.bool_)
    counts = [tensor.name for tensor in layout.skipped if tensor.reason == layouts.BATCHES_SEEN]
    seen = {name: int(file.read(found[name])) for name in counts if name in found}
    return Part(path, layout, {name: names[name] for name in found}, arrays, seen)


def _advice(layout: layouts.Layout, found: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """What would fit a file that does not: `found` are the tensors that should be the layout's, `whole` is all it has."""
    prefix, count = placing.extra_prefix(layout, found)
    if 2 * count > len(found):
        return (
            f"What would fit: {count} names are expected ones with {prefix!r} before them. Take it off in PyTorch: "
            f"torch.save({{k.replace({prefix!r}, '', 1): v for k, v in state_dict.items()}}, FILE)."
        )
    found = whole
    flow, body, network = _divide(found)
    fits: dict[str, int] = {
        "spin": placing.common_names(layouts.spin(), found),
        "resnet50": placing.common_names(layouts.resnet50(), found),
        "multibodies": placing.common_names(layouts.network(_num_hypotheses(network)), network)
        + placing.common_names(_flow_layout(flow), flow)
        + placing.common_names(layouts.body(), body),
    }
    kind = max(fits, key=lambda name: fits[name])
    if 10 * fits[kind] < 9 * len(found):
        return "It is of no architecture known here: convert SPIN's, 3D-Multibodies' or torchvision's ResNet-50."
    return f"What would fit: `python -m multibodies_jax.convert {kind}`; {fits[kind]} of its {len(found)} tensors are of that kind."


def _fresh_head() -> dict[str, np.ndarray]:
    """A regressor's head with random weights, always the same."""
    head = hmr.IterativeHead((0.0,) * 157, 1, 3, layouts.HIDDEN, 0.5, "none", 0.0)
    init: Callable = jax.jit(head.init)
    params = init(jax.random.key(0), jnp.zeros((1, 32 * layouts.WIDTH)))["params"]
    return {f"params/head/{path}": np.asarray(value) for path, value in placing.flatten(params).items()}


def _write(workdir: pathlib.Path, kind: str, model: Model) -> None:
    fields = REGRESSOR | {"head": model.head, "num_hypotheses": model.num_hypotheses, "hidden": layouts.HIDDEN}
    config: dict[str, Any] = {"converted": kind, "model": fields, "body": {"shape_components": 10}}
    if prior := model.parts.get("prior"):
        layers, width = prior.arrays["params/couplings/shift_0/bias"].shape
        config["flow"] = {"layers": layers, "width": width}

    def metadata(part: Part) -> dict[str, Any]:
        about = workdirs.origin(part.path, part.arrays, kind) | {"batches_seen": part.batches_seen}
        return {"config": config, "commit": checkpoints.git_commit(), **model.body, "converted": about}

    if prior is not None:
        workdirs.write_prior(workdir, prior.arrays, metadata(prior))
    regressor = model.parts["checkpoints"]
    workdirs.write_regressor(workdir, regressor.arrays, model.num_hypotheses, metadata(regressor))
    workdirs.write_config(workdir, config)


def _report(parts: Mapping[str, Part]) -> list[str]:
    lines = []
    for folder, part in parts.items():
        lines += [
            f"{folder}: {part.layout.kind}, {len(part.names)} tensors",
            *report.placed_lines(part.layout, part.names),
        ]
        lines += report.skipped_lines(part.layout.skipped, part.names)
    return lines + [line for folder, part in parts.items() for line in report.totals(part.arrays, folder)]


def _about_body(part: Part, files: body_files.BodyFiles | None) -> list[str]:
    if files is None:
        return [
            "The body was not given: convert with --body.dir=FOLDER of the SMPL files to tie the weights to it, or use them "
            "with --config.body.allow_other=True."
        ]
    ours = np.concatenate([files.mean_rot6d, files.mean_betas, files.mean_cam])
    difference = float(np.abs(part.arrays["mean_state"][0] - ours).max())
    note = f"The mean body in the file differs from that of the folder by up to {difference:.3g}; the file's is used."
    return [f"Tied to the body: {files.description}.", *([note] if difference else [])]
