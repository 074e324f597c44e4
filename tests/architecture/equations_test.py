"""The index of docs/method.md: every formula of the paper has a function, whose docstring starts with its number."""

import importlib
import inspect
import pathlib
import re

import pytest

_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "method.md"
INDEX = re.findall(
    r"^\| (eq \(\d\)|L_nf|appendix [A-F]) \| [^|]+ \| `([\w.]+)` \|$", _PAGE.read_text(encoding="utf-8"), re.MULTILINE
)


def test_the_index_covers_every_formula():
    expected = {*(f"eq ({k})" for k in range(1, 10)), "L_nf", *(f"appendix {letter}" for letter in "ABCDF")}
    assert {number for number, _ in INDEX} == expected


@pytest.mark.parametrize(("number", "path"), INDEX, ids=[f"{number} {path}" for number, path in INDEX])
def test_the_docstring_starts_with_the_number(number, path):
    names = path.split(".")
    depth = 3 if names[0] == "baselines" else 2  # A baseline is a folder.
    found = importlib.import_module(".".join(["multibodies_jax", *names[:depth]]))
    for name in names[depth:]:
        found = getattr(found, name)
    start = (inspect.getdoc(found) or "").lower()
    assert start.startswith(f"{number.lower()}:"), start[:60]
