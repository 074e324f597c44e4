"""The lines of data that pages are made of, against the report that they are of, and read back by a page."""

import csv
import io

import pytest

from multibodies_jax.reporting import __main__ as program
from multibodies_jax.reporting import document, page_data, pages, plots, runs, text
from tests.helpers import report_fixture


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    root = tmp_path_factory.mktemp("page_data")
    made = [report_fixture.make(root / f"ours_{seed}", seed=seed, level=8.0) for seed in (0, 1)]
    return [*made, report_fixture.make(root / "mdn", "smpl_mdn", 0, 12.0)]


def test_every_number_of_a_report_is_a_line_that_pages_read(workdirs):
    doc = document.build(runs.cast(workdirs), "all")
    lines = list(csv.DictReader(io.StringIO(page_data.to_csv(doc))))
    part = next(iter(doc["sets"].values()))
    of_set = [line for line in lines if line["set"] == "clean"]
    for table, names in (("errors", ("table1", "refined")), ("against", ("tests",)), ("order", ("order",))):
        assert sum(line["table"] == table for line in of_set) == sum(len(part[name]) for name in names), table
    row = next(row for row in part["table1"] if row["method"] == "ours" and row["metric"] == "mpjpe")
    shown = f"value made errors set=clean method=ours n={row['n']} metric=mpjpe style=interval"
    about = {"made": {"what": "", "command": "", "commits": "", "cost": ""}}
    page = pages.fill(f"{{{{{shown}}}}}", lambda _: lines, about)
    assert page == f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
    test = next(row for row in part["tests"] if row["against"] == "SMPL-MDN" and row["metric"] == "mpjpe")
    found = next(line for line in of_set if line["against"] == "SMPL-MDN" and line["metric"] == "mpjpe")
    assert found["mean"] == f"{test['mean']:+.1f}" and found["same_sign"] == str(test["same_sign"])
    steps = [line for line in lines if line["table"] == "training"]
    assert [(line["method"], line["n"], line["mean"]) for line in steps[:2]] == [
        ("SMPL-MDN", "80", "85.0"),
        ("SMPL-MDN", "160", "80.0"),
    ]
    assert len(steps) == 8
    calibration = part["calibration"][0]
    losses = {line["mean"] for line in of_set if line["table"] == "calibration" and line["metric"] == "ECE"}
    assert f"{calibration['ece']:.3f}" in losses
    of_top = {line["metric"]: line for line in of_set if line["table"] == "calibration" and line["method"] == "ours"}
    # One probability, 0.45, that comes true in a quarter of the images.
    assert of_top["ECE of the top"]["mean"] == "0.200" and float(of_top["ECE of the top"]["high"]) < 0.35
    less, loss = of_top["log loss, learned scores, % from uniform"], float(of_top["log loss, uniform"]["mean"])
    assert less["mean"] == less["low"] == less["high"] == f"{-30 / loss:+.1f}"
    assert of_top["log loss, learned scores, fitted, % from uniform"]["mean"] == f"{-40 / loss:+.1f}"
    assert (of_top["ECE of the top, fitted"]["mean"], of_top["fitted sharpness"]["mean"]) == ("0.000", "0.500")
    assert float(of_top["log loss"]["low"]) < float(of_top["log loss"]["mean"]) < float(of_top["log loss"]["high"])


def test_what_hiding_does_to_the_same_people_is_the_mean_over_seeds_of_ours(workdirs):
    """The fixture's two seeds lose 10 [3, 17] and 14 [5, 23] mm to hidden legs."""
    doc = document.build(runs.cast(workdirs), "all")
    lines = [line for line in csv.DictReader(io.StringIO(page_data.to_csv(doc))) if line["table"] == "occlusion"]
    assert {line["set"] for line in lines} == {"ambiguous - clean"}
    found = {
        (line["method"], line["metric"]): tuple(line[name] for name in ("mean", "low", "high", "seed_max"))
        for line in lines
    }
    single, hidden = "MPJPE of the single hypothesis", "spread of joints then hidden"
    assert found == {
        ("none", "images"): ("5", "", "", ""),
        ("none", single): ("+0.0", "+0.0", "+0.0", "+0.0"),
        ("legs", "images"): ("7", "", "", ""),
        ("legs", single): ("+12.0", "+4.0", "+20.0", "+14.0"),
        ("legs", hidden): ("-2.0", "-3.0", "-1.0", "-2.0"),
    }
    assert "| legs | 7 | +12.0 [+4.0, +20.0] | -2.0 [-3.0, -1.0] |  |" in text.markdown(doc)
    without_ours = page_data.to_csv(document.build(runs.cast(workdirs[-1:]), "all"))
    assert "\nocclusion," not in without_ours


def test_the_command_writes_them_beside_the_report(workdirs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])
    names = ",".join(map(str, workdirs))
    path = tmp_path / "data" / "made.csv"
    assert program.main(["table1", f"--workdirs={names}", f"--out={tmp_path / 'report'}", f"--data={path}"]) == 0
    assert path.read_text(encoding="utf-8").startswith(",".join(page_data.COLUMNS) + "\n")
    header, *trained = (tmp_path / "data" / "made_training.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("method,seed,M,") and len(trained) == len(workdirs)
    (tmp_path / "file").write_text("", encoding="utf-8")
    bad = f"--data={tmp_path / 'file' / 'made.csv'}"
    assert program.main(["table1", f"--workdirs={names}", f"--out={tmp_path / 'report'}", bad]) != 0
    assert "file" in capsys.readouterr().err
