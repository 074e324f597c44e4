"""The paper's tables 1 and 2 of one set, with intervals, paired tests and the order that is expected: rows of numbers."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from multibodies_jax.baselines import controls
from multibodies_jax.evaluation import methods, metrics
from multibodies_jax.reporting import runs, statistics

Row = dict[str, Any]
TUNED = metrics.REPORTED
_NO_REPROJECTION = {"loss.reprojection_all": 0}
_FALLS = "error falls from n = {} to {}: {}"


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of a table.

    Attributes:
      label: what is printed.
      group: whose it is.
      method: its name in per_example.npz.
    """

    label: str
    group: runs.Group
    method: str

    def keys(self, dataset: str) -> dict[tuple[int, str], str]:
        """(n, metric) -> its array of per_example.npz, in the order of the file."""
        return keys_of(self.group, dataset, self.method)


def keys_of(group: runs.Group, dataset: str, method: str) -> dict[tuple[int, str], str]:
    """(n, metric) -> key of per_example.npz of one method on one set; empty if it was not evaluated."""
    found = {}
    for key in group.names:
        where, *rest = key.split("|")
        if where == dataset and len(rest) == 3 and rest[0] == method and rest[1].isdecimal():
            found[int(rest[1]), rest[2]] = key
    return found


def methods_of(group: runs.Group, dataset: str) -> list[str]:
    """All methods evaluated with a group, in the order of its file."""
    parts = (key.split("|") for key in group.names)
    names = (p[1] for p in parts if p[0] == dataset and len(p) == 4 and p[1] not in runs.KINDS)
    return list(dict.fromkeys(names))


def outputs_of(group: runs.Group, dataset: str) -> list[str]:
    """What a network itself predicts, of the methods evaluated with it: its main row, and that of its mesh."""
    return [name for name in methods_of(group, dataset) if name in (group.main, f"{group.main}, mesh")]


def table1(cast: runs.Cast, dataset: str) -> list[Method]:
    """Its rows: single body, baselines, ours; the baselines quantized; best of all M; the controls. What is absent is left out."""
    hmr, mdn, cvae, ours = map(cast.reference, runs.ROLES)
    rows = [Method(group.label, group, group.main) for group in (hmr, mdn, cvae, ours) if group]
    fair = ours is not None and on_equal_terms(ours, methods.HMR)
    if hmr is None and ours is not None and fair:
        rows.insert(0, Method(methods.HMR, ours, methods.HMR))  # Trained on beside ours.
    for group in filter(None, map(cast.reference, runs.SINGLE)):
        rows += [Method(method, group, method) for method in outputs_of(group, dataset)]
    sets = [group for group in (mdn, cvae, ours) if group]
    rows += [Method(f"{group.label}, quantized", group, f"{group.main}, quantized") for group in sets]
    rows += [Method(f"{group.label}, {_every(group)}", group, _every(group)) for group in sets]
    if ours is not None:
        rows += [Method(control, ours, control) for control in controls.COMPARED if fair or control != controls.NOISE]
    return [row for row in rows if row.keys(dataset)]


def refined(cast: runs.Cast, dataset: str) -> list[Method]:
    """Rows of bodies that were fitted to the visible keypoints: the single body, baselines, ours under every kind of weights,
    and HMR with noise. What is absent is left out."""
    mdn, cvae, ours = map(cast.reference, runs.ROLES[1:])
    rows = []
    for group in filter(None, (mdn, cvae, ours)):
        name = methods.refined_of(group.main)
        rows += [
            Method(group.label + method.removeprefix(group.main), group, method)
            for method in methods_of(group, dataset)
            if method == name or method.startswith(f"{name}, ")
        ]
    if ours is not None and on_equal_terms(ours, methods.HMR):
        rows.insert(0, Method(methods.refined_of(methods.HMR), ours, methods.refined_of(methods.HMR)))
        rows.append(Method(methods.refined_of(controls.NOISE), ours, methods.refined_of(controls.NOISE)))
    return [row for row in rows if row.keys(dataset)]


def table2(cast: runs.Cast) -> list[tuple[bool, bool, Method]]:
    """Its rows: (hypothesis re-projection loss, flow weights, whose numbers); without those that were not trained.

    Raises:
      RefusedError: there is no group of ours, or it was not quantized with the prior's weights.
    """
    ours = cast.reference("multibodies")
    if ours is None:
        raise runs.RefusedError(
            "Table 2 is about ours: give a work directory of config.model.name='multibodies' with M > 1."
        )
    if not weighs_by_prior(ours):
        raise runs.RefusedError(
            f"Table 2 sets the prior's weights against uniform ones, but these were evaluated with {_weights(ours)!r} only: "
            "evaluate again with --config.quantizer.weights=prior."
        )
    without = next(filter(_is_without_reprojection, cast.ablations("multibodies")), None)
    rows = []
    for group, reprojection in ((without, False), (ours, True)):
        if group is not None:
            rows += [(reprojection, flow, _component(group, reprojection, flow)) for flow in (False, True)]
    return rows


def weighs_by_prior(group: runs.Group | None) -> bool:
    """Whether there is a group, and it was quantized with the prior's weights."""
    return group is not None and _weights(group) == "prior"


def _weights(group: runs.Group) -> Any:
    return runs.dig(group.runs[0].result, "config", "quantizer", "weights")


def variants(cast: runs.Cast, dataset: str) -> list[Method]:
    """What the paper leaves open: other readings of our hypotheses, then the other ablations, of ours and of the baselines."""
    ours = cast.reference("multibodies")
    left_out = {methods.UNIFORM, methods.shuffled_of(methods.OURS)}  # A row of table 2; no method.
    left_out |= {row.method for row in refined(cast, dataset)}
    names = methods_of(ours, dataset) if ours else []
    same = [Method(m, ours, m) for m in names if ours and m.startswith(f"{ours.main}, ") and m not in left_out]
    other = [group for role in reversed(runs.ROLES) for group in cast.ablations(role)]
    return same + [Method(g.label, g, g.main) for g in other if not _is_without_reprojection(g)]


def cells(rows: Sequence[Method], dataset: str) -> list[Row]:
    """Mean, interval and spread over seeds of every row at every n in every metric (`statistics.summarize`)."""
    columns = {
        (row.label, n, metric): row.group.stack(key) for row in rows for (n, metric), key in row.keys(dataset).items()
    }
    timeline = rows[0].group.runs[0].timeline(dataset) if rows else None
    return [_row(dataset, *key) | summary for key, summary in statistics.summarize(columns, timeline).items()]


def differences(left: Method, others: Iterable[Method], dataset: str, ranked: bool = True) -> list[Row]:
    """`left` minus each other method wherever both were measured, over the seeds that both have (`statistics.compare`).

    Each row has `method`, `against`, `n`, `metric` and `verdict`: whether `method` is "better" or "worse" (the interval
    excludes 0), or "".
    """
    pairs, own, timeline = {}, left.keys(dataset), left.group.runs[0].timeline(dataset)
    for other in others:
        seeds = [seed for seed in left.group.seeds if seed in other.group.seeds]
        for at, key in other.keys(dataset).items() if seeds else ():
            if at in own and (left.group, left.method) != (other.group, other.method):
                pairs[(other.label, *at)] = left.group.stack(own[at], seeds), other.group.stack(key, seeds)
    return [
        {
            **_row(dataset, left.label, n, metric),
            "against": against,
            **found,
            "verdict": statistics.verdict(found["low"], found["high"], more_is_better(metric)),
        }
        for (against, n, metric), found in statistics.compare(pairs, timeline, ranked).items()
    ]


def tests(cast: runs.Cast, dataset: str) -> list[Row]:
    """Ours against every other row of table 1, all M against all M, and against the baselines' other settings; ours refined
    against every other refined row, and against ours as predicted."""
    rows, ours = table1(cast, dataset), cast.reference("multibodies")
    if ours is None:
        return []
    every = [row for row in rows if row.method == _every(row.group)]
    sets = [row for row in rows if row not in every]
    sets += [Method(g.label, g, g.main) for role in ("smpl_mdn", "smpl_cvae") for g in cast.ablations(role)]
    result = differences(Method(ours.label, ours, ours.main), sets, dataset)
    for row in every:
        result += differences(row, every, dataset) if row.group is ours else []
    fitted = refined(cast, dataset)
    for row in fitted:
        if row.label == methods.refined_of(ours.label):
            result += differences(row, [*fitted, Method(ours.label, ours, ours.main)], dataset)
    return result


def leading(cast: runs.Cast, dataset: str) -> list[Row]:
    """Whether a row is below all rows of other methods at every n, in MPJPE and RE.

    Rows of one network's hypotheses (other weights, other representatives, refined) are one method here, HMR and each
    control are others.

    Returns:
      Of each row with sets and each metric: `others`, the number of comparisons (a row of another method at one n);
      `below` and `above`, in how many of them the whole interval lies below and above 0; and the least favourable one, its
      `against`, `n`, `mean`, `low` and `high`. The best rows come first.
    """
    ours = cast.reference("multibodies")
    listed = [*table1(cast, dataset), *refined(cast, dataset)]
    listed += [row for row in variants(cast, dataset) if row.group is ours]
    rows = [row for row in listed if row.method != _every(row.group)]
    found: dict[tuple[str, str], list[Row]] = {}
    for i, row in enumerate(rows):
        others = [other for other in rows[i + 1 :] if _source(other) != _source(row)]
        for pair in differences(row, others, dataset, ranked=False):
            if pair["metric"] in TUNED:
                found.setdefault((row.label, pair["metric"]), []).append(pair)
                found.setdefault((pair["against"], pair["metric"]), []).append(_turned(pair))
    sets = [row.label for row in rows if len({n for n, _ in row.keys(dataset)}) > 1]
    result = []
    for metric in TUNED:
        ranked = []
        for label in sets:
            pairs = found.get((label, metric), [])
            if pairs:
                worst = max(pairs, key=lambda pair: pair["mean"])
                kept = {
                    name: worst[name] for name in ("set", "method", "metric", "against", "n", "mean", "low", "high")
                }
                below, above = sum(pair["high"] < 0 for pair in pairs), sum(pair["low"] > 0 for pair in pairs)
                ranked.append(kept | {"others": len(pairs), "below": below, "above": above})
        result += sorted(ranked, key=lambda row: (row["above"] - row["below"]) / row["others"])
    return result


def against_reference(cast: runs.Cast, dataset: str) -> list[Row]:
    """Every ablation minus the reference of its method: above 0, millimetres are lost by what differs."""
    of_table2 = table2(cast) if weighs_by_prior(cast.reference("multibodies")) else []
    ablated = [row for _, _, row in of_table2] + variants(cast, dataset)
    rows: list[Row] = []
    for method in ablated:
        if (whole := cast.reference(method.group.role)) is not None:
            rows += differences(method, [Method(whole.label, whole, whole.main)], dataset)
    return rows


def order(cast: runs.Cast, dataset: str, tested: Sequence[Row], ablated: Sequence[Row]) -> list[Row]:
    """The paper's claims about the order of methods, each against the intervals, in MPJPE and RE.

    Args:
      cast: of the tables.
      dataset: the set.
      tested: of `tests`.
      ablated: of `against_reference`; empty to leave table 2's claims out.

    Returns:
      Of each claim: `claim`, `n`, `metric`, the difference that should be below 0 (`mean`, `low`, `high`), and
      `outcome`: "holds" (of a claim "below": the interval lies below 0; of "not worse": the same), "does not hold"
      (it lies above 0), or, where it contains 0, "not shown" of a claim "below" and "not refuted" of "not worse".
    """
    names = {role: group.label for role in runs.ROLES if (group := cast.reference(role))}
    names.setdefault("hmr", methods.HMR)
    rows: list[Row] = []
    fitted = {role: methods.refined_of(name) for role, name in names.items()}
    for row in tested:
        its = next((one for one in (names, fitted) if row["method"] == one.get("multibodies")), None)
        if row["metric"] not in TUNED or its is None:
            continue
        own = "ours" if its is names else methods.refined_of("ours")
        if row["against"] == its["hmr"] and row["n"] == 1:
            rows.append(decided(row, f"{own} not worse than {row['against']}", strict=False))
        if its is fitted and row["against"] == names["multibodies"]:
            rows.append(decided(row, f"{own} below ours as predicted", strict=True))
        baselines = [its.get(role) for role in ("smpl_mdn", "smpl_cvae")]
        if row["against"] in baselines and row["n"] > 1 and is_ambiguous(dataset):
            rows.append(decided(row, f"{own} below {row['against']}", strict=True))
    rows += _falls(cast, dataset)
    off = {_component_label(False, True): "re-projection loss", _component_label(True, False): "flow weights"}
    for row in ablated:
        if row["method"] in off and row["metric"] in TUNED:
            turned = _turned(row)
            rows.append(decided(turned, f"ours not worse than without the {off[row['method']]}", strict=False))
    return rows


def _turned(row: Row) -> Row:
    """The difference the other way round."""
    names = {"method": row["against"], "against": row["method"]}
    return row | names | {"mean": -row["mean"], "low": -row["high"], "high": -row["low"]}


def more_is_better(metric: str) -> bool:
    """Whether a metric is a percentage of joints that were found."""
    return metric.removesuffix("_strict") in metrics.PERCENT


def is_ambiguous(dataset: str) -> bool:
    """Whether a set hides parts of people, so that several bodies are right."""
    return "ambiguous" in dataset or dataset.partition("/")[0] in ("ah36m", "a3dpw")


def _falls(cast: runs.Cast, dataset: str) -> list[Row]:
    pairs = {}
    for role in runs.ROLES[1:]:
        if (group := cast.reference(role)) is None:
            continue
        keys = keys_of(group, dataset, group.main)
        for metric in TUNED:
            for fewer, more in itertools.pairwise(sorted(n for n, name in keys if name == metric)):
                claim = _FALLS.format(fewer, more, group.label)
                pairs[claim, more, metric] = group.stack(keys[more, metric]), group.stack(keys[fewer, metric])
    found = statistics.compare(pairs, cast.runs[0].timeline(dataset))
    return [
        decided(_row(dataset, "", n, metric) | row, claim, strict=True) for (claim, n, metric), row in found.items()
    ]


def decided(row: Row, claim: str, strict: bool) -> Row:
    """A claim and what the interval of a difference (ours minus the other) says about it.

    Args:
      row: with `low` and `high`, the interval's ends.
      claim: in words.
      strict: the claim is "lower": an interval around 0 does not show it. Otherwise it is "not higher": such an interval
        does not refute it.

    Returns:
      The row with `claim` and `outcome`: "holds", "does not hold", "not shown" or "not refuted".
    """
    low, high = row["low"], row["high"]
    between = "not shown" if strict else "not refuted"
    outcome = "does not hold" if low > 0 else "holds" if high < 0 else between
    kept = {name: row[name] for name in ("set", "n", "metric", "mean", "low", "high")}
    return {"claim": claim, **kept, "outcome": outcome}


def _component(group: runs.Group, reprojection: bool, flow: bool) -> Method:
    return Method(_component_label(reprojection, flow), group, group.main if flow else methods.UNIFORM)


def _component_label(reprojection: bool, flow: bool) -> str:
    return {
        (False, False): "neither",
        (False, True): "flow weights only",
        (True, False): "hypothesis re-projection only",
        (True, True): "both (ours)",
    }[reprojection, flow]


def _is_without_reprojection(group: runs.Group) -> bool:
    return group.role == "multibodies" and group.differs == _NO_REPROJECTION


def _source(row: Method) -> tuple[str, str]:
    """Whose bodies a row has: those of its group's own network, or those of a control."""
    fitted = row.method.removesuffix(methods.refined_of(""))
    own = fitted == row.group.main or row.method.startswith(f"{row.group.main}, ")
    return row.group.label, "" if own else fitted


def _every(group: runs.Group) -> str:
    return f"all M = {group.num_hypotheses}"


def on_equal_terms(group: runs.Group, method: str) -> bool:
    """Whether another method of a group's evaluation, if it has it, has seen as many images and started from the same weights."""
    for run in group.runs:
        for key in ("images_seen", "inits"):
            told = run.result.get(key, {})
            if told.get(method) not in (None, told.get(run.label)):
                return False
    return True


def _row(dataset: str, method: str, n: int, metric: str) -> Row:
    return {"set": dataset, "method": method, "n": n, "metric": metric}
