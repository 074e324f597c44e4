"""The direction of imports between the sub-packages, and the words that the core does not use.

Imports inside functions count, and nothing is excepted.
"""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LIBRARY = "multibodies_jax"
BELOW_EVERYTHING = {
    "registry",
    "io",
    "batch",
    "programs",
    "untrusted",
    "contained",
    "traced",
    "devices",
    "compile_time",
    "exact",
}

# What each sub-package may import, besides itself and `BELOW_EVERYTHING`.
GEOMETRY = {"geometry"}
BODY = GEOMETRY | {"body"}
HYPOTHESES = BODY | {"hypotheses"}
DATA = BODY | {"data"}
TRAINING = HYPOTHESES | {"losses", "models", "data", "training", "fitting"}
ALLOWED = {
    "registry": set(),
    "io": set(),
    "untrusted": set(),
    "programs": set(),
    "contained": set(),
    "traced": set(),
    "devices": set(),
    "compile_time": set(),
    "exact": set(),
    "batch": set(),
    "geometry": GEOMETRY,
    "body": BODY,
    "hypotheses": HYPOTHESES,
    "losses": HYPOTHESES,
    "models": HYPOTHESES,
    "fitting": HYPOTHESES,
    "vis": HYPOTHESES,
    "export": HYPOTHESES | {"vis"},
    "embedded": BODY | {"vis"},
    "data": DATA,
    "training": TRAINING,
    "evaluation": TRAINING | {"vis"},
    "detection": GEOMETRY | {"data", "models"},
    "tracking": GEOMETRY,
    "prediction": TRAINING | {"vis", "export", "detection", "tracking"},
    "baselines": TRAINING | {"evaluation"},
    "released": TRAINING | {"evaluation"},
}
# Commands, what serves them, and what stands outside of the core: they may import everything.
OUTSIDE = {"__init__", "__main__", "cli", "cli_flags", "convert", "doctor", "fetch", "fits", "reporting"}
CORE = ("geometry", "body", "hypotheses", "fitting", "losses", "models", "data", "detection", "training", "evaluation")
CORE += ("prediction", "tracking")
BUILDERS = BODY | {"data", "embedded", "detection"}  # What `tfds_builders` imports of the library.
DOORS = {"data/sources.py", "cli.py", "reporting/reference.py"}  # Import `tfds_builders`; the last documents it.
# Whole parts of identifiers and words. "spin" is not among them: SPIN is not the baseline alone, but also the source of the
# core's SMPLify, crops, lists of examples and camera loss, which name it, as do options of the config (`data.crop`).
NAMES = re.compile(r"(?<![a-z])(released|mdn|cvae|graphcmr)(?![a-z])", re.IGNORECASE)


def imports(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """(top package, sub-package) of each import of ours in a file, wherever it stands.

    Raises:
      ValueError: an import is relative: this project has none, and it would hide which sub-package it reaches.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno} has a relative import; write it as `from {LIBRARY}...`.")
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top in (LIBRARY, "tfds_builders"):
                yield top, rest.split(".")[0]


def files(*rooms: str) -> Iterator[tuple[str, pathlib.Path]]:
    """(sub-package or module, file) of the library, of some sub-packages or of all."""
    for path in sorted((ROOT / LIBRARY).rglob("*.py")):
        room = path.relative_to(ROOT / LIBRARY).with_suffix("").parts[0]
        if not rooms or room in rooms:
            yield room, path


def test_every_room_is_known():
    rooms = {room for room, _ in files()}
    assert not ALLOWED.keys() & OUTSIDE
    assert rooms == ALLOWED.keys() | OUTSIDE
    assert rooms >= set(CORE)


@pytest.mark.parametrize("line", ["from . import geometry", "from .geometry import joints", "from .. import released"])
def test_relative_imports_are_refused(tmp_path, line):
    (tmp_path / "module.py").write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=r"module\.py:1 has a relative import"):
        list(imports(tmp_path / "module.py"))


@pytest.mark.slow
def test_sub_packages_import_what_lies_below_them():
    against = set()
    for room, path in files(*ALLOWED):
        for top, other in imports(path):
            if top == LIBRARY and other not in ALLOWED[room] | BELOW_EVERYTHING | {room}:
                against.add(f"{path.relative_to(ROOT / LIBRARY)} imports {other}")
    assert not against


def test_one_door_leads_to_the_datasets():
    found = {str(p.relative_to(ROOT / LIBRARY)) for _, p in files() if any(top != LIBRARY for top, _ in imports(p))}
    assert found == DOORS


def test_builders_import_geometry_body_and_data_and_few_of_them_the_embedded_world_or_the_detector():
    embedded, detecting = set(), set()
    for path in sorted((ROOT / "tfds_builders").rglob("*.py")):
        rooms = {other for top, other in imports(path) if top == LIBRARY}
        assert rooms <= BUILDERS | BELOW_EVERYTHING, path
        if "embedded" in rooms:
            embedded.add(str(path.relative_to(ROOT / "tfds_builders")))
        if "detection" in rooms:
            detecting.add(str(path.relative_to(ROOT / "tfds_builders")))
    assert detecting == {"pose2sim_demo/pose2sim_demo_dataset_builder.py"}
    assert embedded == {"people.py", "synthetic_bodies/synthetic_bodies_dataset_builder.py"}


def test_the_core_does_not_name_its_extensions():
    found = set()
    for _, path in files(*CORE):
        if words := {word.lower() for word in NAMES.findall(path.read_text(encoding="utf-8"))}:
            found.add(f"{path.relative_to(ROOT / LIBRARY)}: {', '.join(sorted(words))}")
    assert not found


@pytest.mark.parametrize("text, found", [("_MDN_HEAD", True), ("smpl_mdn", True), ("unreleased", False)])
def test_names_are_found_as_whole_parts(text, found):
    assert bool(NAMES.search(text)) == found


def test_the_document_names_the_modules_that_all_may_import():
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {f"{name}.py" for name in BELOW_EVERYTHING}
    (sentence,) = re.findall(r"^Every module may import (.*?)\. ", document, flags=re.MULTILINE)
    assert set(re.findall(r"`([^`]+)`", sentence)) == modules
    table = "\n".join(
        line.partition("|")[2].partition("|")[0] for line in document.splitlines() if line.startswith("|")
    )
    assert {name for name in modules if f"{name}`" not in table} == set()
