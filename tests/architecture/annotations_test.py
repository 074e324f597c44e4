"""Python 3.14 reads annotations in a class late, when its members hide modules of the same name."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FILES = [
    path
    for folder in ("multibodies_jax", "tfds_builders", "configs", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
]


def hidden(source: str) -> set[str]:
    """Names in the annotations of a class that it has a value or a function of, as "class: name"."""
    found = set()
    for defined in ast.walk(ast.parse(source)):
        if isinstance(defined, ast.ClassDef):
            found |= {f"{defined.name}: {name}" for name in _members(defined) & _annotated(defined)}
    return found


def _members(defined: ast.ClassDef) -> set[str]:
    values = [line.target for line in defined.body if isinstance(line, ast.AnnAssign) and line.value is not None]
    values += [target for line in defined.body if isinstance(line, ast.Assign) for target in line.targets]
    functions = {line.name for line in defined.body if isinstance(line, ast.FunctionDef)}
    return functions | {value.id for value in values if isinstance(value, ast.Name)}


def _annotated(defined: ast.ClassDef) -> set[str]:
    annotations = [line.annotation for line in defined.body if isinstance(line, ast.AnnAssign)]
    for line in defined.body:
        if isinstance(line, ast.FunctionDef):
            given = line.args
            annotations += [arg.annotation for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            annotations += [line.returns]
    return {part.id for one in annotations if one for part in ast.walk(one) if isinstance(part, ast.Name)}


def test_no_member_of_a_class_hides_what_its_annotations_name():
    found = {f"{path.relative_to(ROOT)}: {name}" for path in FILES for name in hidden(path.read_text(encoding="utf-8"))}
    assert not found, f"Import the name itself, or call the member otherwise: {sorted(found)}"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("strength: augment.Strength = 1\n    augment: bool = True", {"A: augment"}),
        ("strength: augment.Strength = 1\n    augment: bool", set()),
        ("def quantize(self, n: int) -> quantize.Quantized: ...", {"A: quantize"}),
        ("def quantized(self, n: int = 1) -> quantize.Quantized: ...", set()),
    ],
)
def test_hidden_names_are_found(body, names):
    assert hidden(f"class A:\n    {body}\n") == names
