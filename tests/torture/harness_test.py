"""The harness sees every kind of fault: with readers that have one, and with processes that lose what they wrote."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from tests.helpers import readers, scratch
from tests.torture import __main__ as program
from tests.torture import counts, files, kills, mutations
from tfds_builders.sources import cdf


def _reader(read, kind="other", checked=False):
    def make(path):
        np.savez(path, a=np.arange(100.0))

    return readers.Reader("made up", "a.npz", kind, make, read, checked=checked)


def _silent(path):
    """Takes what is there of the file, and checks nothing."""
    return np.frombuffer(path.read_bytes()[:800], np.uint8)


def _careful(path):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:
        raise ValueError(f"{path} is damaged ({error}).") from error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda path: np.load(path)["a"], "bare"),
        (_silent, "silent"),
        (lambda path: os._exit(3), "crash"),
        (lambda path: os.abort(), "crash"),
        (lambda path: subprocess.call(["gs", str(path)]), "executed"),
        (_careful, None),
    ],
    ids=["bare", "silent", "exit", "abort", "executed", "careful"],
)
def test_each_fault_of_a_reader_is_counted(monkeypatch, read, fault):
    monkeypatch.setattr(readers, "READERS", (_reader(read, kind="npz"),))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    (found,) = files.run(0.0, seed=0)
    assert found.tries >= 25
    assert set(found.faults) == ({fault} if fault else set()), found.cases
    assert all(f"made up, {fault}: try" in case for case in found.cases)


@pytest.mark.parametrize(("checked", "expected"), [(True, {"silent"}), (False, set())])
def test_other_contents_are_a_fault_where_a_file_has_checksums(monkeypatch, checked, expected):
    monkeypatch.setattr(readers, "READERS", (_reader(_silent, checked=checked),))
    (found,) = files.run(0.0, seed=0)
    assert set(found.faults) == expected


@pytest.mark.slow
def test_what_does_not_end_is_a_hang(monkeypatch):
    monkeypatch.setattr(readers, "READERS", (_reader(lambda path: time.sleep(60)),))
    monkeypatch.setattr(files, "SECONDS", 0.02)
    (found,) = files.run(0.0, seed=0)
    assert found.faults == {"hang": found.tries}


def test_damage_depends_on_the_seed_alone_and_resealed_archives_are_said():
    data = json.dumps({"keypoints": [1, 2, 3]}).encode()
    drawn = [[mutations.mutate(data, np.random.default_rng((seed, k)))[0] for k in range(40)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({*drawn[0]}) > 20 and any(b"NaN" in one or b"null" in one for one in drawn[0])


def test_a_campaign_of_kills_begins_only_where_there_is_time_for_it(monkeypatch):
    def campaign(place, shared, rng, found):
        found.add()
        time.sleep(0.02)

    monkeypatch.setattr(kills, "CAMPAIGNS", {"long": campaign, "short": campaign})
    monkeypatch.setattr(kills, "LEAST", {"long": 60.0, "short": 0.0})
    long, short = kills.run(0.1, seed=0)
    assert long.tries == 0 and 1 <= short.tries <= 5


def test_a_table_has_every_count_and_an_unknown_fault_is_refused():
    found = counts.Counts("a")
    found.add()
    found.add("hang", "this")
    assert "| a | 2 | 0 | 0 | 1 | 0 | 0 |" in counts.table([found])
    assert (found.bad, found.cases) == (1, ["a, hang: this"])
    with pytest.raises(ValueError, match="A fault is one of"):
        found.add("loud")


@pytest.mark.slow
def test_a_writer_that_is_not_atomic_loses_results_to_kills(monkeypatch, tmp_path):
    monkeypatch.setattr(kills.results_page, "markdown", kills.results_page.markdown)

    def plain(workdir: pathlib.Path, result, arrays):
        del arrays
        text = json.dumps(result)
        with open(workdir / "results.json", "w", encoding="utf-8") as file:
            for first in range(0, len(text), 50_000):
                file.write(text[first : first + 50_000])
                time.sleep(0.01)

    for name, expected in (("atomic", False), ("plain", True)):
        if name == "plain":
            monkeypatch.setattr(kills.results, "write", plain)
        found = counts.Counts(name)
        (tmp_path / name).mkdir()
        kills.results_under_kills(tmp_path / name, tmp_path, np.random.default_rng(0), found)
        assert (found.bad > 0) == expected, found.cases


def test_the_program_has_its_temporary_files_in_a_folder_below_the_checkout_which_it_removes(
    tmp_path, monkeypatch, capsys
):
    used = []

    def campaign(seconds, seed):
        used.append(pathlib.Path(tempfile.mkdtemp()))
        return [counts.Counts("made up")]

    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    monkeypatch.setattr(cdf, "SECONDS", cdf.SECONDS)
    monkeypatch.setattr(sys, "argv", ["torture", "--campaign=files"])
    monkeypatch.setattr(scratch, "FOLDER", tmp_path / "tests")
    monkeypatch.setitem(program.CAMPAIGNS, "files", campaign)
    assert program.main() == 0 and "made up" in capsys.readouterr().out
    assert used[0].is_relative_to(tmp_path / "tests") and list((tmp_path / "tests").iterdir()) == []
