"""Documents: plain English, a short README that works, and links that lead somewhere."""

import ast
import io
import pathlib
import re
import tokenize

import pytest

from configs import default
from multibodies_jax.training import config_versions, provenance

ROOT = pathlib.Path(__file__).parents[1]
FORBIDDEN = {
    r"\bnobody\b": "a subject, or state what does not hold",
    r"\b(is|was|are|were) told\b(?! apart)": "is reported",
    r"\bbut for\b": "except",
    r"\b(has|have) not\b(?! (been|yet|changed))": "lacks",
    r"\bso many\b": "a number, or 'this many'",
    r"\bfree of effect\b": "is a no-op",
    r"\bknows nothing of\b": "does not depend on, does not scale with",
    r"\bours is below\b": "our error is lower than",
    r"\bof before\b": "earlier, or name the version",
    r"\bthought of\b": "expected",
}
SOURCES = ("multibodies_jax", "configs", "tfds_builders", "benchmarks", "tests")
_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"|\!\[[^\]]*\]\(([^)\s]+)\)")


_CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("[!_]*.py"))


def _documents():
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    found += (ROOT / "tfds_builders").rglob("*.md")
    return found


def _prose(markdown):
    return re.sub(r"```.*?```|<!--.*?-->", "", markdown, flags=re.DOTALL)


def _texts(path):
    """The docstrings of a module, also those of constants, and its comments; the lines of one comment are one text."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
    lines, last = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] > last + 1:
                yield " ".join(lines)
                lines = []
            lines.append(token.string.lstrip("# "))
            last = token.start[0]
    yield " ".join(lines)


def _forbidden(text):
    text = re.sub(r"\s+", " ", text)
    return [(match[0], advice) for pattern, advice in FORBIDDEN.items() for match in re.finditer(pattern, text, re.I)]


@pytest.mark.slow
def test_documents_docstrings_and_comments_are_in_plain_english():
    found = [(path, *hit) for path in _documents() for hit in _forbidden(_prose(path.read_text(encoding="utf-8")))]
    for path in (ROOT / "run.py", *(path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py")))):
        found += [(path, *hit) for text in _texts(path) for hit in _forbidden(text)]
    assert not found, "\n".join(
        f"{path.relative_to(ROOT)}: {phrase!r}; write {advice}" for path, phrase, advice in found
    )


def test_the_readme_has_at_most_800_words_outside_code():
    words = len(_prose((ROOT / "README.md").read_text(encoding="utf-8")).split())
    assert words <= 800, words


def test_links_and_images_of_documents_lead_to_files():
    broken = []
    for path in _documents():
        if "templates" in path.parts:
            continue
        for target in (a or b or c for a, b, c in _LINK.findall(_prose(path.read_text(encoding="utf-8")))):
            if not re.match(r"https?:|#|mailto:", target) and not (path.parent / target.partition("#")[0]).exists():
                broken.append((str(path.relative_to(ROOT)), target))
    assert not broken


def test_the_site_is_built_so_that_a_broken_link_fails():
    commands = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert commands and all("--strict" in command for command in commands)
    assert not re.search(r"--quiet|\s-q\b", " ".join(commands)), "mkdocs counts no warnings with --quiet"
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nvalidation:\n")[2]
    links = settings.partition("  links:\n")[2]
    assert {"not_found: warn", "anchors: warn"} <= {line.strip() for line in links.splitlines()}


def test_commits_stand_in_tables_of_sources_and_not_in_sentences():
    commit = re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{7,40}\b")
    found = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        found += [
            (path.name, hash_) for hash_ in commit.findall(path.read_text("utf-8").partition("\n## Sources\n")[0])
        ]
    assert not found


@pytest.mark.slow
def test_file_formats_name_every_field_that_may_differ_from_the_training():
    document = (ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")
    table = document.partition("| field | when |\n")[2].partition("\n\n")[0]
    named = set()
    for prefix, names in re.findall(r"`([a-z0-9_]+)\.([^`]+)`", table):
        named |= {f"{prefix}.{name}" for name in names.strip("{}").split(",")}
    free = set()
    for tree in (default.of(name).to_dict() for name in _CONFIGS):
        free |= config_versions.modern(tree).keys() - provenance.training_fields(tree).keys()
    assert {"fitting.steps", "mdn.draw", "data.dir"} <= free
    assert not {field for field in free if field not in named and f"{field.partition('.')[0]}.*" not in named}


def test_config_fields_that_documents_name_exist():
    known = {field for name in _CONFIGS for field in config_versions.flatten(default.of(name).to_dict())}
    groups = "|".join({field.partition(".")[0] for field in known if "." in field})
    named = re.compile(rf"(?:--config\.|`)((?:{groups})\.[a-z0-9_]+)\b(?![(.])")
    missing = set()
    for path in _documents():
        if path.parent.name not in ("results", "templates"):  # They name the fields of the commit that was measured.
            missing |= {
                (path.name, field) for field in named.findall(path.read_text(encoding="utf-8")) if field not in known
            }
    assert not {(name, field) for name, field in missing if not field.endswith((".md", ".py", ".json", ".h5"))}


@pytest.mark.slow
def test_the_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(code.splitlines()) <= 14
    exec(compile(code, "README.md", "exec"), {})
    assert re.search(r"\(1, 5, \d+, 3\)", capsys.readouterr().out)
