"""Functions and processes take turns; a process that fails is left out with a line, wherever it does."""

import pathlib

import numpy as np
import pytest

from benchmarks import graphcmr, joints, released, training, turns

ROOT = pathlib.Path(__file__).parents[2]
WORKER = """
import itertools, json, os, sys
how = sys.argv[1]
if how == "never ready":
    sys.exit("no memory for it")
if how == "ends":
    os.close(0)
    print("{}", flush=True)
    sys.exit()
if how == "talks":
    print("Loading ...", flush=True)
count = itertools.count()
def answer():
    place = next(count)
    if how == "fails later" and place == 2:
        raise ValueError("too late")
    return place
if how.startswith("once"):
    print("Loading ...")
    print(json.dumps({"mib": 3}))
    sys.exit(how.endswith("fails"))
else:
    from benchmarks import turns
    turns.serve({"bytes": 5}, answer)
"""


@pytest.fixture
def place(tmp_path):
    """Where the module of the worker is found."""
    (tmp_path / "made_worker.py").write_text(WORKER, encoding="utf-8")
    return {"PYTHONPATH": f"{tmp_path}:{ROOT}"}


def test_functions_take_turns_and_medians_count():
    """One slow call does not count."""
    clock = iter([0, 1, 10, 12, 20, 21, 30, 32, 40, 49, 50, 52])  # Durations 1 and 2, then 1 and 2, then 9 and 2.
    order = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    assert turns.medians(calls, 3, lambda: next(clock)) == [1, 2]
    assert order == ["a", "b"] * 3


def test_seconds_are_those_of_each_round():
    clock = iter([0, 1, 10, 12, 20, 24, 30, 38])
    np.testing.assert_array_equal(turns.seconds([int, int], 2, lambda: next(clock)), [[1, 2], [4, 8]])


@pytest.mark.slow
def test_processes_take_turns_and_those_that_fail_are_left_out(place, capfd):
    ways = ("works", "never ready", "talks", "ends", "fails later")
    processes = {how: turns.Process(how, "made_worker", [how], place) for how in ways}
    assert processes["works"].wait() == processes["works"].wait() == {"bytes": 5}
    assert processes["ends"].wait() == {}  # And it reads nothing that it is asked.
    assert turns.answers(processes, 0) == {"works": [0, 1, 2]}
    assert {how for how, process in processes.items() if process.failed} == set(ways) - {"works"}
    assert processes["talks"].ask() is None and processes["talks"].wait() is None
    err = capfd.readouterr().err
    assert "no memory for it" in err and "error: never ready ended with status 1" in err
    assert "error: talks ended with status" in err and "It said 'Loading ...'" in err
    assert "ValueError: too late" in err and "error: fails later ended with status 1" in err
    assert err.count("error: ") == 4 and "made_worker.py" in err


def test_a_program_that_runs_once_says_its_figures_last(place, capfd):
    assert turns.once("one", "made_worker", ["once"], place) == {"mib": 3}
    assert not capfd.readouterr().err
    for how in ("never ready", "once, and fails"):
        assert turns.once("another", "made_worker", [how], place) is None
    err = capfd.readouterr().err
    assert "no memory for it\nerror: another ended with status 1" in err and err.count("error: another") == 2


def test_without_a_device_the_message_is_jaxs_own(monkeypatch, capfd):
    assert turns.ask_jax("1 + len(jax.devices()[:1])") == "2"
    monkeypatch.setenv("JAX_PLATFORMS", "of_nobody")
    with pytest.raises(SystemExit, match="its own message is above"):
        turns.ask_jax("jax.default_backend()")
    assert "of_nobody" in capfd.readouterr().err


def test_tables_say_which_program_did_not_run():
    tables = [
        released.table(released.Setting(25, 8), {}),
        graphcmr.table(8, {"dense": {"whole": 0.4, "graph": 0.2}}),
        training.table(8, dict.fromkeys(training.TORCH, (0.0, None)), {}),
    ]
    left_out = [
        [line.partition(turns.FAILED)[0].strip() for line in text.splitlines() if line.endswith(turns.FAILED)]
        for text in tables
    ]
    assert left_out == [list(released.PROGRAMS), ["ours", "sparse"], list(training.TORCH)]


def test_where_no_program_ran_the_status_says_so(monkeypatch, capsys):
    monkeypatch.setattr(turns, "answers", lambda processes, seconds: {})
    monkeypatch.setattr(turns, "Process", _Failed)
    for module, options in ((released, ["--modes=25", "--device=cpu"]), (graphcmr, [])):
        assert module.main(["--batch=1", *options]) == 1
        assert capsys.readouterr().out.count(turns.FAILED) == len(module.PROGRAMS)


def test_of_two_ways_to_find_joints_the_one_that_ran_is_told(monkeypatch, capsys, tmp_path):
    found = {"seconds": 0.5, "median_seconds": 0.6, "bytes": 2**20, "bytes_at_once": 2**21}
    monkeypatch.setattr(turns, "once", lambda way, *_: found if way == "joints" else None)
    np.save(tmp_path / "joints.npy", np.zeros(3))
    assert not joints.compare("", 3, "cpu", tmp_path)
    out = capsys.readouterr().out
    assert "500.00 ms" in out and f"smplx: {turns.FAILED}" in out and '"without meshes"' in out and "ratio" not in out


class _Failed:
    failed = True

    def __init__(self, *_):
        pass

    def wait(self):
        return None
