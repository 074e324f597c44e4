"""Sets made from archives: the same with any number of processes, continued after a kill, counted, linked, verified."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest

import tfds_builders
from tests.helpers import archive_fixture, small_sets, training_archives
from tests.tfds_builders.building_test import assert_same, largest_file, records
from tfds_builders import __main__ as cli
from tfds_builders import archives, building, shards, verification, workers

BUILD = """
import sys
import tfds_builders
from tests.helpers import archive_fixture
if __name__ == "__main__":
    tfds_builders.BUILDERS["dots"] = archive_fixture.Builder
    archive, data_dir, *chosen = sys.argv[1:]
    chosen = dict(c.split("=", 1) for c in chosen) or {"num_processes": 2}
    tfds_builders.build("dots", data_dir, manual_dir=archive, **chosen)
"""


@pytest.fixture(autouse=True)
def dots(monkeypatch):
    monkeypatch.setitem(tfds_builders.BUILDERS, "dots", archive_fixture.Builder)
    monkeypatch.setattr(workers, "pool", small_sets.in_process)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return archive_fixture.write(tmp_path_factory.mktemp("archive"))


def build(data_dir, root, **chosen):
    return tfds_builders.build("dots", data_dir, manual_dir=root, **chosen)


def source(data_dir, split, **chosen):
    return tfds_builders.source("dots", split, data_dir, **chosen)


def made(builder):
    """What is in the folder of a set: names and content of its shards."""
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(builder.data_path).glob("*array_record*"))}


def build_elsewhere(tmp_path, *arguments):
    """In a process of its own, with worker processes or Beam."""
    script = tmp_path / "build.py"  # A file: worker processes import it.
    script.write_text(BUILD, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


# Building


def test_examples_come_in_the_order_of_the_tasks_and_equal_what_the_tasks_make(tmp_path, root):
    builder = build(tmp_path, root)
    assert set(builder.info.splits) == {"train", "test"}  # There are no validation tasks.
    for split, sequences in (("train", "01"), ("test", "2")):
        rows = records(building.open_split(builder, split))
        ids = [f"dots/seq{s}/{i:03d}" for s in sequences for i in range(3)]
        assert [row["example_id"].decode() for row in rows] == ids
        for row, name in zip(rows, ids, strict=True):
            image = training_archives.read_image(f"{root}/images/{name.removeprefix('dots/')}.png")
            x, y, w, h = row["window"]
            np.testing.assert_array_equal(row["image"], image[y : y + h, x : x + w])


@pytest.mark.slow
def test_processes_write_the_same_files_and_a_killed_build_goes_on(tmp_path):
    archive = archive_fixture.write(tmp_path / "archive")
    (archive / "kill").write_text("seq2", encoding="utf-8")
    killed = build_elsewhere(tmp_path, archive, tmp_path / "data")
    assert killed.returncode == 1 and "A worker process died" in killed.stderr and "goes on from there" in killed.stderr
    folder = tmp_path / "data" / "dots" / "all"
    assert not (folder / "1.0.0").exists()
    finished = {path.name for path in (folder / "unfinished_1.0.0").glob("*.json")}
    assert "test-00000.json" not in finished and finished <= {"train-00000.json", "train-00001.json"}

    (archive / "kill").unlink()
    (archive / "log").unlink()
    builder = build(tmp_path / "data", archive)
    assert len((archive / "log").read_text(encoding="utf-8").split()) == 3 - len(finished)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["1.0.0"]
    assert made(builder) == made(build(tmp_path / "whole", archive))


@pytest.mark.slow
def test_worker_processes_write_what_one_process_writes(tmp_path, root):
    done = build_elsewhere(tmp_path, root, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert "tasks/s" in done.stderr or "s/ tasks" in done.stderr  # The bar knows its rate.
    assert made(build(tmp_path / "two", root)) == made(build(tmp_path / "one", root))


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="Apache Beam has an environment of its own")
def test_beam_writes_what_one_process_writes(tmp_path, root):
    done = build_elsewhere(tmp_path, root, tmp_path / "beam", "beam_runner=DirectRunner")
    assert done.returncode == 0, done.stderr
    assert made(build(tmp_path / "beam", root)) == made(build(tmp_path / "one", root))


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="Apache Beam is there")
def test_without_beam_the_message_says_where_it_is(tmp_path, root):
    with pytest.raises(building.BuildError, match=r"requirements-beam.txt.* environment of its own"):
        build(tmp_path, root, beam_runner="DirectRunner")


@pytest.fixture
def stopped(tmp_path):
    """An archive whose third task cannot be read, and a build of it that stopped there."""
    archive = archive_fixture.write(tmp_path / "archive")
    (archive / "wrong").write_text("seq2", encoding="utf-8")
    with pytest.raises(building.BuildError, match=r"seq2.*: the poses are of the other version"):
        build(tmp_path / "data", archive)
    (archive / "wrong").unlink()
    (archive / "log").unlink()
    return archive


def test_only_what_is_not_finished_is_made_again(stopped, tmp_path):
    build(tmp_path / "data", stopped)
    assert (stopped / "log").read_text(encoding="utf-8").split() == ["seq2"]


@pytest.mark.parametrize("accident", ["shard cut short", "record cut short", "other tasks"])
def test_finished_shards_that_are_damaged_or_of_other_tasks_are_made_again(accident, stopped, tmp_path):
    shard = tmp_path / "data" / "dots" / "all" / "unfinished_1.0.0" / "train-00000"
    record = shard.with_name("train-00000.json")
    if accident == "other tasks":
        record.write_text(
            record.read_text(encoding="utf-8").replace(
                json.loads(record.read_text(encoding="utf-8"))["fingerprint"], "0" * 64
            ),
            encoding="utf-8",
        )
    else:
        path = shard if accident.startswith("shard") else record
        path.write_bytes(path.read_bytes()[:-9])
    whole = made(build(tmp_path / "whole", stopped))
    (stopped / "log").unlink()
    assert made(build(tmp_path / "data", stopped)) == whole
    assert (stopped / "log").read_text(encoding="utf-8").split() == ["seq0", "seq2"]


def test_many_tasks_share_shards_in_order(tmp_path, root, monkeypatch):
    monkeypatch.setattr(archives, "MOST_SHARDS", 1)
    some = build(tmp_path / "some", root)
    assert [split.num_shards for split in some.info.splits.values()] == [1, 1]
    monkeypatch.undo()
    monkeypatch.setitem(tfds_builders.BUILDERS, "dots", archive_fixture.Builder)
    monkeypatch.setattr(workers, "pool", small_sets.in_process)
    many = build(tmp_path / "many", root)
    assert_same(*(records(building.open_split(builder, "train")) for builder in (some, many)))


def test_a_built_set_can_be_named_as_its_folder_is(tmp_path, root):
    chosen = {"jpeg_quality": 60, "store": "window"}
    builder = build(tmp_path, root, **chosen)
    again = tfds_builders.make_builder("dots/all-jpeg60", tmp_path)
    assert again.options == builder.options and again.base == "all" and again.data_path == builder.data_path
    named = records(tfds_builders.source("dots/all-jpeg60", "train", tmp_path, num_train=3))
    assert_same(named, records(source(tmp_path, "train", **chosen)))
    with pytest.raises(ValueError, match=r"its options are in its name. Leave jpeg_quality out"):
        tfds_builders.source("dots/all-jpeg60", "train", tmp_path, jpeg_quality=60)
    with pytest.raises(ValueError, match=r"no config 'all-jpeg61'. Known: dots/all, and those built in"):
        tfds_builders.source("dots/all-jpeg61", "train", tmp_path)


# What is left out


def test_what_is_skipped_is_counted_stored_and_told(tmp_path, root, capsys):
    build(tmp_path, root)
    stored = json.loads(next(tmp_path.rglob("1.0.0/metadata.json")).read_text(encoding="utf-8"))
    assert stored["skipped"]["train"] == {"unreadable image": [2, ["seq0/003.png", "seq1/003.png"]]}
    capsys.readouterr()
    assert cli.main(["dots", f"--data_dir={tmp_path}"]) == 0  # It is there: this checks and tells.
    out = capsys.readouterr().out
    assert "train: 6 examples\n" in out and "2 skipped: unreadable image (seq0/003.png, seq1/003.png)" in out
    assert "test: 3 examples, but the complete archive gives 99" in out


def test_counts_add_up_and_a_few_names_stay():
    total = {}
    for i in range(5):
        total = shards.merge(total, {"blurred": (2, [f"{i}a", f"{i}b"]), f"reason {i % 2}": (1, ["x"])})
    assert total["blurred"] == (10, ["0a", "0b", "1a"]) and total["reason 0"][0] == 3 and total["reason 1"][0] == 2


def test_an_archive_that_is_not_there_or_incomplete_is_explained(tmp_path, root):
    with pytest.raises(
        building.BuildError, match=r"(?s)needs --manual_dir=DIR. Register at https://dots.example.*<seq"
    ):
        tfds_builders.build("dots", tmp_path / "data")
    with pytest.raises(building.BuildError, match="is not a folder"):
        build(tmp_path / "data", tmp_path / "nowhere")
    (tmp_path / "half" / "videos").mkdir(parents=True)
    with pytest.raises(building.BuildError, match=r"(?s)no images/\* in .*Register at.*Found there:\n  videos/"):
        build(tmp_path / "data", tmp_path / "half")
    assert not list(tmp_path.rglob("1.0.0"))


@pytest.mark.parametrize(
    ("error", "message"), [(KeyError("poses"), "seq2.*: KeyError: 'poses'"), (OSError("gone"), r"seq2.*\): gone")]
)
def test_any_error_of_a_task_names_it(error, message, tmp_path, root, monkeypatch):
    whole = archive_fixture.Builder.make

    def make(task):
        yield from whole(task)
        if task.sequence == "seq2":
            raise error

    monkeypatch.setattr(archive_fixture.Builder, "make", staticmethod(make))
    unfinished = tmp_path / "dots" / "all" / "unfinished_1.0.0"
    unfinished.mkdir(parents=True)
    (unfinished / "test-00000.0123.tmp").write_text("half a shard of a killed worker", encoding="utf-8")
    with pytest.raises(building.BuildError, match=message):
        build(tmp_path, root)
    assert sorted(path.name for path in unfinished.iterdir()) == [
        *("train-00000", "train-00000.json", "train-00001", "train-00001.json")
    ]


def test_an_archive_that_may_not_be_read_is_not_a_full_disk(tmp_path, root, monkeypatch):
    def tasks(self, split):
        raise PermissionError(13, "Permission denied", str(root / "poses.npz"))

    monkeypatch.setattr(archive_fixture.Builder, "tasks", tasks)
    with pytest.raises(building.BuildError, match=r"the archive cannot be read: .*Permission denied.*poses.npz"):
        build(tmp_path, root)


def test_an_archive_without_a_usable_image_makes_no_set(tmp_path):
    archive = archive_fixture.write(tmp_path / "archive", images=1)
    with pytest.raises(building.BuildError, match="no example in all of"):
        build(tmp_path / "data", archive)
    assert not list(tmp_path.rglob("1.0.0"))


def test_a_full_disk_leaves_what_is_finished(tmp_path, root):
    with largest_file(8_000), pytest.raises(building.BuildError, match=r"could not be written .*goes on from there"):
        build(tmp_path / "data", root)
    assert not list(tmp_path.rglob("1.0.0"))
    assert made(build(tmp_path / "data", root)) == made(build(tmp_path / "whole", root))


# What is stored of images


def test_jpeg_is_for_training_only(tmp_path, root):
    build(tmp_path, root)
    build(tmp_path, root, jpeg_quality=60)
    whole, smaller = (records(source(tmp_path, "train", **chosen)) for chosen in ({}, {"jpeg_quality": 60}))
    assert all(np.any(a["image"] != b["image"]) for a, b in zip(whole, smaller, strict=True))
    assert_same(records(source(tmp_path, "test")), records(source(tmp_path, "test", jpeg_quality=60)))


def test_paths_give_the_same_examples_and_follow_a_moved_archive(tmp_path):
    archive = archive_fixture.write(tmp_path / "archive")
    build(tmp_path / "data", archive)
    stored = made(build(tmp_path / "data", archive, store="path"))
    assert not any(b"PNG" in shard for shard in stored.values())
    linked: Any = source(tmp_path / "data", "train", store="path")
    windows = records(source(tmp_path / "data", "train"))
    assert_same(windows, records(linked))
    assert_same(windows[1:3], linked.__getitems__([1, 2]))

    archive.rename(tmp_path / "moved")
    with pytest.raises(
        building.BuildError, match=r"seq0/000.png.*If it was moved, build again with the new --manual_dir"
    ):
        linked[0]
    build(tmp_path / "data", tmp_path / "moved", store="path")
    assert_same(windows, records(source(tmp_path / "data", "train", store="path")))
    cv2.imwrite(str(tmp_path / "moved" / "images" / "seq0" / "000.png"), np.zeros((50, 40, 3), np.uint8))
    with pytest.raises(building.BuildError, match="has 40 x 50 pixels, but had 120 x 100"):
        source(tmp_path / "data", "train", store="path")[0]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"jpeg_quality": 101}, "from 1 to 100, or 0 for PNG, got 101"),
        ({"store": "pixels"}, "`window` or `path`, got 'pixels'"),
        ({"store": "path", "jpeg_quality": 90}, "leave jpeg_quality out"),
    ],
)
def test_options_that_make_no_sense_are_refused(chosen, message, tmp_path, root):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, root, **chosen)


def test_a_frame_of_a_video_has_no_path():
    with pytest.raises(ValueError, match=r"this archive has videos. Use store=window"):
        archives.stored_image(np.zeros((4, 4, 3), np.uint8), archives.ArchiveOptions(store="path"), "train")


# Command line


def test_list_says_what_is_needed_and_found(root, tmp_path, capsys):
    assert cli.main(["list", f"--manual_dir={root}", f"--data_dir={tmp_path}"]) == 0
    text = capsys.readouterr().out.partition("dots: ")[2]
    for words in (
        "needs: Register at https://dots.example",
        "      images/<sequence>/*.png",
        "splits: train 6, validation (not known), test 99",
        f"found: train 2 tasks, validation 0 tasks, test 1 tasks in {root}",
        f"not built in {tmp_path}",
    ):
        assert words in text
    assert cli.main(["list", f"--manual_dir={tmp_path}"]) == 0
    assert "found: not usable: dots: there is no images/* in" in capsys.readouterr().out
    (tmp_path / "dots").symlink_to(root)  # A folder of archives.
    assert cli.main(["list", f"--manual_dir={tmp_path}"]) == 0
    assert "found: train 2 tasks" in capsys.readouterr().out
    assert cli.main(["list", "--store=path"]) == 2


def test_the_command_line_builds_what_its_flags_say(tmp_path, root, capsys):
    flags = [f"--data_dir={tmp_path}", f"--manual_dir={root}", "--num_processes=1", "--store=path"]
    assert cli.main(["dots/all", *flags]) == 0
    assert "dots/all-path/1.0.0" in capsys.readouterr().out
    assert cli.main(["synthetic_poses", "--beam_runner=DirectRunner"]) == 2
    assert "is generated: it needs no --beam_runner" in capsys.readouterr().err


# Verification


def test_verify_passes_a_good_set_and_draws_joints_and_keypoints(tmp_path, root):
    report = verification.verify(build(tmp_path, root))
    text = "\n".join(report.lines)
    assert report.passed, text
    for words in ("3 of 3 files have", "test: 3 examples, but the complete archive gives 99", "annotated kp2d 100.0 %"):
        assert words in text
    sheet = next(tmp_path.rglob("contact_sheet.png"))
    assert sheet.stat().st_size > 10_000
    sheet.unlink()
    sheet.mkdir()
    report = verification.verify(build(tmp_path, root))
    assert report.passed and "contact_sheet.png cannot be written" in "\n".join(report.lines)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: {"joints3d": 1000 * r["joints3d"]}, "people are"),
        (lambda r: {"joints3d": r["joints3d"] + np.array([0.1, 0, 0], np.float32)}, "joints3d land within"),
        (lambda r: {"joints3d": -r["joints3d"]}, "joints3d land within inf px"),
        (lambda r: {"box_center": r["box_center"] + 500}, "3 whose box is beside the image"),
        (lambda r: {"window": r["window"] + np.array([90, 0, 0, 0], np.int32)}, "3 whose window is not the image's"),
        (lambda r: {"image": r["image"][1:]}, "3 whose window is not the image's"),
        (lambda r: {"example_id": b"a"}, "1 different ids"),
        (lambda r: {"example_id": b"a"}, "1 examples are in train and in test"),
    ],
)
def test_verify_notices_what_is_wrong(spoil, words, tmp_path, root, monkeypatch):
    builder = build(tmp_path, root)
    rows = {split: [r | spoil(r) for r in building.open_split(builder, split)] for split in builder.info.splits}
    monkeypatch.setattr(building, "open_split", lambda builder, split: rows[split])
    monkeypatch.setattr(verification, "draw_sheet", lambda builder, report: None)
    failed = [line for line in verification.verify(builder).lines if "FAIL" in line]
    assert failed and any(words in line and "test" in line for line in failed), failed


def test_verify_notices_a_flipped_bit(tmp_path, root):
    builder = build(tmp_path, root)
    path = next(pathlib.Path(builder.data_path).glob("*test*"))
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    report = verification.Report([])
    verification.check_files(builder, report)
    assert not report.passed and f"2 of 3 files have their checksums; {path.name} does not" in report.lines[0]
