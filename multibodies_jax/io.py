"""Files that are whole or absent: atomic writes, checksums, and locks between processes.

All text is UTF-8. A temporary file stands beside its target under a name that no other process uses and ends in `.tmp`;
it is flushed to disk before it is renamed, so that neither a kill nor a power cut leaves half a file under the real name.
"""

import contextlib
import datetime
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import socket
import stat
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

# What file systems (NFS, FUSE, some of clusters) answer to what they cannot do.
_CANNOT = frozenset((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL))

TEMPORARY = ".tmp"  # Ends the names of files and folders that are being written.
_LONGEST_NAME = 200  # Bytes of a name that stand in its temporary one, which has 45 more; file systems take 255.
SEAL = "sha256"  # Key of a JSON object's own checksum.


class LockedError(OSError):
    """Another process holds a lock; `holder` says which and since when."""

    def __init__(self, path: pathlib.Path, holder: str, more: str = ""):
        super().__init__(f"{path} is held by {holder}{more and ', '}{more}.")
        self.holder = holder


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary path; the file written there replaces `path` when the block ends without an error.

    A block that fails leaves `path` as it was, and so does one that writes no file.

    Args:
      path: the file to write; its folder is made if absent.

    Raises:
      OSError: the folder cannot be written, or the disk is full.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        if temporary.exists():
            sync(temporary)
            rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives an empty temporary folder, which becomes `path` when the block ends without an error and is removed otherwise.

    Args:
      path: absent, or an empty folder; its parent is made if absent.

    Raises:
      OSError: the folder cannot be made, or `path` is taken.
    """
    path = pathlib.Path(path).absolute()
    path = (
        path.resolve() if path.is_dir() else path
    )  # Of a link to a folder, the folder: a folder cannot take a link's place.
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for inside in temporary.rglob("*"):
            sync(inside)
        sync(temporary)
        rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(path: str | os.PathLike) -> None:
    """Removes what killed processes left of `path`. Only for the holder of its lock: others may be writing it."""
    path = pathlib.Path(path)
    for remains in path.parent.glob(f"*{TEMPORARY}"):
        if remains.name.startswith(_hidden(path.name)):
            shutil.rmtree(remains) if remains.is_dir() else remains.unlink()


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file atomically; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 file atomically; see `replacing`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike, value: Any, **options: Any) -> None:
    """Writes a JSON file atomically, indented by one space, with a newline at the end.

    Args:
      path: the file to write.
      value: what JSON can hold.
      **options: of `json.dumps`, for instance `allow_nan=False`.

    Raises:
      TypeError, ValueError: JSON cannot hold it; nothing is written.
      OSError: see `replacing`.
    """
    write_text(path, json.dumps(value, indent=1, **options) + "\n")


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed .npz file atomically, whatever the suffix of `path`.

    Args:
      path: the file to write.
      arrays: by name.

    Raises:
      ValueError: an array holds Python objects, which could not be read without running code; nothing is written.
      OSError: see `replacing`.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def rename(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Renames a file or folder in one step, over what `target` was, and waits until the new name is on disk."""
    os.replace(source, target)
    sync(pathlib.Path(target).absolute().parent)


def sync(path: str | os.PathLike) -> None:
    """Waits until a file is on disk; of a folder, until the names in it are, where its file system can do that.

    Raises:
      OSError: what was written is not on disk, and the system says why.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT or not os.path.isdir(path):
            raise
    finally:
        os.close(handle)


def sha256(content: bytes) -> str:
    """The SHA-256 of bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of the names, types, shapes and contents of arrays, as 64 hex digits; their order does not count."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])  # A number becomes an array of one.
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def number_of(text: str, size: int, byteorder: Literal["big", "little"]) -> int:
    """A whole number that depends on a text alone, for seeds and draws that no order of calls may change.

    Args:
      text: a name.
      size: bytes of its SHA-256 that are read, from the first on; the number is below 256^size.
      byteorder: of these bytes. Callers differ in it and in `size`, and stay so: other ones would draw other numbers.
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], byteorder)


def seal(content: Mapping[str, Any]) -> str:
    """The sha256 of an object as JSON stores it, without its own `SEAL`; neither the order of keys nor spaces count."""
    plain = json.loads(json.dumps({name: value for name, value in content.items() if name != SEAL}))
    return sha256(json.dumps(plain, sort_keys=True).encode())


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its `seal` as `SEAL`, from which `seal_is_broken` tells whether anything in it was changed."""
    return {**content, SEAL: seal(content)}


def seal_is_broken(content: Mapping[str, Any]) -> bool:
    """Whether an object that was read is another one than was sealed; one without a `SEAL` has none to break."""
    return SEAL in content and content[SEAL] != seal(content)


def sha256_of_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, as 64 hex digits; memory does not grow with the file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(path: str | os.PathLike, wait: bool = True) -> Iterator[None]:
    """Holds an exclusive lock between processes; the system releases it when its holder dies, so none is ever stale.

    Some file systems have no locks (NFS without its lock service, some FUSE mounts): there a warning says so, and the
    block runs without one.

    Args:
      path: the lock file; made if absent, with its folder, and kept. While the lock is held it names the holder.
      wait: wait for the present holder to finish, instead of raising `LockedError`.

    Raises:
      LockedError: another process holds it, and `wait` is False.
      OSError: the file cannot be made.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            raise LockedError(path, file.read().strip() or "another process") from error
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            warnings.warn(
                f"The file system of {path} has no locks ({error.strerror}): take care that no second process writes there.",
                stacklevel=3,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.datetime.now():%Y-%m-%d %H:%M:%S}")
        file.flush()
        yield
        file.truncate(0)


def cache_folder() -> pathlib.Path:
    """The user's folder for what can be made or fetched again; it may be absent.

    MULTIBODIES_CACHE, or else `multibodies_jax` in XDG_CACHE_HOME, whose default is ~/.cache (a relative path there is
    ignored, as the XDG base directory specification demands). A user without a home folder, as in some containers, gets
    one of their own among the temporary files.

    Raises:
      PermissionError: that one is somebody else's.
    """
    if own := os.environ.get("MULTIBODIES_CACHE"):
        return pathlib.Path(own).expanduser().absolute()
    shared = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "multibodies_jax"
    try:
        return pathlib.Path.home() / ".cache" / "multibodies_jax"
    except RuntimeError:  # A user without a name, and no HOME.
        return _own_temporary_folder()


def _own_temporary_folder() -> pathlib.Path:
    """A folder among the temporary files that no other user can write to: compiled programs are read from it."""
    folder = pathlib.Path(tempfile.gettempdir()) / f"multibodies_jax-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"{folder} is not this user's alone, and there is no home folder: set MULTIBODIES_CACHE to a folder of yours."
        )
    return folder


def _beside(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{_hidden(path.name)}{os.getpid()}-{uuid.uuid4().hex}{TEMPORARY}")


def _hidden(name: str) -> str:
    """How the temporary names of a file begin; a name that leaves no room for the rest is cut, and told apart by a hash."""
    encoded = os.fsencode(name)
    if len(encoded) > _LONGEST_NAME:
        cut = encoded[: _LONGEST_NAME - 17].decode(errors="ignore")  # At the end of a character.
        name = f"{cut}-{sha256(encoded)[:16]}"
    return f".{name}."
