"""Text is read and written as UTF-8, whatever the locale: no call leaves the encoding to it."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("multibodies_jax", "tfds_builders", "configs", "benchmarks", "tests")
SUBPROCESSES = {"run", "Popen", "check_output"}


def without_encoding(source: str) -> Iterator[int]:
    """The lines of calls that open text, or a pipe of text, in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not {"encoding", None} & {keyword.arg for keyword in node.keywords}:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if (
                (name == "open" and opens_text(node))
                or (name in ("read_text", "write_text") and len(node.args) == (name == "write_text"))
                or (name in SUBPROCESSES and any(keyword.arg == "text" for keyword in node.keywords))
            ):
                yield node.lineno


def opens_text(node: ast.Call) -> bool:
    """Whether `open(...)` is the built-in function or a path's method, without "b" in its mode."""
    own = isinstance(node.func, ast.Attribute)
    if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in (
        "Image",
        "os",
        "tarfile",
        "zipfile",
        "webbrowser",
    ):
        return False
    given = [*node.args[0 if own else 1 :][:1], *(k.value for k in node.keywords if k.arg == "mode")]
    modes = [value.value for value in given if isinstance(value, ast.Constant)]
    if own and given and not (modes and set(str(modes[0])) <= set("rwaxbt+")):
        return False  # Of an archive: a member's name.
    return not (modes and "b" in str(modes[0])) and len(given) == len(modes)


@pytest.mark.slow
def test_no_text_is_in_the_encoding_of_the_locale():
    files = [ROOT / "run.py", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("open(p)", True),
        ("open(p, 'w')", True),
        ("open(p, 'rb')", False),
        ("open(p, encoding='utf-8')", False),
        ("p.open()", True),
        ("p.open('wb')", False),
        ("archive.open('data.pkl')", False),
        ("Image.open(p)", False),
        ("p.read_text()", True),
        ("p.read_text('utf-8')", False),
        ("p.write_text(t)", True),
        ("io.write_text(p, t)", False),
        ("p.write_text(t, encoding='utf-8')", False),
        ("subprocess.run(c, text=True)", True),
        ("subprocess.run(c, text=True, encoding='utf-8')", False),
    ],
)
def test_calls_are_told_apart(source, found):
    assert bool(list(without_encoding(source))) == found
