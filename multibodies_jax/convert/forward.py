"""From the peers' files to work directories: SPIN, 3D-Multibodies, torchvision's ResNet-50; `graphcmr` has one more."""

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax import io
from multibodies_jax.body import body_files
from multibodies_jax.convert import body_buffers, layouts, placing, report, torch_reader, workdirs
from multibodies_jax.models import hmr
from multibodies_jax.training import checkpoints

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
      kind: "spin", "multibodies" or "resnet50" (GraphCMR's files: the module `graphcmr`).
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
    with io.new_folder(out) as workdir:
        _write(workdir, kind, model)
    return [*_report(model.parts), *model.notes, f"Written to {out}."]


def _spin(path: pathlib.Path, files: body_files.BodyFiles | None) -> Model:
    with _open("spin", path) as source:
        part = _read(source, layouts.spin(), source.found)
    return Model({"checkpoints": part}, "paper", 1, workdirs.of_body(files), _about_body(part, files))


def _resnet50(path: pathlib.Path) -> Model:
    with _open("resnet50", path) as source:
        part = _read(source, layouts.resnet50(), source.found)
    part = dataclasses.replace(part, arrays=part.arrays | _fresh_head())
    body = {"body": "none: a trunk for any body", "body_fingerprint": checkpoints.ANY_BODY}
    note = "The head is new, with random weights: a start for training (--config.init), not a model to evaluate."
    return Model({"checkpoints": part}, "paper", 1, body, [note])


def _multibodies(path: pathlib.Path, flow_path: pathlib.Path | None, files: body_files.BodyFiles | None) -> Model:
    with _open("multibodies", path) as source:
        flow, body, network = _divide(source.found)
        num_hypotheses = _num_hypotheses(network)
        part = _read(source, layouts.network(num_hypotheses), network)
        if num_hypotheses == 1:
            raise placing.ConversionError(
                f"{path} has a single hypothesis; model.head='released' needs more: use `spin`."
            )
        if body:
            placing.check(layouts.body(), body, path, "")
            if files is not None:
                body_buffers.check_same_body(body, source.file.read, files, path)
        notes = report.skipped_lines(layouts.body().skipped, {name: source.names[_BODY + name] for name in body})
        if flow_path is None:
            if not flow:
                raise placing.ConversionError(
                    f"{path} holds no flow ({_FLOW}*): give a file that does with --flow=FILE."
                )
            prior = _read(source, _flow_layout(flow), flow, _FLOW)
    if flow_path is not None:
        prior, more = _flow_of(flow_path)
        notes += more + ([f"The {len(flow)} tensors of the flow in {path} were left out."] if flow else [])
    notes += [f"M = {num_hypotheses} hypotheses.", *_about_body(part, files)]
    return Model({"checkpoints": part, "prior": prior}, "released", num_hypotheses, workdirs.of_body(files), notes)


def _flow_of(path: pathlib.Path) -> tuple[Part, list[str]]:
    """The flow in a file that may hold a network, too, and what is said about that."""
    with _open("multibodies", path) as source:
        flow = _divide(source.found)[0]
        part = _read(source, _flow_layout(flow or source.found), flow or source.found, _FLOW if flow else "")
        others = len(source.found) - len(part.names)
    return part, [f"The flow is that of {path}, of which {others} other tensors were left aside."]


@dataclasses.dataclass(frozen=True)
class _Source:
    """An open file that was said to be of a kind: bare name -> name in the file, bare name -> tensor."""

    kind: str
    path: pathlib.Path
    file: torch_reader.TorchFile
    names: dict[str, str]
    found: dict[str, Any]


@contextlib.contextmanager
def open_parts(
    path: pathlib.Path, keys: tuple[str, ...], kind: str
) -> Iterator[tuple[torch_reader.TorchFile, dict[str, dict[str, Any]]]]:
    """Opens a file of torch.save with a state dict under each of some keys.

    Args:
      path: the file.
      keys: that it should have, beside any others.
      kind: of `convert.KINDS`, for messages.

    Yields:
      The open file, and key -> bare name -> tensor.

    Raises:
      ConversionError: it has no state dict under one of the keys; the message says what the file is.
    """
    with torch_reader.open_file(path) as file:
        root = file.root
        if isinstance(root, Mapping) and all(isinstance(root.get(key), Mapping) for key in keys):
            parts = {key: {str(name): value for name, value in root[key].items()} for key in keys}
            yield (
                file,
                {
                    key: {bare: part[name] for bare, name in placing.bare_names(part, path).items()}
                    for key, part in parts.items()
                },
            )
            return
        wanted = " and ".join(keys)
        tensors = placing.state_dict(root, path, f"`convert {kind}` reads {wanted}.")
        names = placing.bare_names(tensors, path)
        source = _Source(kind, path, file, names, {bare: tensors[name] for bare, name in names.items()})
        raise placing.ConversionError(f"{path} does not hold {wanted}. {_what_fits(source)}")


@contextlib.contextmanager
def _open(kind: str, path: pathlib.Path) -> Iterator[_Source]:
    with torch_reader.open_file(path) as file:
        if isinstance(file.root, Mapping) and {"graph_cnn", "smpl_param_regressor"} <= set(file.root):
            raise placing.ConversionError(
                f"{path} holds GraphCMR's networks (graph_cnn, smpl_param_regressor). What would fit: `multibodies convert "
                "graphcmr`."
            )
        tensors = placing.state_dict(file.root, path)
        names = placing.bare_names(tensors, path)
        yield _Source(kind, path, file, names, {bare: tensors[name] for bare, name in names.items()})


def _divide(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The tensors of the flow and of the body, by their names in these, and those of the network."""
    flow = {name.removeprefix(_FLOW): value for name, value in found.items() if name.startswith(_FLOW)}
    body = {name.removeprefix(_BODY): value for name, value in found.items() if name.startswith(_BODY)}
    return flow, body, {name: value for name, value in found.items() if not name.startswith((_FLOW, _BODY))}


def _num_hypotheses(network: Mapping[str, Any]) -> int:
    shape = getattr(network.get(_LAST_CONV), "shape", None) or (0,)
    return max(1, shape[0] // (32 * layouts.WIDTH))


def _flow_layout(flow: Mapping[str, Any]) -> layouts.Layout:
    """The layout of a flow as deep and as wide as this one; the released depth and width where it does not tell."""
    depth = sum(re.fullmatch(r"t\.\d+\.0\.weight", name) is not None for name in flow)
    first = getattr(flow.get("t.0.0.weight"), "shape", ())
    return layouts.flow(depth or 20, first[0] if first else 512)


def _read(source: _Source, layout: layouts.Layout, found: Mapping[str, Any], prefix: str = "") -> Part:
    """Checks tensors against a layout and places them; `prefix` was taken off their names."""
    path, read = source.path, source.file.read
    placing.check(layout, found, path, _advice(source, layout, found))
    arrays = placing.place(layout, found, read, path)
    if "masks/couplings" in arrays:
        mask = arrays["masks/couplings"]
        if not np.isin(mask, (0.0, 1.0)).all():
            raise placing.ConversionError(f"{path}: mask of the flow holds other numbers than 0 and 1; it is no mask.")
        arrays["masks/couplings"] = mask.astype(np.bool_)
    counts = [tensor.name for tensor in layout.skipped if tensor.reason == layouts.BATCHES_SEEN]
    seen = {name: int(read(found[name])) for name in counts if name in found}
    return Part(path, layout, {name: source.names[prefix + name] for name in found}, arrays, seen)


def _advice(source: _Source, layout: layouts.Layout, found: Mapping[str, Any]) -> str:
    """What would fit, for the case that `found` are not the tensors of the layout."""
    prefix, count = placing.extra_prefix(layout, found)
    if 2 * count > len(found):
        return (
            f"What would fit: {count} names are expected ones with {prefix!r} before them. Take it off in PyTorch: "
            f"torch.save({{k.replace({prefix!r}, '', 1): v for k, v in state_dict.items()}}, FILE)."
        )
    return _what_fits(source)


def _what_fits(source: _Source) -> str:
    """What kind of file it is that was said to be of another, in a sentence."""
    fits = _fits(source.found)
    kind = max(fits, key=lambda name: fits[name])
    (count, _), size = fits[kind], len(source.found)
    if 10 * count < 9 * size:
        return "It is of no architecture known here: convert SPIN's, 3D-Multibodies', GraphCMR's or torchvision's ResNet-50."
    if kind == source.kind:
        return f"The other {count} tensors are right: what would fit is this file as it was published."
    return f"What would fit: `multibodies convert {kind}`; {count} of its {size} tensors are of that kind."


def _fits(found: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    """For each kind, how many tensors of a file are of it, and what share of that kind's tensors they are."""
    flow, body, network = _divide(found)
    kinds = {
        "spin": [(layouts.spin(), found)],
        "resnet50": [(layouts.resnet50(), found)],
        "multibodies": [
            (layouts.network(_num_hypotheses(network)), network),
            (_flow_layout(flow), flow),
            (layouts.body(), body),
        ],
    }
    fits = {}
    for kind, parts in kinds.items():
        count = sum(placing.common_names(layout, part) for layout, part in parts)
        fits[kind] = count, count / sum(len(layout.tensors) for layout, _ in parts)
    return fits


def _fresh_head() -> dict[str, np.ndarray]:
    """A regressor's head with random weights, always the same."""
    head = hmr.IterativeHead(hmr.HeadSettings((0.0,) * 157, num_hypotheses=1, hidden=layouts.HIDDEN))
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
    return lines + [line for folder, part in parts.items() for line in report.totals(part.arrays, folder, part.layout)]


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
