"""Building, reading and verifying sets: whole or absent, the same with any number of processes, clear errors."""

import contextlib
import fcntl
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

import tfds_builders
from tests.helpers import small_sets
from tfds_builders import __main__ as cli
from tfds_builders import building, options, people, workers

TINY_PEOPLE: dict[str, Any] = {"num_people": 70, "num_validation": 3, "num_test": 5}  # 70: more than a block.


@pytest.fixture
def no_workers(monkeypatch):
    monkeypatch.setattr(workers, "pool", small_sets.in_process)


@pytest.fixture(scope="module")
def people_dir(tmp_path_factory):
    """A tiny `synthetic_poses`, built by two worker processes."""
    data_dir = tmp_path_factory.mktemp("people")
    tfds_builders.build("synthetic_poses", data_dir, num_processes=2, **TINY_PEOPLE)
    return data_dir


def records(source):
    return [source[i] for i in range(len(source))]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert set(x) == set(y)
        for key in x:
            np.testing.assert_array_equal(x[key], y[key], err_msg=key)


# Building


@pytest.mark.slow
def test_people_have_ids_in_order_upright_roots_and_clipped_shapes(people_dir):
    for split, count in (("train", 70), ("validation", 3), ("test", 5)):
        rows = records(tfds_builders.source("synthetic_poses", split, people_dir, **TINY_PEOPLE))
        assert [r["example_id"].decode() for r in rows] == [f"synthetic_poses/{split}/{i:06d}" for i in range(count)]
        pose, betas = np.stack([r["pose"] for r in rows]), np.stack([r["betas"] for r in rows])
        assert pose.dtype == betas.dtype == np.float32
        assert np.all(np.isfinite(pose)) and np.all(np.abs(betas) <= 2)
        assert len(np.unique(pose.reshape(count, -1), axis=0)) == len(np.unique(betas, axis=0)) == count


@pytest.mark.slow
def test_any_number_of_processes_makes_the_same_people(people_dir, tmp_path, no_workers):
    for split in people.SPLITS:
        two = tfds_builders.source("synthetic_poses", split, people_dir, **TINY_PEOPLE)
        none = tfds_builders.source("synthetic_poses", split, tmp_path, **TINY_PEOPLE)
        assert_same(records(two), records(none))


@pytest.mark.slow
def test_a_larger_set_starts_with_the_people_of_a_smaller_one_and_a_seed_changes_them(people_dir, tmp_path, no_workers):
    small = tfds_builders.source("synthetic_poses", "train", tmp_path, **{**TINY_PEOPLE, "num_people": 2})
    assert_same(
        records(small), records(tfds_builders.source("synthetic_poses", "train", people_dir, **TINY_PEOPLE))[:2]
    )
    other = tfds_builders.source("synthetic_poses", "train", tmp_path, **{**TINY_PEOPLE, "num_people": 2, "seed": 1})
    assert not np.array_equal(other[0]["betas"], small[0]["betas"])


def test_splits_and_blocks_hold_different_people():
    tasks = [people.Task(options.PeopleOptions(), 0, split, 64 * i, 64) for split in people.SPLITS for i in range(2)]
    drawn = np.stack([people.block(task)[1] for task in tasks]).reshape(-1, 10)
    assert len(np.unique(drawn, axis=0)) == 6 * 64


def test_betas_are_standard_normal():
    tasks = [people.Task(options.PeopleOptions(), 0, "train", 64 * i, 64) for i in range(20)]
    betas = np.concatenate([people.block(task)[1] for task in tasks])
    assert np.all(np.abs(betas.mean(axis=0)) < 0.12)
    assert abs(betas.std() - 0.96) < 0.03  # Clipping at 2 takes 0.04 off.


@pytest.mark.slow
def test_tfds_finds_the_sets_by_name(people_dir):
    config = "people-validation3-test5-people70"
    source = tfds.data_source(f"synthetic_poses/{config}", split="test", data_dir=people_dir)
    assert_same(records(source), records(tfds_builders.source("synthetic_poses", "test", people_dir, **TINY_PEOPLE)))


def test_a_built_set_is_reused_and_options_of_other_sets_are_left_aside(people_dir, monkeypatch):
    monkeypatch.setattr(workers, "pool", lambda n: pytest.fail("built again"))
    tfds_builders.build("synthetic_poses/people", people_dir, image_size=64, body_dir="", **TINY_PEOPLE)


def test_metadata_tell_what_the_set_was_made_from(people_dir):
    stored = json.loads(next(people_dir.rglob("1.0.0/metadata.json")).read_text(encoding="utf-8"))
    assert stored["num_people"] == 70 and stored["seed"] == 0 and stored["poses_sha256"] == ""


# Poses from a file


@pytest.fixture
def pose_file(tmp_path):
    """Three subjects whose frames can be told apart: bent knees, elbows or neck."""
    poses = np.zeros((60, 24, 3), np.float32)
    for subject, joint in enumerate((4, 18, 12)):  # Left knee, left elbow, neck.
        axis = 1 if joint == 18 else 0
        poses[20 * subject : 20 * subject + 20, joint, axis] = np.linspace(0.5, 1.0, 20) * (-1 if joint == 18 else 1)
    path = tmp_path / "three.npz"
    np.savez(path, poses=poses, clip=np.repeat(np.arange(3), 20), clip_name=np.array(["a_1", "b_1", "c_1"]))
    return path


def bent(rows):
    """The joints that differ from zero in any of the rows, left and right as one."""
    mirror = {5: 4, 19: 18}
    return {mirror.get(int(j), int(j)) for r in rows for j in np.flatnonzero(np.any(r["pose"][1:] != 0, axis=-1)) + 1}


def test_people_from_a_file_are_of_other_subjects_in_each_split(tmp_path, pose_file, no_workers, capsys):
    chosen = {"num_people": 40, "num_validation": 20, "num_test": 20, "poses": str(pose_file)}
    seen = {split: bent(tfds_builders.source("synthetic_poses", split, tmp_path, **chosen)) for split in people.SPLITS}
    assert sorted(joint for joints in seen.values() for joint in joints) == [4, 12, 18]
    assert "differ in" in capsys.readouterr().err
    train = records(tfds_builders.source("synthetic_poses", "train", tmp_path, **chosen))
    if seen["train"] != {12}:  # The neck has no side.
        right = [np.any(r["pose"][5] != 0) or np.any(r["pose"][19] != 0) for r in train]
        assert 8 < sum(right) < 32  # Half of them are mirrored.


def test_pose_mix_is_the_share_from_the_file(tmp_path, pose_file):
    mixed = options.PeopleOptions(poses=str(pose_file), pose_mix=0.3)
    poses = np.concatenate([people.block(people.Task(mixed, 0, "train", 64 * i, 64))[0] for i in range(10)])
    share = np.mean(np.count_nonzero(np.any(poses != 0, axis=-1), axis=-1) == 1)  # One joint bent: from the file.
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 640)


def test_an_unusable_pose_file_stops_the_build_with_its_name(tmp_path, no_workers):
    np.savez(tmp_path / "bad.npz", poses=np.full((5, 24, 3), np.nan))
    with pytest.raises(ValueError, match=r"bad\.npz"):
        tfds_builders.build("synthetic_poses", tmp_path, poses=str(tmp_path / "bad.npz"), **TINY_PEOPLE)
    assert not list(tmp_path.rglob("1.0.0"))


# Names


def test_config_names_state_every_option_that_is_not_a_default(tmp_path):
    cls = tfds_builders.BUILDERS["synthetic_poses"].OPTIONS
    assert options.config_name("people", cls()) == "people"
    assert options.config_name("people", cls(num_people=7, seed=3)) == "people-seed3-people7"
    one, two = tmp_path / "cmu poses.v1.npz", tmp_path / "other" / "cmu poses.v1.npz"
    two.parent.mkdir()
    one.write_bytes(b"a")
    two.write_bytes(b"b")
    names = {options.config_name("people", cls(poses=str(path))) for path in (one, two)}
    assert names == {"people-cmu_poses_v1_ca978112", "people-cmu_poses_v1_3e23e816"}
    assert options.config_name("people", cls(poses=str(one), pose_mix=0.3)) == "people-cmu_poses_v1_ca978112-mix0.3"


# Bad input


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("synthetic_body", {}, "no dataset 'synthetic_body'. Known: .*synthetic_bodies/clean.*synthetic_poses/people"),
        ("synthetic_bodies/dirty", {}, "no config 'dirty'. Known: synthetic_bodies/clean, synthetic_bodies/ambiguous"),
        ("synthetic_poses", {"num_persons": 3}, "Unknown option.* num_persons. synthetic_poses knows .*num_people"),
        ("synthetic_poses", {"num_people": 0}, "num_people must be at least 1"),
        ("synthetic_poses", {"num_test": -1}, "num_test must be at least 1"),
        ("synthetic_poses", {"num_people": 10**23}, "num_people must be at most 1,000,000,000, got 1000"),
        ("synthetic_poses", {"seed": -1}, "seed must be"),
        ("synthetic_poses", {"pose_mix": 0.5}, "give poses=FILE too"),
        ("synthetic_poses", {"pose_mix": 1.5}, "share in"),
        ("synthetic_poses", {"poses": "/nowhere.npz"}, "no file or folder of poses '/nowhere.npz'"),
        ("synthetic_bodies", {"image_size": 8}, "image_size must be within 32"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(name, chosen, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tfds_builders.build(name, tmp_path, **chosen)
    assert not list(tmp_path.iterdir())


def test_unknown_splits_and_process_counts_are_refused(people_dir, tmp_path):
    with pytest.raises(ValueError, match="no split 'val'; it has train, validation, test"):
        tfds_builders.source("synthetic_poses", "val", people_dir, **TINY_PEOPLE)
    with pytest.raises(ValueError, match="num_processes must be at least 1"):
        tfds_builders.build("synthetic_poses", tmp_path, num_processes=0, **TINY_PEOPLE)
    with pytest.raises(ValueError, match="num_processes must be at most 4096"):
        tfds_builders.build("synthetic_poses", tmp_path, num_processes=10**23, **TINY_PEOPLE)


# Accidents


def build_here(data_dir, **more):
    return tfds_builders.build("synthetic_poses", data_dir, **{**TINY_PEOPLE, "num_people": 2, **more})


def test_a_damaged_set_is_refused(tmp_path, no_workers):
    builder = build_here(tmp_path)
    shard = next(pathlib.Path(builder.data_path).glob("*test*"))
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(building.BuildError, match=r"is damaged: 0 of 5 records. Delete .*/1.0.0 to build it again"):
        build_here(tmp_path)
    shard.unlink()
    with pytest.raises(building.BuildError, match="is damaged"):
        build_here(tmp_path)


STORED = {
    "empty": lambda good: b"",
    "null": lambda good: b"null",
    "a list": lambda good: b"[]",
    "no object of a set": lambda good: b"{}",
    "cut": lambda good: good[: len(good) // 2],
    "no UTF-8": lambda good: good[:20] + b"\xff" + good[21:],
}


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "pool", small_sets.in_process)
        data_dir = tmp_path_factory.mktemp("small")
        return data_dir, pathlib.Path(build_here(data_dir).data_path)


@pytest.mark.parametrize("damage", STORED)
@pytest.mark.parametrize("name", ["dataset_info.json", "metadata.json"])
def test_what_is_stored_about_a_set_is_not_trusted(small_set, name, damage):
    data_dir, folder = small_set
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(STORED[damage](good))
    try:
        with pytest.raises(building.BuildError, match=rf"(?s){folder}.*Delete {folder}"):
            build_here(data_dir)
    finally:
        (folder / name).write_bytes(good)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (b"{OTHER}-{SPLIT}", "the files of train cannot be told"),
        (b"{0}-{SPLIT}", "the files of train cannot be told"),
        (b"{SPLIT.a}", "the files of train cannot be told"),
        (b"../{SPLIT}", "is outside its folder"),
    ],
)
def test_names_of_files_that_a_set_cannot_have_are_refused(small_set, template, words):
    data_dir, folder = small_set
    good = (folder / "dataset_info.json").read_bytes()
    (folder / "dataset_info.json").write_bytes(good.replace(b"{DATASET}-{SPLIT}", template))
    try:
        with pytest.raises(building.BuildError, match=rf"dataset_info.json is damaged: .*{words}.*Delete {folder}"):
            build_here(data_dir)
    finally:
        (folder / "dataset_info.json").write_bytes(good)


def test_a_damaged_example_is_told_with_its_set(small_set):
    data_dir, folder = small_set
    shard = next(folder.glob("*test*"))
    good = shard.read_bytes()
    at = good.index(b"example_id") + 5
    shard.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
    try:
        source: Any = tfds_builders.open_split(build_here(data_dir), "test")
        for read in (lambda: source[0], lambda: list(source), lambda: source.__getitems__([0, 1])):
            with pytest.raises(building.BuildError, match=rf"of the split test is damaged.*Delete {folder}"):
                read()
    finally:
        shard.write_bytes(good)


def test_a_set_made_from_something_else_is_refused(tmp_path, no_workers):
    metadata = pathlib.Path(build_here(tmp_path).data_path) / "metadata.json"
    metadata.write_text(
        json.dumps({**json.loads(metadata.read_text(encoding="utf-8")), "poses_sha256": "another"}), encoding="utf-8"
    )
    with pytest.raises(building.BuildError, match=r"poses_sha256 'another' .now ''"):
        build_here(tmp_path)


@contextlib.contextmanager
def largest_file(size):
    """As if the disk were full after some bytes of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_error_leaves_nothing_and_other_sets_untouched(tmp_path, no_workers):
    before = records(tfds_builders.source("synthetic_poses", "train", tmp_path, **{**TINY_PEOPLE, "num_people": 2}))

    with largest_file(10_000), pytest.raises(building.BuildError, match=r"could not be written .* MiB are free there"):
        build_here(tmp_path, num_test=1_000)
    folder = tmp_path / "synthetic_poses" / "people-validation3-test1000-people2"
    assert [p.name for p in folder.iterdir()] == ["building.lock"]
    assert_same(
        before, records(tfds_builders.source("synthetic_poses", "train", tmp_path, **{**TINY_PEOPLE, "num_people": 2}))
    )


def test_a_split_larger_than_the_buffer_of_tfds_is_built_without_tensorflow(
    people_dir, tmp_path, no_workers, monkeypatch
):
    monkeypatch.setattr(building.shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    large = tfds_builders.source("synthetic_poses", "train", tmp_path, **TINY_PEOPLE)
    assert_same(records(large), records(tfds_builders.source("synthetic_poses", "train", people_dir, **TINY_PEOPLE)))
    assert building.shuffle.MAX_MEM_BUFFER_SIZE == 1000


def test_records_lost_while_writing_stop_the_set_from_appearing(tmp_path, no_workers, monkeypatch):
    class Reader:
        def __init__(self, path):
            del path

        def ok(self):
            return True

        def num_records(self):
            return 1

    monkeypatch.setattr(building.array_record_module, "ArrayRecordReader", Reader)
    with pytest.raises(building.BuildError, match="is damaged: 1 of 2 records"):
        build_here(tmp_path)
    assert not list(tmp_path.rglob("1.0.0"))


def test_two_builders_of_one_set_do_not_meet(tmp_path, no_workers):
    folder = tmp_path / "synthetic_poses" / "people-validation3-test5-people2"
    folder.mkdir(parents=True)
    with (folder / "building.lock").open("w", encoding="utf-8") as lock:
        lock.write("process 42 since 12:00")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(building.BuildError, match="is being built by process 42 since 12:00"):
            build_here(tmp_path)
    build_here(tmp_path)  # The lock is free: the file alone, as a killed process leaves it, does not matter.


@pytest.mark.slow
def test_a_killed_build_is_invisible_and_the_next_one_starts_afresh(tmp_path):
    script = f"""
import contextlib
import sys
import time
import tfds_builders
from tfds_builders import workers
@contextlib.contextmanager
def pool(n):
    yield slow
def slow(function, tasks):
    for task in tasks:
        yield function(task)
        print("half", file=sys.__stdout__, flush=True)  # The builder is silent while TFDS works.
        time.sleep(60)
workers.pool = pool
tfds_builders.build("synthetic_poses", {str(tmp_path)!r}, num_people=70, num_validation=1, num_test=1)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    while "half" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    folder = tmp_path / "synthetic_poses" / "people-validation1-test1-people70"
    assert [p.name.split(".")[0] for p in folder.iterdir() if p.is_dir()] == ["incomplete"]
    tfds_builders.build("synthetic_poses", tmp_path, num_processes=1, num_people=70, num_validation=1, num_test=1)
    assert [p.name for p in folder.iterdir() if p.is_dir()] == ["1.0.0"]


def die(task):
    os._exit(3)


@pytest.mark.slow
def test_a_dead_worker_is_explained():
    with pytest.raises(ChildProcessError, match="A worker process died"), workers.pool(1) as pool_map:
        list(pool_map(die, [0]))


def wait_for_ever(path):
    pathlib.Path(path).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    script = f"""
from tests.tfds_builders.building_test import wait_for_ever
from tfds_builders import workers
if __name__ == "__main__":
    with workers.pool(1) as pool_map:
        list(pool_map(wait_for_ever, [{str(tmp_path / "pid")!r}]))
"""
    (tmp_path / "parent.py").write_text(script, encoding="utf-8")
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], cwd=root, env=environment)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(encoding="utf-8"))
    worker = int((tmp_path / "pid").read_text(encoding="utf-8"))
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(worker))


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def alive(pid):
    """Running, and not a zombie that its parent has yet to wait for."""
    status = pathlib.Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text(encoding="utf-8").rsplit(")")[-1].split()[0] != "Z"


# Command line


@pytest.mark.slow
def test_the_command_line_builds_and_verifies(tmp_path, no_workers, capsys):
    arguments = ["synthetic_poses", f"--data_dir={tmp_path}", "--num_people=2"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "synthetic_poses/people-people2/1.0.0" in out and "train 2, validation" in out and "MiB on disk" in out
    assert cli.main(["verify", *arguments]) == 0
    assert "ok    train: 2 examples" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_line_lists_and_explains(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(":")[0].strip() for line in lines if line.startswith("  ") and line[2] != " "]
    assert names == tfds_builders.known_names()
    assert "    splits: train 20,000, validation 500, test 1,000" in lines
    assert "    needs: nothing, it is generated" in lines
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("--num_train", "--num_people", "--poses", "--pose_mix", "--num_processes", "verify", "Exit codes"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lsp_from_somewhere"], "Known: synthetic_bodies/clean"),
        (["synthetic_poses", "--num_train=3"], "synthetic_poses has no option --num_train"),
        (["synthetic_poses", "--manual_dir=x"], "needs no --manual_dir"),
        (["synthetic_poses", "--num_people=many"], "invalid int value"),
        (["synthetic_poses", "--num_people=0"], "at least 1"),
        (["synthetic_poses", "--num_peopl=3"], "unrecognized arguments"),
        (["build", "verify", "synthetic_poses"], "Cannot read"),
        ([], "required"),
    ],
)
def test_wrong_arguments_exit_with_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_failures_exit_with_1(tmp_path, capsys):
    assert cli.main(["verify", "synthetic_poses", f"--data_dir={tmp_path}"]) == 1
    assert "does not exist. Build it" in capsys.readouterr().err
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert cli.main(["synthetic_poses", f"--data_dir={tmp_path / 'file'}"]) == 1
    assert "Use another data_dir" in capsys.readouterr().err
