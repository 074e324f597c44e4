"""Reports of frames of videos, whose neighbours are alike."""

import numpy as np
import pytest

from multibodies_jax.evaluation import intervals
from multibodies_jax.reporting import __main__ as command
from multibodies_jax.reporting import document, runs, statistics, tables
from tests.helpers import report_fixture

CLEAN, HARD = report_fixture.SETS
BLOCK = 6


def of_frames(path):
    """Makes the images of a work directory frames of two synchronised videos."""
    report_fixture.edit(path, lambda r: r["protocol"].update(block=BLOCK))
    arrays = dict(np.load(path / "per_example.npz"))
    ids = np.array([f"cam{i % 2}/{i // 2:04d}" for i in range(report_fixture.IMAGES)])
    arrays |= {f"{name}|example_id": ids for name in report_fixture.SETS}
    np.savez(path / "per_example.npz", allow_pickle=False, **arrays)
    return path


@pytest.fixture
def cast(tmp_path):
    names = {"multibodies": 0.0, "smpl_mdn": 6.0, "hmr": 3.0}
    return runs.cast([of_frames(report_fixture.make(tmp_path / name, name, 0, x)) for name, x in names.items()])


def test_every_interval_is_of_blocks_of_frames_and_no_test_takes_them_for_independent(cast):
    timeline = intervals.Timeline(np.arange(report_fixture.IMAGES) // 2, BLOCK)
    own, other = report_fixture.errors(8.0, 0).astype(float), report_fixture.errors(14.0, 0).astype(float)
    part = document.build(cast, "all")["sets"][HARD]
    (cell,) = [r for r in part["table1"] if (r["method"], r["n"], r["metric"]) == ("ours", 5, "mpjpe")]
    assert (cell["low"], cell["high"]) == pytest.approx(timeline.interval(own))
    (test,) = [r for r in part["tests"] if (r["against"], r["n"], r["metric"]) == ("SMPL-MDN", 5, "mpjpe")]
    assert (test["low"], test["high"]) == pytest.approx(timeline.interval(own - other)) and test["p"] is None
    (fall,) = [r for r in part["order"] if (r["claim"], r["metric"]) == ("error falls from n = 1 to 5: ours", "mpjpe")]
    less = report_fixture.errors(8.0, 0).astype(float) - report_fixture.errors(10.0, 0).astype(float)
    assert (fall["low"], fall["high"]) == pytest.approx(timeline.interval(less))
    (single,) = [r for r in part["single"] if r["method"] == "ours"]
    assert (single["low"], single["high"]) == pytest.approx(timeline.interval(report_fixture.errors(1.0, 0)))
    (spread,) = [r for r in part["diagnostics"] if (r["method"], r["name"]) == ("ours", "spread_hidden_mm")]
    odd = np.arange(1, report_fixture.IMAGES, 2)  # The others have no hidden joints.
    hidden = np.float32(20.0) + report_fixture.errors(0, 0)
    assert (spread["low"], spread["high"]) == pytest.approx(timeline.rows(odd).interval(hidden[odd]), rel=1e-5)


def test_a_report_says_of_what_its_intervals_are(cast, capsys):
    paths = ",".join(str(run.path) for run in cast.runs)
    assert command.main(["all", f"--workdirs={paths}", f"--out={cast.runs[0].path / 'out'}"]) == 0
    shown = capsys.readouterr().out
    assert f"bootstrap over blocks of {BLOCK} frames, {intervals.RESAMPLES} resamples" in shown
    assert "Wilcoxon" not in shown and "p = " not in shown


def test_images_of_other_protocols_are_independent(tmp_path):
    cast = runs.cast([report_fixture.make(tmp_path / "ours")])
    (cell, *_) = tables.cells(tables.table1(cast, CLEAN)[1:2], CLEAN)
    low, high = statistics.bootstrap(report_fixture.errors(0.0, 0).astype(float)[:, None])
    assert (cell["method"], cell["n"], cell["low"], cell["high"]) == ("ours", 1, low[0], high[0])
    assert tables.tests(cast, CLEAN)[0]["p"] is not None
