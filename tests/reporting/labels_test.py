"""The table of labels: which rows it has, under which names, and what it says of SPIN's claims."""

import pathlib

import pytest

from multibodies_jax.reporting import document, labels, runs, tables, text
from tests.helpers import report_fixture

SET = report_fixture.SETS[0]
LEVELS = {
    ("hmr", 0.0, True): 0.0,
    ("hmr", 0.5, True): 10.0,
    ("spin", 0.5, True): 4.0,
    ("spin", 0.5, False): 12.0,
    ("spin", 1.0, True): -5.0,
    ("graphcmr", 0.0, True): 20.0,
}
NAMES = [
    "HMR (M = 1), all 3D labels",
    "HMR (M = 1), 3D labels of half",
    "SPIN, 3D labels of half",
    "SPIN, 3D labels of half, first fits kept",
    "SPIN, 2D labels only",
    "GraphCMR, all 3D labels",
    "GraphCMR, mesh, all 3D labels",
]


@pytest.fixture(scope="module")
def cast(tmp_path_factory) -> runs.Cast:
    folder: pathlib.Path = tmp_path_factory.mktemp("labels")
    made = []
    for (model, share, fit), level in LEVELS.items():
        for seed in (0, 1):
            path = folder / f"{model}_{share}_{fit}_{seed}"
            made.append(report_fixture.make(path, model, seed, level, data__withheld_3d=share, spin__fit=fit))
    return runs.cast(made)


def test_every_network_of_one_body_has_a_row_named_by_its_labels(cast):
    found = labels.rows(cast, SET)
    assert sorted(row.label for row in found) == sorted(NAMES) and found[0].label == NAMES[0]
    by_label = {row["method"]: row["mean"] for row in tables.cells(found, SET) if row["metric"] == "mpjpe"}
    assert by_label[NAMES[6]] == pytest.approx(by_label[NAMES[5]] - 2, abs=1)
    assert by_label[NAMES[1]] == pytest.approx(by_label[NAMES[0]] + 10, abs=1)


def test_without_withheld_labels_there_is_no_such_table(tmp_path):
    same = runs.cast([report_fixture.make(tmp_path / "a", "hmr"), report_fixture.make(tmp_path / "b", "graphcmr")])
    assert labels.rows(same, SET) == [] and labels.tests(same, SET) == [] and labels.claims(same, SET) == []


def test_claims_are_decided_by_paired_intervals(cast):
    found = {row["claim"]: row["outcome"] for row in labels.claims(cast, SET) if row["metric"] == "mpjpe"}
    half, only = NAMES[2], NAMES[4]
    assert found == {
        f"{half}: not worse than {NAMES[0]}": "does not hold",
        f"{half}: below {NAMES[1]}": "holds",
        f"{half}: below {NAMES[3]}": "holds",
        f"{only}: not worse than {NAMES[0]}": "holds",
    }


def test_every_row_stands_against_full_supervision(cast):
    against = {row["method"] for row in labels.tests(cast, SET) if row["against"] == NAMES[0]}
    assert against == set(NAMES[1:])


@pytest.mark.slow
def test_the_report_has_the_rows_the_differences_and_the_claims(cast):
    doc = document.build(cast, "all")
    shown = text.markdown(doc)
    assert "### One body, by the labels that training saw" in shown
    assert f"{NAMES[2]} against {NAMES[1]}" in shown and f"{NAMES[2]}: below {NAMES[1]}" in shown
    assert f"{SET},{NAMES[0].join(2 * chr(34))},1,mpjpe" in text.long_csv(doc)
    assert {row["method"] for row in doc["sets"][SET]["table1"]} >= {"SPIN", "GraphCMR", "GraphCMR, mesh"}
    assert any(
        "no SPIN without its ablations; the one in the tables: 3D labels of half" in note for note in doc["notes"]
    )
