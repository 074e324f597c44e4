"""What labels are worth to networks of one body: HMR, SPIN and GraphCMR by the 3D labels that they saw, and SPIN's claims."""

from multibodies_jax.evaluation import ablations
from multibodies_jax.reporting import runs, tables


def rows(cast: runs.Cast, dataset: str) -> list[tables.Method]:
    """All groups of one body under names that tell their labels, HMR first; a mesh has a row beside the body of its network.

    Nothing without a group of SPIN or of withheld labels: then all saw the same ones.
    """
    groups = [group for group in cast.groups if group.num_hypotheses == 1]
    if not any(group.role == "spin" or _withheld(group) for group in groups):
        return []
    found: dict[str, tables.Method] = {}
    for group in groups:
        for method in tables.outputs_of(group, dataset):
            label = f"{method}, {_words(group)}"
            label += f" ({group.label})" if label in found else ""
            found[label] = tables.Method(label, group, method)
    return list(found.values())


def tests(cast: runs.Cast, dataset: str) -> list[tables.Row]:
    """Each row against HMR on all 3D labels, and SPIN against what else had its labels: paired differences."""
    found, listed = [], rows(cast, dataset)
    for row in listed:
        others = [other for other in listed if _is_full(other) and other is not row]
        if _is_loop(row.group):
            same = [other for other in listed if _withheld(other.group) == _withheld(row.group)]
            others += [other for other in same if other is not row and other not in others]
        found += tables.differences(row, others, dataset)
    return found


def claims(cast: runs.Cast, dataset: str) -> list[tables.Row]:
    """SPIN's: with fits in the loop errors are below those of the same labels without them, and not above full supervision."""
    tested, listed = tests(cast, dataset), {row.label: row for row in rows(cast, dataset)}
    decided = []
    for row in tested:
        own, other = listed[row["method"]], listed[row["against"]]
        # GraphCMR is another network: nothing is claimed about it.
        if row["metric"] in tables.TUNED and _is_loop(own.group) and other.group.role in ("hmr", "spin"):
            words = "not worse than" if _is_full(other) else "below"
            decided.append(tables.decided(row, f"{own.label}: {words} {other.label}", strict=not _is_full(other)))
    return decided


def _words(group: runs.Group) -> str:
    fields, share = group.runs[0].fields, _withheld(group)
    known = ablations.known_words({name: fields.get(name) for name in ("data.withheld_3d", "spin.fit")})
    if share and share not in ablations.WORDS["data.withheld_3d"]:
        known.insert(0, f"3D labels of {100 * (1 - share):g} %")
    return ", ".join(known if share else ["all 3D labels", *known])


def _withheld(group: runs.Group) -> float:
    """The share of training examples without 3D labels."""
    return group.runs[0].fields.get("data.withheld_3d") or 0.0


def _is_loop(group: runs.Group) -> bool:
    return group.role == "spin" and bool(group.runs[0].fields.get("spin.fit"))


def _is_full(row: tables.Method) -> bool:
    return row.group.role == "hmr" and not _withheld(row.group)
