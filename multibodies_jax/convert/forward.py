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
      layout: what they are.
      names: bare name -> name in the file.
      arrays: path -> array, as placed.
      batches_seen: bare name -> the counts that nothing reads.
    """

    layout: layouts.Layout
    names: dict[str, str]
    arrays: dict[str, np.ndarray]
    batches_seen: dict[str, int]


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
    files = None if body_dir is None else body_files.load(body_dir)
    with workdirs.fresh(out) as workdir:
        if kind == "multibodies":
            lines = _multibodies(path, workdir, flow, files)
        else:
            lines = _spin(path, workdir, files) if kind == "spin" else _resnet50(path, workdir)
    return [*lines, f"Written to {out}."]


def _spin(path: pathlib.Path, workdir: pathlib.Path, files: body_files.BodyFiles | None) -> list[str]:
    with torch_reader.open_file(path) as file:
        part = _read(layouts.spin(), *_found(file, path), file, path)
    about = _metadata("spin", path, part) | workdirs.of_body(files)
    _write(workdir, "spin", "paper", 1, {"checkpoints": part}, about)
    return _report({"checkpoints": part}) + _about_body(part, files)


def _resnet50(path: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    with torch_reader.open_file(path) as file:
        part = _read(layouts.resnet50(), *_found(file, path), file, path)
    part.arrays.update(_fresh_head())
    body = {"body": "none: a trunk for any body", "body_fingerprint": checkpoints.ANY_BODY}
    _write(workdir, "resnet50", "paper", 1, {"checkpoints": part}, _metadata("resnet50", path, part) | body)
    note = "The head is new, with random weights: a start for training (--config.init), not a model to evaluate."
    return [*_report({"checkpoints": part}), note]


def _multibodies(
    path: pathlib.Path, workdir: pathlib.Path, flow_path: pathlib.Path | None, files: body_files.BodyFiles | None
) -> list[str]:
    with torch_reader.open_file(path) as file:
        names, found = _found(file, path)
        flow, body, network = _divide(found)
        num_hypotheses = _num_hypotheses(network)
        part = _read(layouts.network(num_hypotheses), names, network, file, path, found)
        if body:
            placing.check(layouts.body(), body, path, "")
            if files is not None:
                body_buffers.check_same_body(body, file.read, files, path)
        if flow or flow_path is None:
            prior = _read(_flow_layout(flow), _prefixed(names, _FLOW), flow, file, path, found)
    lines = []
    if flow_path is not None:
        with torch_reader.open_file(flow_path) as file:
            flow_names, found = _found(file, flow_path)
            bare = {name.removeprefix(_FLOW): value for name, value in found.items() if name.startswith(_FLOW)}
            prior = _read(_flow_layout(bare), _prefixed(flow_names, _FLOW), bare, file, flow_path, found)
        lines = [f"The flow is that of {flow_path}, of which {len(found) - len(bare)} other tensors were left aside."]
        lines += [f"The {len(flow)} tensors of the flow in {path} were left out."] if flow else []
    parts = {"checkpoints": part, "prior": prior}
    about = _metadata("multibodies", path, part) | workdirs.of_body(files)
    about_prior = _metadata("multibodies", flow_path or path, prior) | workdirs.of_body(files)
    _write(workdir, "multibodies", "released", num_hypotheses, parts, about, about_prior)
    skipped = report.skipped_lines(
        [t for t in layouts.body().tensors if isinstance(t, layouts.Skipped)], _prefixed(names, _BODY)
    )
    return [*_report(parts), *skipped, *lines, f"M = {num_hypotheses} hypotheses.", *_about_body(part, files)]


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
    placing.check(layout, found, path, _advice(layout, found if whole is None else whole))
    arrays = placing.place(layout, found, file.read, path)
    if "masks/couplings" in arrays:
        mask = arrays["masks/couplings"]
        if not np.isin(mask, (0.0, 1.0)).all():
            raise placing.ConversionError(f"{path}: mask of the flow holds other numbers than 0 and 1; it is no mask.")
        arrays["masks/couplings"] = mask.astype(np.bool_)
    counts = [t.name for t in layout.tensors if isinstance(t, layouts.Skipped) and t.reason == layouts.BATCHES_SEEN]
    seen = {name: int(file.read(found[name])) for name in counts if name in found}
    return Part(layout, {name: names[name] for name in found}, arrays, seen)


def _advice(layout: layouts.Layout, found: Mapping[str, Any]) -> str:
    """What would fit a file that does not."""
    prefix, count = placing.extra_prefix(layout, found)
    if 2 * count > len(found):
        return (
            f"What would fit: {count} of the names are expected ones with {prefix!r} before them. Take it off in PyTorch: "
            f"torch.save({{k.removeprefix({prefix!r}): v for k, v in state_dict.items()}}, FILE)."
        )
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


def _metadata(kind: str, path: pathlib.Path, part: Part) -> dict[str, Any]:
    about = workdirs.origin(path, part.arrays, kind)
    return {"commit": checkpoints.git_commit(), "converted": about | {"batches_seen": part.batches_seen}}


def _write(
    workdir: pathlib.Path,
    kind: str,
    head: str,
    num_hypotheses: int,
    parts: Mapping[str, Part],
    about: Mapping[str, Any],
    about_prior: Mapping[str, Any] | None = None,
) -> None:
    model = REGRESSOR | {"head": head, "num_hypotheses": num_hypotheses, "hidden": layouts.HIDDEN}
    config: dict[str, Any] = {"converted": kind, "model": model, "body": {"shape_components": 10}}
    if about_prior is not None:
        layers, width = parts["prior"].arrays["params/couplings/shift_0/bias"].shape
        config["flow"] = {"layers": layers, "width": width}
        workdirs.write_prior(workdir, parts["prior"].arrays, {"config": config, **about_prior})
    workdirs.write_regressor(workdir, parts["checkpoints"].arrays, num_hypotheses, {"config": config, **about})
    workdirs.write_config(workdir, config)


def _report(parts: Mapping[str, Part]) -> list[str]:
    lines = []
    for folder, part in parts.items():
        lines += [
            f"{folder}: {part.layout.kind}, {len(part.names)} tensors",
            *report.placed_lines(part.layout, part.names),
        ]
        skipped = [tensor for tensor in part.layout.tensors if isinstance(tensor, layouts.Skipped)]
        lines += report.skipped_lines(skipped, part.names)
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
