"""A report (`document.build`) as Markdown for people and as CSV in long format."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from multibodies_jax.evaluation import results_page
from multibodies_jax.released import published
from multibodies_jax.reporting import markdown as markdown_tables
from multibodies_jax.reporting import tables

COLUMNS = ("set", "method", "n", "metric", "mean", "low", "high", "seeds", "seed_min", "seed_max")
_METRICS = {
    "mpjpe": "MPJPE",
    "pa_mpjpe": "RE",
    "vertex": "vertex error",
    "pa_vertex": "vertex error after alignment",
    "pck150": "PCK, %",
    "auc": "AUC, %",
    "other_views_px": "2D error in the other views, px of 224",
}
NAMES = {
    "spread_visible_mm": "spread of the M hypotheses, visible joints, mm",
    "spread_hidden_mm": "spread of the M hypotheses, hidden joints, mm",
    "reprojection_px": "2D error of all hypotheses on visible joints, px of 224",
    "reprojection_hidden_px": "2D error of all hypotheses on hidden joints, px of 224",
    "hmr_reprojection_px": "2D error of HMR on visible joints, px of 224",
    "refined_reprojection_px": "2D error of all refined hypotheses on visible joints, px of 224",
    "hmr_refined_reprojection_px": "2D error of HMR refined on visible joints, px of 224",
    "silhouette_iou": "silhouettes of the hypotheses with the person's, intersection over union",
    "hmr_silhouette_iou": "the same of HMR",
    "effective_printed": "effective number of hypotheses, prior at temperature 1",
    "effective_tuned": "effective number of hypotheses, tuned temperature",
    "log_prior_spread": "spread of log p(X) over the hypotheses, nats",
    "beta_norm": "norm of the true shape",
    "hypotheses_ever_best": "hypotheses ever best",
    "hypotheses_never_best": "hypotheses never best (dead)",
    "hypotheses_in_use": "hypotheses in use (perplexity)",
    "worse_when_shuffled": "MPJPE-1 with the evidence of other images, share more",
}
SCORES = {
    "temperature": "temperature",
    "ece": "ECE",
    "ece_uniform": "ECE, uniform",
    "top_ece": "ECE of the top",
    "log_loss": "log loss",
    "log_loss_uniform": "log loss, uniform",
    "temperature_fitted": "fitted temperature",
    "ece_fitted": "ECE, fitted",
    "top_ece_uniform": "ECE of the top, uniform",
    "top_ece_scores": "ECE of the top, learned scores",
    "log_loss_scores": "log loss, learned scores",
    "log_loss_less": "log loss, % from uniform",
    "log_loss_scores_less": "log loss, learned scores, % from uniform",
    "sharpness": "fitted sharpness",
    "top_ece_fitted": "ECE of the top, fitted",
    "log_loss_fitted": "log loss, fitted",
    "log_loss_fitted_less": "log loss, fitted, % from uniform",
    "sharpness_scores": "fitted sharpness, learned scores",
    "top_ece_scores_fitted": "ECE of the top, learned scores, fitted",
    "log_loss_scores_fitted": "log loss, learned scores, fitted",
    "log_loss_scores_fitted_less": "log loss, learned scores, fitted, % from uniform",
}
FAIRNESS = {
    "method": "method",
    "seed": "seed",
    "hypotheses": "M",
    "images_seen": "images seen",
    "steps": "steps",
    "batch": "batch",
    "learning_rate": "learning rate",
    "init": "starting weights",
    "training_seconds": "seconds of training",
    "commit": "commit",
}


def markdown(doc: Mapping[str, Any]) -> str:
    """The whole report."""
    protocol = doc["protocol"]["name"]
    block = doc["protocol"].get("block")
    drawn = f"blocks of {block} frames" if block else "images"
    title = {"table1": "Table 1", "table2": "Table 2", "all": "Tables 1 and 2"}[doc["what"]]
    lines = [
        f"# {title}: {doc['body']}",
        "",
        f"Protocol {protocol}, split {doc['split']}. Errors in millimetres: mean over images and seeds [95 % interval: "
        f"bootstrap over {drawn}, {doc['resamples']} resamples, errors averaged over seeds] (least to greatest mean of a "
        "seed). n bodies a set, of which the best counts; in the column of n = M all hypotheses of a method.",
        "",
        *(f"- {note}" for note in doc["notes"]),
    ]
    for name, part in doc["sets"].items():
        lines += ["", f"## {name} ({part['images']} images)"]
        lines += _table1(part) + _table2(part) + _variants(part) + _labels(part) + _order(part) + _extras(part)
    lines += results_page.same_people(doc["same_people"])
    if doc["information"]:
        lines += ["", "## Information in z (SMPL-CVAE)", "", *_information(doc["information"])]
    lines += ["", "## How each was trained", ""]
    shown = [key for key in FAIRNESS if any(row[key] is not None for row in doc["fairness"])]
    rows = [[plain(key, row[key]) for key in shown] for row in doc["fairness"]]
    lines += markdown_tables.table([FAIRNESS[key] for key in shown], rows)
    if doc.get("figures"):
        lines += ["", "## Figures", "", *(f"![{name}]({name})" for name in doc["figures"])]
    return "\n".join(lines) + "\n"


def long_csv(doc: Mapping[str, Any]) -> str:
    """Every mean of the tables, one a line (`COLUMNS`); what belongs to no n has none."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for part in doc["sets"].values():
        for name in ("table1", "refined", "table2", "variants", "labels"):
            writer.writerows(part.get(name, []))
        for row in part.get("single", []):
            writer.writerow(row | {"method": f"{row['method']}: {row['taken']} hypothesis"})
        for name in ("diagnostics", "numbers"):
            writer.writerows(row | {"metric": row["name"]} for row in part.get(name, []))
    return file.getvalue()


def metric_label(metric: str) -> str:
    """What a metric is called."""
    name = metric.removesuffix("_strict")
    return _METRICS.get(name, name) + (", strict" if name != metric else "")


def _table1(part: Mapping[str, Any]) -> list[str]:
    if "table1" not in part:
        return []
    lines = _pivots(part["table1"], published.TABLE1.get(part["published"], {}))
    if part["refined"]:
        lines += ["", "### After every body was fitted to the visible keypoints", *_pivots(part["refined"], {})]
    if part["leading"]:
        lines += ["", "### Is one row below all others at every n?", "", *_leading(part["leading"])]
    if part["tests"]:
        lines += ["", f"### {part['tests'][0]['method'].capitalize()} against every other method, also refined", ""]
        p = "p of Wilcoxon's signed-rank test (not corrected for their number), "
        lines += [
            f"Paired difference over the same images and seeds [95 % interval], {'' if part['tests'][0]['p'] is None else p}"
            "seeds with the sign of the mean; a verdict where the interval excludes 0.",
            "",
        ]
        lines += _difference_table(part["tests"], lambda row: f"{row['method']} against {row['against']}")
    return lines


def _leading(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a row and metric."""
    lines = [
        "Of all comparisons with another row at one n: in how many the interval lies below 0 and above 0, and the least "
        "favourable difference. A row leads where it is below in all.",
        "",
    ]
    body = [
        [
            row["method"],
            metric_label(row["metric"]),
            f"{row['below']} of {row['others']}",
            str(row["above"]),
            f"{row['against']}, n = {row['n']}: {_signed(row)}",
        ]
        for row in rows
    ]
    header = ["method", "measure", "below", "above", "least favourable"]
    return lines + markdown_tables.table(header, body)


def _table2(part: Mapping[str, Any]) -> list[str]:
    if "table2" not in part:
        return []
    lines = ["", "### Hypothesis re-projection loss and flow weights (the paper's Table 2)"]
    paper = published.TABLE2 if part["published"] == "3dpw" else {}
    return lines + _pivots(part["table2"], paper)


def _variants(part: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    if part.get("variants"):
        lines += ["", "### What the paper leaves open, one change at a time", *_pivots(part["variants"], {})]
    if part.get("ablated"):
        lines += ["", "### Each change against the same without it", ""]
        lines += ["Above 0: the change costs millimetres. Differences are as for table 1.", ""]
        lines += _difference_table(part["ablated"], lambda row: f"{row['method']} against {row['against']}")
    return lines


def _labels(part: Mapping[str, Any]) -> list[str]:
    if not part["labels"]:
        return []
    lines = ["", "### One body, by the labels that training saw", *_pivots(part["labels"], {})]
    lines += ["", "Paired differences, as for table 1:", ""]
    return lines + _difference_table(part["label_tests"], lambda row: f"{row['method']} against {row['against']}")


def _order(part: Mapping[str, Any]) -> list[str]:
    if not part["order"]:
        return []
    lines = ["", "### The paper's claims about the order of methods", ""]
    lines += [
        "The difference that should not be above 0 [95 % interval]. A claim does not hold where the interval lies above "
        "0; of falling and of being below it is not shown where the interval contains 0.",
        "",
    ]
    found = {(row["claim"], row["n"], row["metric"]): row for row in part["order"]}
    rows = []
    for claim, n in dict.fromkeys((claim, n) for claim, n, _ in found):
        texts = []
        for metric in tables.TUNED:
            row = found.get((claim, n, metric))
            texts.append(f"{_signed(row)}: {row['outcome']}" if row else "")
        rows.append([claim, str(n), *texts])
    return lines + markdown_tables.table(["claim", "n", *map(metric_label, tables.TUNED)], rows)


def _extras(part: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    if part.get("single"):
        lines += ["", "### One hypothesis of each", ""]
        lines += [
            "The baselines' hypotheses weigh alike and come in random order: their most probable is the first.",
            "",
        ]
        metrics = list(dict.fromkeys(row["metric"] for row in part["single"]))
        found = {(row["method"], row["taken"], row["metric"]): row for row in part["single"]}
        heads = dict.fromkeys((method, taken) for method, taken, _ in found)
        rows = [[*head, *(_cell(found.get((*head, metric))) for metric in metrics)] for head in heads]
        lines += markdown_tables.table(["method", "hypothesis", *map(metric_label, metrics)], rows)
    measured = part.get("diagnostics", []) + part.get("numbers", [])
    if measured:
        lines += ["", "### The hypotheses", ""]
        found = {(row["name"], row["method"]): row for row in measured}
        methods = list(dict.fromkeys(row["method"] for row in measured))
        names = dict.fromkeys(row["name"] for row in measured)
        rows = [[NAMES.get(name, name), *(_cell(found.get((name, m)), 2) for m in methods)] for name in names]
        lines += markdown_tables.table(["", *methods], rows)
    if part.get("calibration"):
        lines += ["", "### Calibration: is the truth in cluster k as often as its probability says?", ""]
        shown = [key for key in SCORES if any(key in row or key in row["intervals"] for row in part["calibration"])]
        rows = [[row["method"], str(row["n"]), *(_score(row, key) for key in shown)] for row in part["calibration"]]
        lines += markdown_tables.table(["method", "n", *(SCORES[key] for key in shown)], rows)
    if part.get("cameras"):
        lines += ["", "### Each camera"]
        named = [row | {"method": f"{row['camera']}: {row['method']}", "seeds": 1} for row in part["cameras"]]
        lines += _pivots(named, {})
    return lines


def _score(row: Mapping[str, Any], name: str) -> str:
    """One of `SCORES`, with its interval where it has one."""
    its = row["intervals"].get(name)
    if its is None:
        return f"{row[name]:.3f}" if name in row else ""
    return "{} [{}, {}]".format(*(score_digits(name, its[end]) for end in ("mean", "low", "high")))


def score_digits(name: str, value: float) -> str:
    """One of `SCORES` with its digits; a difference, which is in percent, with its sign."""
    return f"{value:+.1f}" if name.endswith("_less") else f"{value:.3f}"


def _information(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    texts = [[row["method"], row["name"], _cell(row, 3) or ", ".join(row.get("values", []))] for row in rows]
    return markdown_tables.table(["method", "", "mean (seeds)"], texts)


def _pivots(rows: Sequence[Mapping[str, Any]], paper: Mapping[str, Mapping[int, tuple]]) -> list[str]:
    """One table a metric: a line a method, a column an n; the paper's numbers below ours."""
    lines: list[str] = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        found = {(row["method"], row["n"]): row for row in rows if row["metric"] == metric}
        ns = sorted({n for _, n in found})
        methods = dict.fromkeys(method for method, _ in found)
        body = [[method, *(_cell(found.get((method, n))) for n in ns)] for method in methods]
        if metric in published.METRICS:
            place = published.METRICS.index(metric)
            body += [[f"{method}, paper", *(_published(row, n, place) for n in ns)] for method, row in paper.items()]
        lines += [
            "",
            f"{metric_label(metric)}:",
            "",
            *markdown_tables.table(["method", *(f"n = {n}" for n in ns)], body),
        ]
    seeds = sorted({row["seeds"] for row in rows})
    return [*lines, "", f"Seeds: {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}."] if seeds else lines


def _difference_table(rows: Sequence[Mapping[str, Any]], name: Any) -> list[str]:
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    found = {(name(row), row["n"], row["metric"]): row for row in rows}
    heads = dict.fromkeys((label, n) for label, n, _ in found)
    body = [[label, str(n), *(_difference(found.get((label, n, m))) for m in metrics)] for label, n in heads]
    return markdown_tables.table(["", "n", *map(metric_label, metrics)], body)


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    p = "" if row["p"] is None else f", p = {row['p']:.1g}"  # None of frames of videos.
    text = f"{_signed(row)}{p}, {row['same_sign']}/{row['seeds']}"
    return f"{text}, {row['verdict']}" if row["verdict"] else text


def _signed(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"


def _cell(row: Mapping[str, Any] | None, digits: int = 1) -> str:
    if row is None or "mean" not in row:
        return ""
    text = f"{row['mean']:.{digits}f}"
    if "low" in row:
        text += f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
    return text + (f" ({row['seed_min']:.{digits}f} to {row['seed_max']:.{digits}f})" if row["seeds"] > 1 else "")


def _published(row: Mapping[int, tuple], n: int, place: int) -> str:
    value = row.get(n, (None, None))[place]
    return "" if value is None else f"{value:.1f}"


def plain(key: str, value: Any) -> str:
    """What is shown of one of `FAIRNESS`."""
    if isinstance(value, float):
        return f"{value:g}"
    text = "" if value is None else str(value)
    return text[:12] + text[40:] if key == "commit" else text  # With the "+dirty" after its 40 digits.
