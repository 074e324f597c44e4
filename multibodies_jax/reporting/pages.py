r"""Pages of the documentation that are made from data: results, reference tables and the tables of the README.

    multibodies report pages            # writes them; --check only compares and lists what differs

`docs/results/data/RUN.csv` holds the measured numbers of one run, one per line, and the `runs.json` beside it says which
command made them; what `python -m benchmarks --write` measures is in `data/benchmarks`. `docs/results/templates/NAME.md`
is the text of the page `docs/results/NAME.md`, `benchmarks.md` that of `docs/benchmarks.md`. Numbers are never typed into
a template; directives in double braces fetch them:

    {{value RUN TABLE key=value ... style=interval}}    one number; the keys must select exactly one line of the data
    {{table RUN TABLE rows=method columns=n key=value ... style=mean}}    a table of all lines selected
    {{tables RUN}}                                      every table of the run under its name; a sentence where there is no such run
    {{check RUN TABLE key=value ... is=negative}}       prints nothing; fails unless every interval lies below 0
    {{check RUN TABLE key=value ... is="below 8"}}      the same of means: below, or not below ("above") a number
    {{aim 0.35}}                                        a number that was aimed at, not measured, as it is
    {{training RUN}}                                    the file RUN_training.csv as it is
    {{sources}}                                         commands and commits of all runs that the page reads; "all": of all results

A key is a column of the data (`set`, `method`, `against`, `n`, `metric`); several values are separated by semicolons
and give the order of rows and columns. Several keys make the rows of a table with `rows=set,method`; `rows=method:program`
has another title. Styles: `mean`; `interval` (mean [low, high], or mean ± half); `seeds` (interval
and range over seeds); `verdict` (interval, and "better" or "worse" where it excludes 0); `outcome` (interval, and
whether the claim that the difference is not above 0 holds); `aim` (interval, and "met" or "missed": whether the mean is at
most the number `aim=8`, or not below that of `aim='at least 8'`). `is` may be `negative`, `positive` or `unclear`
(the interval contains 0).

A file outside that folder has marked parts instead: between `<!-- begin NAME -->` and `<!-- end -->` stands the text of
`docs/results/templates/_NAME.md`, or one of the tables of `multibodies_jax.reporting.reference`.
"""

import csv
import functools
import json
import pathlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence

from multibodies_jax import io
from multibodies_jax.reporting import markdown, reference, text

RESULTS = pathlib.Path("docs/results")
BENCHMARKS = "benchmarks"
"""The page beside the folder of results, and the folder of its data."""
MARKED = (pathlib.Path("README.md"), pathlib.Path("docs/index.md"), pathlib.Path("tfds_builders/README.md"))
STYLES = ("mean", "interval", "seeds", "verdict", "outcome", "aim")
KEYS = ("set", "method", "against", "n", "metric")

_NOTE = "<!-- Made by `multibodies report pages` from {source}: change that file, not this one. -->"
_AIM = re.compile(r"(?:at least )?(-?\d+(?:\.\d+)?)")
_DIRECTIVE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PART = re.compile(r"(<!-- begin ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_RELATIVE = re.compile(r"\]\((?!https?:|#)([^)]+)\)")
_OUTCOMES = {"negative": "holds", "positive": "does not hold", "unclear": "not refuted"}

Row = Mapping[str, str]
Data = Callable[[str], Sequence[Row]]


class PageError(ValueError):
    """A template that cannot be filled; the message names the template, the directive and the cause."""


def build(root: pathlib.Path) -> dict[pathlib.Path, str]:
    """All generated files of a checkout.

    Args:
      root: the repository's folder.

    Returns:
      Path relative to `root` -> text.

    Raises:
      PageError: a template asks for data that are not there, or states what the data refute.
    """
    data = functools.cache(functools.partial(read, root / RESULTS / "data"))
    runs = _runs(root / RESULTS / "data")
    templates = {path.stem: path for path in sorted((root / RESULTS / "templates").glob("*.md"))}
    filled = {name: _filled(path, data, runs) for name, path in templates.items()}
    made = {}
    for name, page in filled.items():
        if name == BENCHMARKS:
            page = page.replace("](data/", f"]({RESULTS.name}/data/")
            made[RESULTS.with_name(f"{name}.md")] = f"{_NOTE.format(source=f'results/templates/{name}.md')}\n\n{page}"
        elif not name.startswith("_"):
            made[RESULTS / f"{name}.md"] = f"{_NOTE.format(source=f'templates/{name}.md')}\n\n{page}"
    for path, page in reference.pages(root).items():
        made[path] = f"{_NOTE.format(source='the code')}\n\n{page}"
    parts = {name[1:]: page for name, page in filled.items() if name.startswith("_")} | reference.parts()
    for path in MARKED:
        if (root / path).exists():
            made[path] = _with_parts(path, (root / path).read_text(encoding="utf-8"), parts)
    return made


def write(root: pathlib.Path, check: bool = False) -> list[pathlib.Path]:
    """Writes every generated file that differs from the one that is there.

    Args:
      root: the repository's folder.
      check: writes nothing.

    Returns:
      The files that differed, relative to `root`.

    Raises:
      PageError: as `build`.
    """
    differing = []
    for path, content in build(root).items():
        file = root / path
        if not file.exists() or file.read_text(encoding="utf-8") != content:
            differing.append(path)
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                io.write_text(file, content)
    return differing


def read(folder: pathlib.Path, run: str) -> list[dict[str, str]]:
    """The lines of one file of measured numbers; numbers stay text, with the digits that were measured.

    Raises:
      PageError: there is no such file.
    """
    try:
        with open(folder / f"{run}.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.csv")))
        raise PageError(f"There are no data of the run {run!r}; choose one of {known}.") from error


def _runs(folder: pathlib.Path) -> dict[str, dict[str, str]]:
    """What is known of every run; those of benchmarks are named after their folder."""
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    measured = folder / BENCHMARKS / "runs.json"
    if measured.exists():
        its = json.loads(measured.read_text(encoding="utf-8"))
        runs |= {f"{BENCHMARKS}/{name}": about for name, about in its.items()}
    return runs


def fill(template: str, data: Data, runs: Mapping[str, Mapping[str, str]]) -> str:
    """Puts the data in the place of every directive of a template.

    Args:
      template: Markdown with directives.
      data: run -> its lines.
      runs: run -> what its line in the table of sources says.

    Raises:
      PageError: a directive cannot be understood, selects no data, or checks what does not hold.
    """
    used: list[str] = []

    def replace(match: re.Match[str]) -> str:
        try:
            return _replaced(match[1], data, runs, used)
        except PageError as error:
            raise PageError(f"{{{{{match[1]}}}}}: {error}") from error

    return re.sub(r"\n{3,}", "\n\n", _DIRECTIVE.sub(replace, template))


def _filled(path: pathlib.Path, data: Data, runs: Mapping[str, Mapping[str, str]]) -> str:
    try:
        return fill(path.read_text(encoding="utf-8"), data, runs)
    except PageError as error:
        raise PageError(f"{path}: {error}") from error


def _replaced(directive: str, data: Data, runs: Mapping[str, Mapping[str, str]], used: list[str]) -> str:
    verb, *words = shlex.split(directive)
    if verb == "sources":
        every = [run for run in runs if not run.startswith(f"{BENCHMARKS}/")]
        return "\n".join(_sources(every if words == ["all"] else list(dict.fromkeys(used)), runs))
    if verb == "aim" and len(words) == 1 and _AIM.fullmatch(words[0]):
        return words[0]
    if verb == "tables" and len(words) == 1:
        return _tables(words[0], data, runs, used)
    names = [word for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if not names or (verb != "training" and len(names) != 2):
        raise PageError("name the run and the table")
    used.append(names[0])
    if verb == "training":
        header, *rows = _raw(data(f"{names[0]}_training"))
        return "\n".join(markdown.table(header, rows))
    style, wanted, rows, columns, aim = (options.pop(name, "") for name in ("style", "is", "rows", "columns", "aim"))
    if (style or "mean") not in STYLES:
        raise PageError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
    if (style == "aim") != bool(aim) or (aim and (verb != "value" or not _AIM.fullmatch(aim))):
        raise PageError("style=aim is of a value and needs a number: aim=8")
    lines = _selected(data(names[0]), names[1], options)
    if verb == "value":
        if len(lines) != 1:
            raise PageError(f"selects {len(lines)} lines of the data, not one")
        return cell(lines[0], style or "mean") + (_aim(lines[0], aim) if style == "aim" else "")
    if verb == "check":
        for line in lines:
            if (found := _verdict(line, wanted)) != wanted:
                raise PageError(f"is {found} for {_label(line)}")
        return ""
    if verb != "table":
        raise PageError(f"there is no directive {verb!r}")
    return "\n".join(_pivot(lines, rows.split(","), columns, options, style or "mean"))


def _tables(run: str, data: Data, runs: Mapping[str, Mapping[str, str]], used: list[str]) -> str:
    """Every table of a run with all that tells its lines apart as rows, and their measures as columns."""
    if run not in runs:
        return "This was not measured yet."
    used.append(run)
    shown = []
    for table in dict.fromkeys(line["table"] for line in data(run)):
        lines = _selected(data(run), table, {})
        rows = [key for key in KEYS if key != "metric" and any(line[key] for line in lines)]
        shown.append("\n".join([f"**{table}**", "", *_pivot(lines, rows, "metric", {}, "mean")]))
    return "\n\n".join(shown)


def cell(line: Row, style: str) -> str:
    """A number as a text in one of `STYLES`."""
    shown = line["mean"]
    if style == "mean":
        return shown
    if line["low"]:
        shown += f" [{line['low']}, {line['high']}]"
    elif line["half"]:
        shown += f" ± {line['half']}"
    if style == "seeds" and line["seed_min"]:
        shown += f" ({line['seed_min']} to {line['seed_max']})"
    if style == "verdict" and line["low"]:
        shown += {"negative": ", better", "positive": ", worse", "unclear": ""}[sign(line)]
    if style == "outcome" and line["low"]:
        shown += f": {_OUTCOMES[sign(line)]}"
    return shown


def sign(line: Row) -> str:
    """On which side of 0 an interval lies: negative, positive or unclear; unknown where none was measured."""
    if not line["low"]:
        return "unknown"
    # Printed digits: "+0.0" and "-0.0" are the sides of 0 that the unrounded end was on.
    low, high = line["low"], line["high"]
    return "negative" if high.startswith("-") else "unclear" if low.startswith("-") else "positive"


def _aim(line: Row, aim: str) -> str:
    mean, number = float(line["mean"]), float(aim.split()[-1])
    return ", met" if (mean >= number if aim.startswith("at least") else mean <= number) else ", missed"


def _verdict(line: Row, wanted: str) -> str:
    """What holds of a line, in the words of what is wanted: its sign, or whether its mean is below or above a number."""
    word, _, number = wanted.partition(" ")
    if word not in ("below", "above"):
        return sign(line)
    try:
        limit = float(number)
    except ValueError as error:
        raise PageError(f"is={wanted!r} needs a number: is='below 8'") from error
    return f"{'below' if float(line['mean']) < limit else 'above'} {number}"


def _selected(lines: Sequence[Row], table: str, options: Mapping[str, str]) -> list[Row]:
    if unknown := set(options) - set(KEYS):
        raise PageError(f"unknown key(s) {', '.join(sorted(unknown))}; known: {', '.join(KEYS)}")
    chosen: list[Row] = [line for line in lines if line["table"] == table]
    for key, value in options.items():
        values = _values(value)
        if missing := [one for one in values if all(line[key] != one for line in chosen)]:
            raise PageError(f"no data with {key}={'; '.join(missing)}")
        chosen = [line for line in chosen if line[key] in values]
    if not chosen:
        raise PageError(f"no data in the table {table!r}")
    return chosen


def _pivot(
    lines: Sequence[Row], rows: Sequence[str], columns: str, options: Mapping[str, str], style: str
) -> list[str]:
    """One line of the table for each combination of the keys `rows`, one column for each value of the key `columns`."""
    titled = [row.partition(":") for row in rows]
    rows, titles = [key for key, _, _ in titled], {key: title for key, _, title in titled if title}
    for key in (*rows, columns):
        if key not in KEYS:
            raise PageError(f"rows and columns are keys ({', '.join(KEYS)}), got {key!r}")
    found: dict[tuple[str, ...], Row] = {}
    for line in lines:
        place = (*(line[key] for key in rows), line[columns])
        if place in found:
            raise PageError(f"two numbers for one cell: {_label(line)}; select one set, metric or n")
        found[place] = line
    heads = _ordered({place[:-1] for place in found}, [place[:-1] for place in found], rows, options)
    names = [only for (only,) in _ordered({place[-1:] for place in found}, [p[-1:] for p in found], [columns], options)]
    named = {"metric": "measure"} | titles
    header = [*(named.get(key, key) for key in rows), *(_name(columns, n) for n in names)]
    body = [
        [
            *(_name(key, value) if key == "metric" else value for key, value in zip(rows, head, strict=True)),
            *(cell(found[(*head, name)], style) if (*head, name) in found else "" for name in names),
        ]
        for head in heads
    ]
    return markdown.table(header, body)


def _ordered(
    places: set[tuple[str, ...]], seen: Sequence[tuple[str, ...]], keys: Sequence[str], options: Mapping[str, str]
) -> list[tuple[str, ...]]:
    """In the order of the values that the directive names, else in that of the data."""
    ranks = [
        _values(options[key]) if key in options else list(dict.fromkeys(place[index] for place in seen))
        for index, key in enumerate(keys)
    ]
    return sorted(places, key=lambda place: [rank.index(value) for rank, value in zip(ranks, place, strict=True)])


def _values(option: str) -> list[str]:
    return [value.strip() for value in option.split(";")]


def _name(key: str, value: str) -> str:
    return f"n = {value}" if key == "n" else text.metric_label(value) if key == "metric" else value


def _label(line: Row) -> str:
    return ", ".join(f"{key}={line[key]}" for key in KEYS if line[key])


def _raw(lines: Sequence[Row]) -> list[list[str]]:
    return [list(lines[0]), *(list(line.values()) for line in lines)]


def _sources(used: Sequence[str], runs: Mapping[str, Mapping[str, str]]) -> list[str]:
    if not used:
        raise PageError("the page reads no data above its table of sources")
    rows = []
    for run in used:
        if run not in runs:
            raise PageError(f"no runs.json in docs/results/data describes the run {run!r}")
        about = runs[run]
        rows.append(
            [f"[{run}](data/{run}.csv)", about["what"], f"`{about['command']}`", about["commits"], about["cost"]]
        )
    return markdown.table(["data", "what it is", "command", "commits", "seeds, machine, time"], rows)


def _with_parts(path: pathlib.Path, content: str, parts: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[2] not in parts:
            raise PageError(f"{path}: there is no part {match[2]!r}; choose one of {', '.join(sorted(parts))}")
        return f"{match[1]}{_moved(parts[match[2]], path).strip()}\n{match[3]}"

    return _PART.sub(replace, content)


def _moved(part: str, path: pathlib.Path) -> str:
    """Links of a part are written for docs/; here for the folder that it is put into."""
    prefix = "docs/" if path.parent == pathlib.Path(".") else ""
    return _RELATIVE.sub(rf"]({prefix}\1)", part) if prefix else part
