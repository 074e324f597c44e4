"""The public names of `multibodies_jax`: each is there, at its place, and imported only when it is used."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import multibodies_jax

ROOT = pathlib.Path(__file__).parents[1]


def test_importing_the_package_imports_no_library():
    code = (
        "import sys, multibodies_jax; assert not {'jax', 'numpy', 'flax', 'tensorflow', 'absl'} & set(sys.modules)\n"
        "assert set(multibodies_jax.__all__) <= set(dir(multibodies_jax))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", multibodies_jax.__all__)
def test_a_public_name_is_the_object_at_its_place(name):
    """The place is the one that the imports for type checkers say."""
    tree = ast.parse(pathlib.Path(multibodies_jax.__file__).read_text(encoding="utf-8"))
    places = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("multibodies_jax.")
        for alias in node.names
    }
    assert set(places) == set(multibodies_jax.__all__)
    module, attribute = places[name]
    __import__(module)
    assert getattr(multibodies_jax, name) is getattr(sys.modules[module], attribute)
    assert getattr(multibodies_jax, name).__doc__


def test_the_api_reference_says_what_each_public_name_is_for():
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    table = text.partition("## Public names\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(multibodies_jax.__all__)


def test_names_are_sorted_and_an_unknown_one_lists_them():
    capitals_first = sorted(multibodies_jax.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    assert multibodies_jax.__all__ == capitals_first
    with pytest.raises(AttributeError, match=r"no attribute 'quantise'; its public names: Hypotheses, .*select"):
        _ = multibodies_jax.quantise  # pyright: ignore[reportAttributeAccessIssue]
