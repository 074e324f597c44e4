"""The temporary folder of a test run: children write into it, and the next run removes what a killed one left."""

import fcntl
import pathlib
import subprocess
import sys
import tempfile
import threading

from tests.helpers import scratch

ROOT = pathlib.Path(__file__).parents[2]
_RUN = """
import os, pathlib, signal, sys, tempfile
from tests.helpers import scratch
made = scratch.Scratch(pathlib.Path(sys.argv[1]))
pathlib.Path(tempfile.mkdtemp(), "big.npz").write_bytes(b"0")
print(made.path, flush=True)
if sys.argv[2] == "wait":
    input()
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "killed" else made.remove()
"""


def _start(root: pathlib.Path, how: str) -> subprocess.Popen:
    command = [sys.executable, "-c", _RUN, str(root), how]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )


def test_a_killed_run_is_cleared_by_the_next_and_a_running_one_is_left_alone(tmp_path):
    running = _start(tmp_path, "wait")
    assert running.stdout is not None
    alive = pathlib.Path(running.stdout.readline().strip())
    killed = pathlib.Path(_start(tmp_path, "killed").communicate()[0].strip())
    assert len(list(killed.rglob("big.npz"))) == 1
    ended = pathlib.Path(_start(tmp_path, "ends").communicate()[0].strip())
    assert sorted(tmp_path.iterdir()) == [alive] and ended.parent == killed.parent == tmp_path
    running.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_starts_while_another_makes_its_folder_leaves_that_alone(tmp_path, monkeypatch):
    """The other one starts between the making of the first folder and its lock, and goes on until it waits for a lock."""
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    mkdtemp, flock, made, waits = tempfile.mkdtemp, fcntl.flock, [], threading.Event()
    other = threading.Thread(target=lambda: made.append(scratch.Scratch(tmp_path / "tests")))

    def interrupted(**arguments):
        path = mkdtemp(**arguments)
        if threading.current_thread() is not other:
            other.start()
            assert waits.wait(60)
        return path

    def noticed(file, how):
        if threading.current_thread() is other and how == fcntl.LOCK_EX:
            waits.set()
        flock(file, how)

    monkeypatch.setattr(tempfile, "mkdtemp", interrupted)
    monkeypatch.setattr(fcntl, "flock", noticed)
    first = scratch.Scratch(tmp_path / "tests")
    other.join(60)
    assert sorted((tmp_path / "tests").iterdir()) == sorted([first.path, made[0].path])
    first.remove()
    made[0].remove()
    assert list((tmp_path / "tests").iterdir()) == []


def test_this_run_has_its_temporary_files_below_the_checkout(tmp_path):
    assert pathlib.Path(tempfile.gettempdir()).is_relative_to(scratch.FOLDER)
    code = "import tempfile; print(tempfile.gettempdir())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert child.stdout.strip() == tempfile.gettempdir()
