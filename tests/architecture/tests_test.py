"""The tests themselves: they use what is public, and each module of the source is found by its name among the tests.

A module `<folder>/<module>.py` has `tests/<folder>/<module>_test.py`; a whole folder may have `tests/<folder>_test.py`
(a data set's builder, the mannequin). What has neither is listed below with the test that exercises it, which must reach
it by its imports; an entry fails once the module is gone or has a test of its own.
"""

import ast
import functools
import pathlib
from collections.abc import Iterator

import pytest

from tests import conftest

ROOT = pathlib.Path(__file__).parents[2]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PACKAGES = ("multibodies_jax", "tfds_builders")
EXTENSIONS = ("multibodies_jax.baselines", "multibodies_jax.released")  # `registry` imports these by their folders.
BY_NAME = ("getattr", "setattr", "delattr", "hasattr")

# Test -> (modules or folders, why they are tested together).
ELSEWHERE = {
    "architecture/precision_test.py": (
        ["multibodies_jax/exact.py", "multibodies_jax/models/exact_layers.py"],
        "what they are for is a rule about all modules",
    ),
    "cli_test.py": (["multibodies_jax/cli_flags.py"], "flags are tested by the commands that they are given to"),
    "body/body_files_test.py": (["multibodies_jax/body/smpl_files.py"], "its one reader is `body_files`"),
    "convert/convert_test.py": (
        [
            *("multibodies_jax/convert/backward.py", "multibodies_jax/convert/body_buffers.py"),
            *("multibodies_jax/convert/forward.py", "multibodies_jax/convert/layouts.py"),
            *("multibodies_jax/convert/placing.py", "multibodies_jax/convert/report.py"),
            "multibodies_jax/convert/workdirs.py",
        ],
        "steps of one conversion, tested there and back",
    ),
    "convert/torch_files_test.py": (
        ["multibodies_jax/convert/torch_reader.py", "multibodies_jax/convert/torch_writer.py"],
        "what one writes the other reads",
    ),
    "data/pose_files_test.py": (["multibodies_jax/data/pose_readers.py"], "every layout is read through `pose_files`"),
    "detection/movenet_test.py": (["multibodies_jax/detection/detections.py"], "what a detector finds"),
    "embedded/synthetic/poses_test.py": (
        [
            *("multibodies_jax/embedded/clinical_angles.py", "multibodies_jax/embedded/synthetic/arm_styles.py"),
            *("multibodies_jax/embedded/synthetic/collisions.py", "multibodies_jax/embedded/synthetic/families.py"),
        ],
        "what draws a pose is tested on the poses drawn",
    ),
    "embedded/synthetic/scene_test.py": (
        [
            *("multibodies_jax/embedded/synthetic/appearance.py", "multibodies_jax/embedded/synthetic/backgrounds.py"),
            "multibodies_jax/embedded/synthetic/bodies.py",
        ],
        "what paints a scene is tested on the scenes painted",
    ),
    "evaluation/evaluate_test.py": (["multibodies_jax/evaluation/pictures.py"], "written at the end of an evaluation"),
    "models/build_test.py": (["multibodies_jax/models/keypoint_trunk.py"], "the trunks are tested as they are chosen"),
    "prediction/export_files_test.py": (["multibodies_jax/prediction/export_command.py"], "the command line of one"),
    "prediction/people_test.py": (["multibodies_jax/prediction/people_json.py"], "the checks of what `people` reads"),
    "prediction/predictor_test.py": (["multibodies_jax/prediction/evidence.py"], "the network's view of a person"),
    "prediction/predict_test.py": (
        ["multibodies_jax/prediction/prediction_file.py", "multibodies_jax/prediction/requantize.py"],
        "predictions are written, read and quantized again",
    ),
    "prediction/pretrained_test.py": (
        ["multibodies_jax/training/packed.py"],
        "a file of networks is written, read and refused",
    ),
    "prediction/viewer_test.py": (["multibodies_jax/prediction/view_command.py"], "the command line of one"),
    "released/evaluation_test.py": (
        [
            *("multibodies_jax/released/ablations.py", "multibodies_jax/released/methods.py"),
            "multibodies_jax/released/protocols.py",
        ],
        "entries of registries, seen in one evaluation of the authors' lists",
    ),
    "released/network_test.py": (["multibodies_jax/released/head.py"], "the head of the authors' network"),
    "reporting/report_test.py": (
        [
            f"multibodies_jax/reporting/{name}.py"
            for name in ("document", "extras", "files", "markdown", "plots", "runs", "tables", "text")
        ],
        "parts of one document of made-up runs",
    ),
    "training/loop_test.py": (
        [f"multibodies_jax/training/{name}.py" for name in ("provenance", "training_data")],
        "parts of one run of training",
    ),
    "training/prior_test.py": (["multibodies_jax/training/prior_adoption.py"], "its one caller is `train_prior`"),
    "training/made_up_baseline_test.py": (["multibodies_jax/registry.py"], "an extension registers itself"),
    "tfds_builders/archives_test.py": (
        [f"tfds_builders/{name}.py" for name in ("linked", "listing", "on_beam", "shards", "verification", "workers")],
        "steps of building any set from an archive",
    ),
    "tfds_builders/ambiguous_test.py": (
        ["tfds_builders/a3dpw", "tfds_builders/ah36m", "tfds_builders/sources/released_crops.py"],
        "the two ambiguous sets differ in their source only",
    ),
    "tfds_builders/building_test.py": (
        ["tfds_builders/people.py", "tfds_builders/synthetic_poses"],
        "building is tested on the smallest embedded set",
    ),
    "tfds_builders/training_sets_test.py": (
        [
            *(f"tfds_builders/{name}" for name in ("coco2014", "lsp", "lspet", "mpii")),
            *(f"tfds_builders/sources/{name}.py" for name in ("coco", "joint_sets", "lsp", "mpii", "pictures", "rows")),
            *("tfds_builders/sources/spin.py", "tfds_builders/sources/trees.py"),
        ],
        "the training sets with keypoints only have the same checks",
    ),
    "tfds_builders/training_bad_input_test.py": (["tfds_builders/sources/mat.py"], "its errors are those of the sets"),
    "tfds_builders/amass_test.py": (["tfds_builders/sources/amass.py"], "the reader of one set"),
    "tfds_builders/mpi_inf_3dhp_test.py": (
        ["tfds_builders/sources/mpi_inf_3dhp.py", "tfds_builders/sources/mpi_inf_3dhp_test_set.py"],
        "the readers of one set",
    ),
    "tfds_builders/pose2sim_demo_test.py": (["tfds_builders/sources/pose2sim.py"], "the reader of one set"),
    "tfds_builders/threedpw_test.py": (["tfds_builders/sources/threedpw.py"], "the reader of one set"),
    "tfds_builders/video_test.py": (
        ["tfds_builders/sources/cdf.py", "tfds_builders/sources/video.py"],
        "the two binary formats of Human3.6M",
    ),
}


def is_private(name: str) -> bool:
    """A leading underscore, and no dunder."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def private_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of private names of something else that a test reads, replaces or imports.

    `self._x` and `cls._x` belong to the test's own classes; `os._exit` is public in spite of its name.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if ast.unparse(node.value) not in ("self", "cls") and ast.unparse(node) != "os._exit":
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            texts = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            texts = [text for text in texts if (ast.unparse(node.args[0]), text) != ("os", "_exit")]
            yield from ((node.lineno, text) for text in texts if is_private(text.rpartition(".")[2]))
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("module._name()", ["module._name"]),
        ("patch.setattr(module, '_SIZE', 2)", ["_SIZE"]),
        ("patch.setattr('module._SIZE', 2)", ["module._SIZE"]),
        ("from module import _name", ["_name"]),
        ("self._x = module.__file__, os._exit(1), _own()", []),
        ("patch.setattr(os, '_exit', print)", []),
    ],
)
def test_private_names_are_noticed(source, found):
    assert [name for _, name in private_names(ast.parse(source))] == found


@pytest.mark.slow
def test_no_test_reaches_a_private_name():
    found = []
    for path in TESTS:
        for line, name in private_names(ast.parse(path.read_text(encoding="utf-8"))):
            found.append(f"{path.relative_to(ROOT)}:{line} {name}")
    assert found == []


def modules() -> Iterator[pathlib.Path]:
    """The modules of the source, relative to the checkout; programs (`__main__`) are tested through `cli`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.name.startswith("__"):
                yield path.relative_to(ROOT)


def test_no_module_is_named_like_a_test():
    """Pytest would collect it, and a reader would take it for one."""
    assert [str(module) for module in modules() if module.stem.endswith("_test")] == []


def mirrors(module: pathlib.Path) -> list[pathlib.Path]:
    """The tests that a module may have by its name: its own, and that of its folder below a first one."""
    *folders, name = module.with_suffix("").parts[1 if module.parts[0] == "multibodies_jax" else 0 :]
    own = [pathlib.Path("tests", *folders, f"{name}_test.py")]
    return own + ([pathlib.Path("tests", *folders[:-1], f"{folders[-1]}_test.py")] if len(folders) > 1 else [])


def has_mirror(module: pathlib.Path) -> bool:
    return any((ROOT / path).exists() for path in mirrors(module))


def listed(entry: str) -> list[pathlib.Path]:
    """The modules of an entry of `ELSEWHERE`."""
    path = pathlib.Path(entry)
    return [path] if entry.endswith(".py") else [module for module in modules() if module.is_relative_to(path)]


@functools.cache
def imported(path: pathlib.Path) -> frozenset[pathlib.Path]:
    """The files of the checkout that a file imports, wherever the import stands."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if path == ROOT / "multibodies_jax" / "registry.py":
        names += [f"{name}.{p.stem}" for name in EXTENSIONS for p in ROOT.joinpath(*name.split(".")).glob("*")]
    files = set()
    for name in names:
        parts = ROOT.joinpath(*name.split("."))
        files |= {file for file in (parts.with_suffix(".py"), parts / "__init__.py") if file.exists()}
    return frozenset(files)


def reached(test: pathlib.Path) -> set[pathlib.Path]:
    """All files of the checkout that run when a test is imported, and the test."""
    done, waiting = set(), {test}
    while waiting:
        done |= waiting
        waiting = set().union(*(imported(path) for path in waiting)) - done
    return done


def test_every_module_has_a_test_by_its_name_or_stands_in_the_list():
    elsewhere = {module for entries, _ in ELSEWHERE.values() for entry in entries for module in listed(entry)}
    assert [str(module) for module in modules() if not has_mirror(module) and module not in elsewhere] == []


@pytest.mark.slow
@pytest.mark.parametrize("test", ELSEWHERE)
def test_the_list_is_true(test):
    """Each module is there, has no test by its name, and is imported by the test that stands beside it."""
    entries, reason = ELSEWHERE[test]
    assert reason and (ROOT / "tests" / test).exists()
    files = reached(ROOT / "tests" / test)
    for entry in entries:
        assert listed(entry), f"{entry} is gone"
        for module in listed(entry):
            assert (ROOT / module).exists(), f"{module} is gone"
            assert not has_mirror(module), f"{module} has {mirrors(module)}"
            assert ROOT / module in files, f"{test} does not import {module}"


def test_what_is_marked_for_a_device_is_there():
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in TESTS}
    assert files >= conftest.OF_A_DEVICE and conftest.TRUNKS <= conftest.OF_A_DEVICE
