r"""What benchmarks measure: a line of JSON for each program, and from these lines the data of docs/benchmarks.md.

    python -m benchmarks joints quantizer --write                      # runs them and keeps their figures
    python -m benchmarks.figures gpu_figures/*.txt --run=gpu           # keeps what benchmarks/gpu.sh has printed
    multibodies report pages                                           # makes the page of them

The lines are `docs/results/data/benchmarks/RUN.csv`, in the columns of `reporting.page_data`: the question that a table
answers, the setting, the program, and one line for each measure.
"""

import argparse
import csv
import io
import json
import math
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping

from multibodies_jax import io as files
from multibodies_jax.reporting import page_data, pages
from multibodies_jax.training import checkpoints

FOLDER = pages.RESULTS / "data" / pages.BENCHMARKS
_FIRST_STEP = re.compile(r"(.+): first step after ([0-9.]+) s")
_COMPILING = re.compile(r"Tracing and compiling took ([0-9.]+) of ([0-9.]+) s \(programs: (\d+)(?:, (\d+) of them)?")
_FOUND = re.compile(r"ok +(device|Python|libraries) +(.+)")

Line = dict[str, str]


def tell(question: str, setting: str, program: str, measured: Mapping[str, float | None], n: int | None = None) -> None:
    """Prints what was measured of a program as one line of JSON.

    Args:
      question: of the table; one for each table of docs/benchmarks.md.
      setting: what it was measured at, sizes and types of numbers.
      program: what was measured.
      measured: numbers by what they are, units included; None where there is none.
      n: clusters, where programs differ in them.
    """
    line = {"question": question, "setting": setting, "program": program, "n": n, "measured": dict(measured)}
    print(json.dumps(line), flush=True)


def read(printed: str, name: str = "") -> Iterator[Line]:
    """The lines of data in what a benchmark printed; a training's first steps and its compiling belong to the run `name`."""
    for text in printed.splitlines():
        if found := _FIRST_STEP.fullmatch(text.strip()):
            yield _line("first step", name, found[1], "s after its data", float(found[2]))
        if found := _COMPILING.match(text):
            told = zip(
                ("tracing and compiling, s", "in all, s", "programs", "of them from disk"),
                found.groups("0"),
                strict=True,
            )
            yield from (_line("compiling", "", name, metric, json.loads(value)) for metric, value in told)
        if not text.startswith('{"question": '):
            continue
        told = json.loads(text)
        for metric, value in told["measured"].items():
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{metric} of {told['program']} is {value}")
            if value is not None:
                yield _line(told["question"], told["setting"], told["program"], metric, value, told["n"])


def machine(printed: str) -> str:
    """What it ran on, in what `multibodies doctor` printed: device, driver, Python and versions; empty where it did not."""
    found = {found[1]: found[2] for found in map(_FOUND.match, printed.splitlines()) if found}
    told = {"device": "", "Python": "Python ", "libraries": ""}
    return "; ".join(word + found[what] for what, word in told.items() if what in found)


def _line(question: str, setting: str, program: str, metric: str, value: float, n: int | None = None) -> Line:
    line = {"table": question, "set": setting, "method": program, "metric": metric, "mean": digits(value)}
    return line | ({} if n is None else {"n": str(n)})


def digits(value: float) -> str:
    """A number with three digits that count, or with all before its point."""
    if isinstance(value, int) or not math.isfinite(value) or value == 0:
        return str(value)
    places = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(places, 0)}f}" if places < 7 else f"{value:.2g}"


def write(root: pathlib.Path, run: str, lines: list[Line], about: Mapping[str, str]) -> None:
    """Writes the data of a run, and what is known of it, into a checkout.

    Args:
      root: the repository's folder.
      run: name of the data.
      lines: of `read`.
      about: `what`, `command`, `commits` and `cost` of `reporting.pages`.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, page_data.COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / f"{run}.csv", table.getvalue())
    index = folder / "runs.json"
    runs = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
    files.write_text(index, json.dumps(dict(sorted((runs | {run: dict(about)}).items())), indent=1) + "\n")


def _told_by(name: str, line: Line) -> Line:
    """The file beside the setting: the same program is measured in several, with and without programs on disk."""
    return {"set": name if line["set"] in ("", name) else f"{name}: {line['set']}"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("printed", type=pathlib.Path, nargs="+", help="what benchmarks printed, NAME.txt")
    parser.add_argument("--run", required=True, help="name of the data")
    parser.add_argument("--what", default="What benchmarks/gpu.sh printed.", help="what was measured")
    parser.add_argument("--command", default="bash benchmarks/gpu.sh", help="what printed it")
    parser.add_argument("--machine", default="", help="what it ran on, with versions; default: what doctor printed")
    parser.add_argument("--commit", default="", help="default: that of this checkout")
    args = parser.parse_args(argv)
    if not re.fullmatch(r"\w+", args.run):
        parser.error(f"--run is the name of a file, of letters, digits and underscores, got {args.run!r}.")
    lines, printed = [], {}
    for path in args.printed:
        try:
            printed[path.stem] = path.read_text(encoding="utf-8")
            lines += [line | _told_by(path.stem, line) for line in read(printed[path.stem], path.stem)]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            print(
                f"error: {path} is damaged, or not what a benchmark printed ({error}): leave it out, or measure again.",
                file=sys.stderr,
            )
            return 2
    if not lines:
        print("error: there are no figures in these files: lines of JSON that begin with a question.", file=sys.stderr)
        return 2
    cost = args.machine or machine("\n".join(printed.values()))
    if not cost:
        print(
            "error: these files do not say what they were measured on: add what `multibodies doctor` printed there, "
            "installed.txt of benchmarks/gpu.sh, or --machine=TEXT.",
            file=sys.stderr,
        )
        return 2
    about = {"what": args.what, "command": args.command, "cost": cost}
    write(pathlib.Path(), args.run, lines, about | {"commits": args.commit or checkpoints.git_commit()[:7]})
    print(f"{len(lines)} figures in {FOLDER / args.run}.csv. Make the page: multibodies report pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
