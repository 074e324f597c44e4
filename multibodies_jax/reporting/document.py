"""Puts the numbers of one report together: a dictionary that JSON can hold, which every other form is printed from."""

import pathlib
from collections.abc import Sequence
from typing import Any

from multibodies_jax.evaluation import ablations, intervals, methods
from multibodies_jax.released import published
from multibodies_jax.reporting import extras, labels, runs, statistics, tables


def build(cast: runs.Cast, what: str, left_out: Sequence[pathlib.Path] = ()) -> dict[str, Any]:
    """All numbers of a report.

    Args:
      cast: the work directories.
      what: one of `reporting.WHATS`; "all" has both tables and what stands beside them.
      left_out: work directories that were not evaluated, to be named in the notes.

    Returns:
      `what`, `protocol`, `split`, `body`, `resamples`, `groups`, `sets` (set -> its parts: rows of `tables` and
      `extras`), `same_people`, `information`, `training`, `fairness` and `notes`.

    Raises:
      RefusedError: "table2" without a group of ours.
    """
    first, ours = cast.runs[0].result, cast.reference("multibodies")
    with_table2 = what == "table2" or (what == "all" and tables.weighs_by_prior(ours))
    doc: dict[str, Any] = {
        "what": what,
        **{name: first[name] for name in ("protocol", "split", "body", "body_fingerprint")},
        "resamples": intervals.RESAMPLES if cast.runs[0].block else statistics.RESAMPLES,
        "groups": [_describe(group) for group in cast.groups],
        "sets": {},
        "same_people": extras.same_people(cast) if what == "all" else {},
        "information": extras.information(cast) if what == "all" else [],
        "training": extras.training(cast) if what == "all" else [],
        "fairness": extras.fairness(cast),
        "notes": [*_notes(cast, what, with_table2), *(f"Not evaluated and left out: {path}." for path in left_out)],
    }
    for name in cast.sets:
        doc["sets"][name] = _of_set(cast, name, what, with_table2)
    return doc


def _of_set(cast: runs.Cast, name: str, what: str, with_table2: bool) -> dict[str, Any]:
    dataset = cast.runs[0].result["datasets"][name]
    evaluation = runs.dig(cast.runs[0].result, "config", "eval", "published") or published.evaluation_of(name)
    part: dict[str, Any] = {"images": dataset["examples"], "name": dataset.get("name"), "published": evaluation}
    tested = tables.tests(cast, name)
    if what != "table2":
        part |= {"table1": tables.cells(tables.table1(cast, name), name), "tests": tested}
        part |= {"refined": tables.cells(tables.refined(cast, name), name), "leading": tables.leading(cast, name)}
    if with_table2:
        rows = tables.table2(cast)
        part["table2"] = tables.cells([method for _, _, method in rows], name)
        part["components"] = {m.label: {"reprojection": on, "flow": flow} for on, flow, m in rows}
    if what != "table1" and cast.reference("multibodies") is not None:
        part["variants"] = tables.cells(tables.variants(cast, name), name)
        part["ablated"] = tables.against_reference(cast, name)
    part |= {"labels": tables.cells(labels.rows(cast, name), name), "label_tests": labels.tests(cast, name)}
    part["order"] = tables.order(cast, name, tested, part.get("ablated", [])) + labels.claims(cast, name)
    if what == "all":
        for extra in (extras.single, extras.diagnostics, extras.numbers, extras.calibration, extras.cameras):
            part[extra.__name__] = extra(cast, name)
    return part


def _describe(group: runs.Group) -> dict[str, Any]:
    return {
        "label": group.label,
        "role": group.role,
        "hypotheses": group.num_hypotheses,
        "seeds": list(group.seeds),
        "differs": dict(group.differs),
        "workdirs": [str(run.path) for run in group.runs],
    }


def _notes(cast: runs.Cast, what: str, with_table2: bool) -> list[str]:
    """What a reader should know of what is missing."""
    notes = []
    words = {"smpl_mdn": "SMPL-MDN", "smpl_cvae": "SMPL-CVAE", "multibodies": "ours (M > 1)"}
    missing = [words[role] for role in runs.ROLES[1:] if cast.reference(role) is None]
    if missing and what != "table2":
        notes.append(f"No work directory of {', '.join(missing)} was given: the rows and tests with it are left out.")
    if cast.reference("hmr") is None:
        beside = any(row.label == methods.HMR for row in tables.table1(cast, cast.sets[0]))
        instead = "its row is the one trained on beside ours" if beside else "its rows are left out"
        notes.append(f"No work directory with M = 1 was given: {instead}.")
    ours = cast.reference("multibodies")
    if ours is not None and not tables.on_equal_terms(ours, methods.HMR):
        notes.append(
            "The HMR that was evaluated beside ours was trained on another number of images or from other weights: its "
            "rows, that with noise too, are left out."
        )
    for group in filter(None, map(cast.reference, (*runs.ROLES, *runs.SINGLE))):
        if known := ablations.known_words(group.runs[0].fields):
            notes.append(f"There is no {group.label} without its ablations; the one in the tables: {', '.join(known)}.")
    if what == "all" and ours is not None and not with_table2:
        notes.append("Table 2 is left out: it sets the prior's weights against equal ones, and these are others.")
    if with_table2 and len(tables.table2(cast)) < 4:
        notes.append(
            "No work directory of ours with config.loss.reprojection_all=0 (and nothing else changed) was given: "
            "the rows of table 2 without the hypothesis re-projection loss are left out."
        )
    if len({group.seeds for group in cast.groups}) > 1:
        notes.append("Not all methods have the same seeds: each paired difference is over the seeds that both have.")
    notes += runs.unlike(cast)
    if len(commits := sorted({run.result["commit"][:12] for run in cast.runs})) > 1:
        notes.append(f"Evaluated at different commits: {', '.join(commits)}.")
    unknown = sorted({run.seed for run in cast.runs if run.result["init"]["fingerprint"] is None})
    if unknown and len(cast.groups) > 1:
        seeds = ", ".join(map(str, unknown))
        notes.append(f"Seeds {seeds}: every method trained its own trunk (config.init is empty), so it is not shared.")
    return notes
