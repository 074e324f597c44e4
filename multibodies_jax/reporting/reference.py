"""Tables of the documentation that the code knows: config fields, configs, features of a dataset, arrays of a prediction.

`pages` makes whole pages below `docs/reference/`, `parts` the marked parts of other documents.
"""

import ast
import importlib
import inspect
import io
import pathlib
import re
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from multibodies_jax.geometry import joints
from multibodies_jax.prediction import prediction_file
from multibodies_jax.reporting import markdown
from tfds_builders import features

FOLDER = pathlib.Path("docs/reference")


def pages(root: pathlib.Path) -> dict[pathlib.Path, str]:
    """The reference pages.

    Args:
      root: the repository's folder, whose `configs/` are described.

    Returns:
      Path relative to `root` -> Markdown.
    """
    return {
        FOLDER / "config.md": _config_page(root),
        FOLDER / "datasets.md": _datasets_page(),
        FOLDER / "prediction.md": _prediction_page(),
    }


def parts() -> dict[str, str]:
    """Marked part -> Markdown: `features`, the feature dictionary of the image sets."""
    rows = []
    for name, feature in features.features().items():
        unit, meaning = features.MEANINGS[name]
        rows.append([f"`{name}`", _shape(name, feature), unit, meaning])
    return {"features": "\n".join(markdown.table(["feature", "shape, type", "unit, frame", "meaning"], rows))}


def config_comments(source: str) -> dict[str, str]:
    """What a config file says of each field: the comment on its line, or that on the lines above it.

    Args:
      source: Python that assigns to `c.FIELD` or `c.GROUP.FIELD`.

    Returns:
      Dotted name of a field or group -> comment, "" where there is none.
    """
    comments = {
        token.start[0]: (token.string.lstrip("# "), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign) or not (name := _dotted(node.targets[0])):
            continue
        own = [
            comments[line][0] for line in range(node.lineno, (node.end_lineno or node.lineno) + 1) if line in comments
        ]
        line = node.lineno - 1
        above: list[str] = []
        while line in comments and comments[line][1]:
            above.insert(0, comments[line][0])
            line -= 1
        found[name] = " ".join(own or above)
    return found


def _config_page(root: pathlib.Path) -> str:
    folder = root / "configs"
    comments = config_comments((folder / "default.py").read_text(encoding="utf-8"))
    lines = [
        "# Config fields",
        "",
        "`--config.FIELD=VALUE` sets a field; a misspelt field is an error. The defaults are those of `configs/default.py`: "
        "the paper's setting on the embedded data.",
        "",
    ]
    config = importlib.import_module("configs.default").get_config()
    groups: dict[str, list[list[str]]] = {}
    for name, value in _fields(config):
        group = name.rpartition(".")[0]
        groups.setdefault(group, []).append([f"`{name}`", f"`{value!r}`", comments.get(name, "")])
    for group, rows in groups.items():
        about = comments.get(group, "")
        lines += [f"## {group or 'Top level'}", "", *([about, ""] if about else [])]
        lines += [*markdown.table(["field", "default", "meaning"], rows), ""]
    if added := _added_fields(folder, comments, dict(_fields(config))):
        lines += ["## Fields of some configs only", ""]
        lines += [*markdown.table(["field", "value there", "meaning", "configs"], added), ""]
    lines += ["## Configs", "", "Each file states its command and what it needs.", ""]
    rows = []
    for path in sorted(folder.glob("[!_]*.py")):
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        rows.append([f"`configs/{path.name}`", re.sub(r"\s+", " ", about.partition("\n\n")[0])])
    return "\n".join([*lines, *markdown.table(["file", "what it is"], rows)]) + "\n"


def _datasets_page() -> str:
    lines = [
        "# Features of a dataset",
        "",
        "Every set of images fills the same features. What a set does not annotate is stored as zeros with its `valid` at "
        "0. The camera frame is x right, y down, z forward; pixels are those of the original image. `tfds_builders/README.md` "
        "has the commands that build the sets.",
        "",
        parts()["features"],
        "",
        f"Sets of people without images have {', '.join(f'`{name}`' for name in features.person_features())}; there the root "
        "is upright (y up, facing +z).",
        "",
        f"J24, in order: {', '.join(joints.J24)}.",
    ]
    return "\n".join(lines) + "\n"


def _prediction_page() -> str:
    lines = [
        "# Arrays of a prediction",
        "",
        "A prediction is one `.npz` file per person, `<image>_<person>.npz`: numbers and text, no pickles. Lengths are in "
        "metres, in the camera frame (x right, y down, z forward); pixels are those of the upright image. M is the number "
        "of hypotheses, n the number of representatives (the most probable first), S the number of shape coefficients.",
        "",
    ]
    rows = [
        [f"`{name}`", f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})", prediction_file.MEANINGS[name]]
        for name, shape in prediction_file.SHAPES.items()
    ]
    return "\n".join([*lines, *markdown.table(["array", "shape", "meaning"], rows)]) + "\n"


def _added_fields(folder: pathlib.Path, comments: Mapping[str, str], common: Mapping[str, Any]) -> list[list[str]]:
    """Fields that `default.py` lacks and another config has: field, value, meaning, files."""
    found: dict[str, tuple[Any, str, list[str]]] = {}
    for path in sorted(folder.glob("[!_]*.py")):
        get = importlib.import_module(f"configs.{path.stem}").get_config
        if any(parameter.default is parameter.empty for parameter in inspect.signature(get).parameters.values()):
            continue
        own = {
            **comments,
            **{name: text for name, text in config_comments(path.read_text(encoding="utf-8")).items() if text},
        }
        for name, value in _fields(get()):
            if name not in common:
                about = found.setdefault(name, (value, own.get(name, ""), []))
                about[2].append(f"`{path.stem}`")
    return [[f"`{name}`", f"`{value!r}`", about, ", ".join(where)] for name, (value, about, where) in found.items()]


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a config with their dotted names; those of a group itself come before its groups."""
    items = list(config.items())
    for name, value in items:
        if not hasattr(value, "items"):
            yield f"{prefix}{name}", value
    for name, value in items:
        if hasattr(value, "items"):
            yield from _fields(value, f"{prefix}{name}.")


def _dotted(node: ast.expr) -> str:
    """`data.dir` of the expression `c.data.dir`; "" of anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return ".".join(names) if isinstance(node, ast.Name) and node.id == "c" else ""


def _shape(name: str, feature: Any) -> str:
    if name == "image":
        return "(H, W, 3) uint8"
    if hasattr(feature, "names") and feature.names:
        return "class label"
    dtype = np.dtype(feature.np_dtype)
    if dtype.kind == "O":
        return "text"
    shape = ", ".join(map(str, feature.shape))
    return f"({shape}{',' if len(feature.shape) == 1 else ''}) {dtype}"
