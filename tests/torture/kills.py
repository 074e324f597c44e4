"""Processes that are killed at any moment: training, checkpoints, results, building and prediction; nothing may be lost."""

import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tfds_builders
from multibodies_jax.data import sources
from multibodies_jax.evaluation import results, results_page
from multibodies_jax.prediction import prediction_file, video
from multibodies_jax.training import checkpoints, loop
from tests.helpers import moving_people, tiny
from tests.torture import counts

_FORK = multiprocessing.get_context("fork")
_LONGEST = 600.0  # Seconds that a process may take if it is not killed.
_PEOPLE: dict[str, Any] = {"num_people": 70, "num_validation": 3, "num_test": 5}


def run(seconds: float, seed: int) -> Iterator[counts.Counts]:
    """Runs the campaigns in turn, again and again.

    Args:
      seconds: to run; a campaign begins only where its `LEAST` seconds are left.
      seed: of the moments of the kills; where a process is then, no seed decides.

    Yields:
      The counts of each campaign.
    """
    end, rng = time.monotonic() + seconds, np.random.default_rng(seed)
    campaigns = {name: counts.Counts(f"kills: {name}") for name in CAMPAIGNS}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for turn in itertools.count():
            begun = 0
            for name, campaign in CAMPAIGNS.items():
                if time.monotonic() + LEAST[name] > end:
                    continue
                place = root / name / str(turn)
                place.mkdir(parents=True)
                campaign(place, root / name, rng, campaigns[name])
                begun += 1
            if not begun:
                break
    yield from campaigns.values()


def _until_killed(target: Callable[[], None], seconds: float | None, log: pathlib.Path) -> int | None:
    """Runs a function in a process of its own, with all that it starts.

    Returns:
      Its exit status, or None where it was killed after `seconds`.
    """
    child = _FORK.Process(target=_alone, args=(target, log))
    child.start()
    child.join(_LONGEST if seconds is None else seconds)
    if child.exitcode is not None:
        return child.exitcode
    os.killpg(child.pid or 0, signal.SIGKILL)
    child.join()
    return None


def _alone(target: Callable[[], None], log: pathlib.Path) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    target()


def _whole(found: counts.Counts, target: Callable[[], None], log: pathlib.Path) -> bool:
    """Runs a function to its end; an end with an error is a fault."""
    status = _until_killed(target, None, log)
    if status == 0:
        return True
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if log.exists() else []
    found.add("hang" if status is None else "bare", f"after a kill: exit status {status}, {' '.join(words)[:300]}")
    return False


def _kill_until_done(
    target: Callable[[], None],
    place: pathlib.Path,
    rng: np.random.Generator,
    found: counts.Counts,
    longest: float,
    most: int,
) -> bool:
    """Kills a process that starts again each time, up to `most` times; then lets it end. Whether it ended well."""
    log = place / "log.txt"
    for number in range(most):
        status = _until_killed(target, float(rng.uniform(0.2, longest)), log)
        if status == 0:
            return True
        if status is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            found.add("bare", f"kill {number}: exit status {status}, {' '.join(lines)[:300]}")
            return False
        found.add()
    return _whole(found, target, log)


def _asked(question: Callable[[], str], place: pathlib.Path) -> str:
    """What a function says, asked in a process of its own: reading checkpoints starts threads, which no fork survives."""
    answer = place / "answer.txt"

    def ask() -> None:
        answer.write_text(question(), encoding="utf-8")

    answer.unlink(missing_ok=True)
    status = _until_killed(ask, None, place / "log.txt")
    return answer.read_text(encoding="utf-8") if status == 0 else f"exit status {status} on reading it"


def _train(workdir: pathlib.Path) -> None:
    sources.load_people, sources.build_data = tiny.load_people, lambda config: None
    loop.train(tiny.config(), workdir)


def _training(place: pathlib.Path, shared: pathlib.Path, rng: np.random.Generator, found: counts.Counts) -> None:
    """A killed training continues to the same weights, bit for bit."""
    reference, took = shared / "reference", shared / "seconds"
    if not took.exists():
        _whole(found, lambda: _train(reference), place / "log.txt")  # Compiles; the next one is as long as others are.
        began = time.monotonic()
        _whole(found, lambda: _train(shared / "again"), place / "log.txt")
        took.write_text(str(time.monotonic() - began), encoding="utf-8")
    longest = float(took.read_text(encoding="utf-8"))
    if not _kill_until_done(lambda: _train(place / "run"), place, rng, found, longest, 6):
        return

    def different() -> str:
        names = []
        for folder in ("checkpoints", "hmr", "prior"):
            items = [checkpoints.restore(root / folder)[0] for root in (reference, place / "run")]
            if checkpoints.fingerprint(items[0]) != checkpoints.fingerprint(items[1]):
                names.append(folder)
        return " ".join(names)

    names = _asked(different, place)
    found.add("silent" if names else None, f"{names}: other weights than without a kill")


def _saving(place: pathlib.Path, shared: pathlib.Path, rng: np.random.Generator, found: counts.Counts) -> None:
    """A process that dies while it saves leaves a whole step, never an older one than before."""
    del shared

    def save_on() -> None:
        for step in itertools.count((checkpoints.latest_step(place / "run") or 0) + 1):
            items = {"a": {str(i): np.full(100_000, step) for i in range(4)}}
            checkpoints.save(place / "run", step, items, {"step": step}, keep=1)

    before = 0
    for number in range(10):
        status = _until_killed(save_on, float(rng.uniform(0.3, 1.5)), place / "log.txt")
        if status is not None:
            found.add("bare", f"saving ended with exit status {status}")
            return
        if (checkpoints.latest_step(place / "run") or 0) == 0:
            found.add()  # Killed before the first step.
            continue

        def problem(before: int = before) -> str:
            items, metadata, step = checkpoints.restore(place / "run")
            good = step >= before and metadata == {"step": step} and all((x == step).all() for x in items["a"].values())
            return "" if good else f"step {step} after {before}, or not whole"

        told = _asked(problem, place)
        found.add("silent" if told else None, f"kill {number}: {told}")
        before = checkpoints.latest_step(place / "run") or 0


def results_under_kills(
    place: pathlib.Path, shared: pathlib.Path, rng: np.random.Generator, found: counts.Counts
) -> None:
    """Of the files of an evaluation each is whole: of the last one or of the one before."""
    del shared
    results_page.markdown = lambda result: "page " * 50_000

    def write_on() -> None:
        for number in itertools.count():
            arrays = {f"{k}": np.full(50_000, number) for k in range(5)}
            results.write(place, {"number": number, "values": [number] * 50_000}, arrays)

    for number in range(10):
        status = _until_killed(write_on, float(rng.uniform(0.1, 1.0)), place / "log.txt")
        if status is not None:
            found.add("bare", f"writing ended with exit status {status}")
            return
        problem = ""
        if (place / "results.json").exists():
            try:
                stored = json.loads((place / "results.json").read_text(encoding="utf-8"))
                problem = "" if set(stored["values"]) == {stored["number"]} else "results.json of two evaluations"
            except ValueError as error:
                problem = f"results.json: {error}"
        if (place / "per_example.npz").exists():
            with np.load(place / "per_example.npz") as arrays:
                values = {int(v) for name in arrays.files for v in arrays[name]}
            problem = problem or ("" if len(values) == 1 else "per_example.npz of two evaluations")
        found.add("silent" if problem else None, f"kill {number}: {problem}")


def _build(data_dir: pathlib.Path) -> None:
    tfds_builders.build("synthetic_poses", data_dir, num_processes=2, **_PEOPLE)


def _building(place: pathlib.Path, shared: pathlib.Path, rng: np.random.Generator, found: counts.Counts) -> None:
    """A build with worker processes that dies continues to the same examples.

    Files are not compared: the order of the fields of a stored example, and with it the bytes of an embedded set, differs
    between processes that are not killed, too.
    """
    reference = shared / "reference"
    if not reference.exists() and not _whole(found, lambda: _build(reference), place / "log.txt"):
        return
    if not _kill_until_done(lambda: _build(place / "data"), place, rng, found, 12.0, 4):
        return

    def different() -> str:
        names = []
        for split in ("train", "validation", "test"):
            one, other = (
                tfds_builders.source("synthetic_poses", split, folder, **_PEOPLE)
                for folder in (reference, place / "data")
            )
            if len(one) != len(other) or not all(map(_equal, one, other)):
                names.append(split)
        return " ".join(names)

    names = _asked(different, place)
    found.add("silent" if names else None, f"{names}: other examples than without a kill")


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two examples have the same fields with the same bits."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def _predicting(place: pathlib.Path, shared: pathlib.Path, rng: np.random.Generator, found: counts.Counts) -> None:
    """Every file of a prediction that is there can be read."""
    clip = shared / "clip.mp4"
    if not clip.exists():
        moving_people.video(clip, frames=8)

    def predict() -> None:
        video.predict_video(moving_people.Model(), clip, place / "out", n=2, detector=moving_people.Detector())

    if not _kill_until_done(predict, place, rng, found, 15.0, 3):
        return
    for path in sorted((place / "out").iterdir()):
        problem = _unreadable(path)
        found.add("silent" if problem else None, f"{path.name}: {problem}")


def _unreadable(path: pathlib.Path) -> str:
    """Why a file of a prediction is damaged; empty for a good one."""
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return f"member {bad}" if (bad := archive.testzip()) else ""
        if path.suffix == ".glb":
            data = path.read_bytes()
            return "" if int.from_bytes(data[8:12], "little") == len(data) else "shorter than it says"
        return "" if path.stat().st_size else "empty"
    except (OSError, zipfile.BadZipFile, prediction_file.PredictionError) as error:
        return str(error)


CAMPAIGNS: dict[str, Callable[[pathlib.Path, pathlib.Path, np.random.Generator, counts.Counts], None]] = {
    "saving": _saving,
    "results": results_under_kills,
    "building": _building,
    "training": _training,
    "predicting": _predicting,
}
LEAST = {"saving": 30.0, "results": 10.0, "building": 60.0, "training": 180.0, "predicting": 60.0}
"""Seconds that one turn of a campaign takes about."""
