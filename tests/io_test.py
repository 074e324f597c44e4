"""Atomic writes, checksums and locks, also between processes and where a writer fails or is killed."""

import errno
import fcntl
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from multibodies_jax import io

WRITERS = {
    "bytes": lambda path: io.write_bytes(path, b"\x00new"),
    "text": lambda path: io.write_text(path, "new: ä"),
    "json": lambda path: io.write_json(path, {"new": [1, 2]}),
    "npz": lambda path: io.write_npz(path, {"new": np.arange(3)}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_written_file_stands_alone_in_a_new_folder(tmp_path, kind):
    path = tmp_path / "a" / "b" / "file.any"
    WRITERS[kind](path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path, kind, monkeypatch):
    path = tmp_path / "file.any"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        WRITERS[kind](path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [io.replacing, io.new_folder])
def test_content_is_on_disk_before_it_gets_its_name(tmp_path, write, monkeypatch):
    path, events = tmp_path / "result", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
    with write(path) as temporary:
        (temporary / "x" if temporary.is_dir() else temporary).write_text("x", encoding="utf-8")
    assert events == ["sync", *(["sync"] if write is io.new_folder else []), "replace", "sync"]  # Last, the new name.


def test_text_is_utf8_whatever_the_locale(tmp_path):
    code = f"from multibodies_jax import io; io.write_text({str(tmp_path / 'a')!r}, 'K\\xf6ln \\u2264 1')"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    assert (tmp_path / "a").read_bytes() == "Köln ≤ 1".encode()


def test_json_is_indented_ends_with_a_newline_and_takes_the_options_of_dumps(tmp_path):
    io.write_json(tmp_path / "a.json", {"x": [1.5, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n "x": [\n  1.5,\n  null\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.write_json(tmp_path / "a.json", {"x": float("nan")}, allow_nan=False)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": [1.5, None]}


def test_npz_keeps_its_name_and_refuses_objects(tmp_path):
    io.write_npz(tmp_path / "arrays.any", {"x": np.arange(3), "name": np.array("Köln")})
    with np.load(tmp_path / "arrays.any", allow_pickle=False) as file:
        assert file["x"].tolist() == [0, 1, 2] and str(file["name"]) == "Köln"
    with pytest.raises(ValueError, match="allow_pickle"):
        io.write_npz(tmp_path / "objects.npz", {"x": np.array([{}], dtype=object)})
    assert [path.name for path in tmp_path.iterdir()] == ["arrays.any"]


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "file"
    with io.replacing(path) as first, io.replacing(path) as second:
        assert first != second
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["n" * 255, "写真" * 42 + "abc", "写" * 73 + ".npz"])
def test_every_name_that_a_file_system_takes_can_be_written(name, tmp_path):
    other = f"{name[:-1]}2"
    for text, path in (("one", tmp_path / name), ("two", tmp_path / other)):
        with io.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    assert [(tmp_path / one).read_text(encoding="utf-8") for one in (name, other)] == ["one", "two"]
    with io.replacing(tmp_path / name) as temporary:  # As a killed process leaves it.
        left = tmp_path / f"{temporary.name.removesuffix(io.TEMPORARY)[:-3]}abc{io.TEMPORARY}"
        left.write_bytes(b"half")
        temporary.write_text("one", encoding="utf-8")
    io.remove_unfinished(tmp_path / other)
    assert left.exists()
    io.remove_unfinished(tmp_path / name)
    assert not left.exists()


def test_a_link_to_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with io.new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("new", encoding="utf-8")
    assert (tmp_path / "disk" / "file").read_text(encoding="utf-8") == "new" and (tmp_path / "out").is_symlink()


def test_a_block_that_writes_no_file_replaces_nothing(tmp_path):
    (tmp_path / "file").write_text("old", encoding="utf-8")
    with io.replacing(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"


def test_written_files_and_folders_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        io.write_text(tmp_path / "file", "x")
        with io.new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), io.new_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("x", encoding="utf-8")
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())
    with io.new_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("x", encoding="utf-8")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]
    with pytest.raises(OSError), io.new_folder(tmp_path / "a") as folder:
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    code = (
        "import os, signal\nfrom multibodies_jax import io\n"
        f"with io.replacing({str(tmp_path / 'a')!r}) as file, io.new_folder({str(tmp_path / 'a')!r}) as folder:\n"
        "    file.write_text('x')\n    (folder / 'x').write_text('x')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -signal.SIGKILL
    kept = {tmp_path / "a", tmp_path / "a.tmp", tmp_path / ".b.1-2.tmp"}
    for path in kept:
        path.write_text("x", encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 5
    io.remove_unfinished(tmp_path / "a")
    assert set(tmp_path.iterdir()) == kept


def test_sha256_of_bytes_and_of_a_file(tmp_path):
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)
    assert io.sha256(content) == io.sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_the_number_of_a_text_is_the_start_of_its_sha256():
    assert hashlib.sha256(b"test/0").hexdigest().startswith("582fa647")
    assert io.number_of("test/0", 4, "big") == 0x582FA647
    assert io.number_of("test/0", 3, "little") == 0xA62F58


def test_sha256_of_arrays_reads_names_types_shapes_and_contents_in_any_order():
    arrays = {"b": np.arange(6, dtype=np.int32).reshape(2, 3).T, "a": np.array([0.5], np.float32)}
    expected = (
        b"a <f4 (1,)\n"
        + np.array([0.5], np.float32).tobytes()
        + b"b <i4 (3, 2)\n"
        + np.array([0, 3, 1, 4, 2, 5], np.int32).tobytes()
    )
    assert io.sha256_of_arrays(arrays) == hashlib.sha256(expected).hexdigest()
    assert io.sha256_of_arrays(dict(sorted(arrays.items()))) == io.sha256_of_arrays(arrays)


def _hold(path: pathlib.Path, seconds: float) -> subprocess.Popen:
    """A process that holds a lock; returns once it has it."""
    code = f"import time\nfrom multibodies_jax import io\nwith io.lock({str(path)!r}):\n    time.sleep({seconds})\n"
    holder = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text(encoding="utf-8").startswith(f"process {holder.pid} on ")):
        assert holder.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return holder


def test_a_held_lock_names_its_holder_and_goes_with_it(tmp_path):
    path = tmp_path / "folder" / "a.lock"
    holder = _hold(path, 600)
    try:
        with pytest.raises(io.LockedError, match="is held by process") as raised, io.lock(path, wait=False):
            pass
        assert raised.value.holder.startswith(f"process {holder.pid} on ")
    finally:
        holder.kill()
        holder.wait()
    with io.lock(path, wait=False):
        assert path.read_text(encoding="utf-8").startswith(f"process {os.getpid()} on ")
    assert path.read_text(encoding="utf-8") == ""


def test_a_lock_is_waited_for(tmp_path):
    holder = _hold(tmp_path / "a.lock", 0.5)
    with io.lock(tmp_path / "a.lock"):
        assert holder.wait(timeout=60) == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_the_block_runs(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = pytest.warns(UserWarning, match=r"a\.lock has no locks .* no second process writes there")
    with said, io.lock(tmp_path / "a.lock", wait=False):
        io.write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "x"


def test_another_failure_of_a_lock_is_an_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="broken"), io.lock(tmp_path / "a.lock"):
        pass


def test_a_user_without_a_home_folder_has_a_cache_of_their_own(monkeypatch, tmp_path):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("MULTIBODIES_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pathlib.Path, "home", nobody)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = io.cache_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)  # Anybody could put programs there.
    with pytest.raises(PermissionError, match="MULTIBODIES_CACHE"):
        io.cache_folder()


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MULTIBODIES_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert io.cache_folder() == tmp_path / ".cache" / "multibodies_jax"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert io.cache_folder() == tmp_path / ".cache" / "multibodies_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert io.cache_folder() == tmp_path / "shared" / "multibodies_jax"
    monkeypatch.setenv("MULTIBODIES_CACHE", "~/own")
    assert io.cache_folder() == tmp_path / "own"


def test_a_seal_tells_every_change_and_no_rewriting():
    content = {"a": [1, 2.5, None, {"b": float("nan")}], "c": (3,), "d": {2: "x"}}
    sealed = io.sealed(content)
    read = json.loads(json.dumps(dict(reversed(sealed.items())), indent=4))
    assert not io.seal_is_broken(read) and not io.seal_is_broken(content)
    for change in (
        lambda r: r["a"].append(0),
        lambda r: r.update(e=1),
        lambda r: r.pop("c"),
        lambda r: r.update(sha256=""),
    ):
        changed = json.loads(json.dumps(sealed))
        change(changed)
        assert io.seal_is_broken(changed)
