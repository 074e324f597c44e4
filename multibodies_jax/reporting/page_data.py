"""A report (`document.build`) as the lines of data that pages are made of (`pages`), with the digits that are printed."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from multibodies_jax.evaluation import results_page
from multibodies_jax.reporting import pages, text

COLUMNS: tuple[str, ...] = (
    "table",
    *pages.KEYS,
    "mean",
    "low",
    "high",
    "half",
    "seed_min",
    "seed_max",
    "seeds",
    "p",
    "same_sign",
)

_TABLES = {
    **{"table1": "errors", "refined": "errors", "tests": "against", "table2": "components", "variants": "variants"},
    **{"ablated": "ablations", "labels": "errors", "label_tests": "against", "order": "order", "single": "single"},
    **{"diagnostics": "hypotheses", "numbers": "hypotheses", "leading": "leading", "calibration": "calibration"},
    "cameras": "cameras",
}
_NUMBERS = ("mean", "low", "high", "seed_min", "seed_max")

Row = Mapping[str, Any]
Line = dict[str, str]


def to_csv(doc: Mapping[str, Any]) -> str:
    """Every number of a report, one a line (`COLUMNS`)."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for dataset, part in doc["sets"].items():
        for name, table in _TABLES.items():
            for row in part.get(name, []):
                head = {"table": table, "set": _short(dataset), "method": row.get("method", "")}
                writer.writerows(head | line for line in _LINES.get(name, _line)(row))
    sets = list(map(_short, doc["sets"]))
    for hidden, entry in doc["same_people"].items():
        head = {"table": "occlusion", "set": f"{sets[-1]} - {sets[0]}", "method": hidden}
        writer.writerows(head | line for line in _same_people(entry))
    head = {"table": "training", "metric": "training error, mm"}
    for row in doc["training"]:
        writer.writerows(head | {"method": row["method"], "n": str(row["images"])} | line for line in _line(row))
    return file.getvalue()


def training_csv(doc: Mapping[str, Any]) -> str:
    """How each run was trained, one a line, with the columns that a page shows."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    shown = [key for key in text.FAIRNESS if any(row[key] is not None for row in doc["fairness"])]
    writer.writerow([text.FAIRNESS[key] for key in shown])
    writer.writerows([text.plain(key, row[key]) for key in shown] for row in doc["fairness"])
    return file.getvalue()


def _short(dataset: str) -> str:
    return dataset.partition("/")[2] or dataset


def _line(row: Row, digits: int = 1, sign: str = "") -> Iterator[Line]:
    """A mean with what is known beside it; a difference, which has a verdict or an outcome, with its sign."""
    sign = "+" if {"verdict", "outcome"} & set(row) else sign
    several = row.get("seeds", 1) > 1
    shown = [name for name in _NUMBERS if row.get(name) is not None and (several or not name.startswith("seed"))]
    line = {name: f"{row[name]:{sign}.{digits}f}" for name in shown}
    if "same_sign" in row:
        line |= {"seeds": str(row["seeds"]), "same_sign": str(row["same_sign"])}
        line |= {"p": f"{row['p']:.1g}"} if row["p"] is not None else {}
    yield line | {name: str(row[name]) for name in ("against", "n", "metric") if name in row}


def _of_claim(row: Row) -> Iterator[Line]:
    for line in _line(row):
        yield line | {"method": row["claim"]}


def _of_one(row: Row) -> Iterator[Line]:
    for line in _line(row):
        yield line | {"against": row["taken"], "n": "1"}


def _of_camera(row: Row) -> Iterator[Line]:
    for line in _line(row):
        yield line | {"set": f"{_short(row['set'])}, {row['camera']}"}


def _measured(row: Row) -> Iterator[Line]:
    name, _, n = row["name"].partition(", n = ")
    for line in _line(row, digits=2):
        yield line | {"metric": text.NAMES.get(name, name), "n": n}


def _same_people(entry: Row) -> Iterator[Line]:
    yield {"metric": "images", "mean": str(entry["examples"])}
    for name, label in results_page.SAME_PEOPLE.items():
        if name in entry:
            for line in _line(entry[name], sign="+"):
                yield line | {"metric": label}


def _leading(row: Row) -> Iterator[Line]:
    for name, value in (("comparisons", row["others"]), ("below", row["below"]), ("above", row["above"])):
        yield {"metric": f"{text.metric_label(row['metric'])}: {name}", "mean": str(value)}


def _calibration(row: Row) -> Iterator[Line]:
    for name, label in text.SCORES.items():
        head, its = {"n": str(row["n"]), "metric": label}, row["intervals"].get(name)
        if its is not None:
            yield head | {end: text.score_digits(name, its[end]) for end in ("mean", "low", "high")}
        elif name in row:
            yield head | {"mean": f"{row[name]:.3f}"}


_LINES: dict[str, Callable[[Row], Iterator[Line]]] = {
    "order": _of_claim,
    "single": _of_one,
    "diagnostics": _measured,
    "numbers": _measured,
    "leading": _leading,
    "calibration": _calibration,
    "cameras": _of_camera,
}
