"""Opens files that others wrote: JSON, .npy, .npz and images. What is wrong with one is a message, and never a large allocation.

A damaged file makes parsers, zlib and NumPy raise almost anything, and a header of 100 bytes can declare 10^12 numbers.
Here sizes are compared with the file before anything is read, and every way to fail becomes one `ValueError` that says
what is wrong, what was expected and what to do next. A file that is not there stays `FileNotFoundError`.
"""

import contextlib
import difflib
import functools
import json
import math
import os
import pathlib
import threading
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

LARGEST_JSON = 2**28  # Bytes; parsed, JSON takes up to twenty times as much memory.
LARGEST_ARRAY = 2**32  # Bytes of one array of an .npz, unpacked; a bomb of zeros is a thousandth of it on disk.

MOST_PIXELS = 210_000_000  # The largest photographs of phones have 200 megapixels.
IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # None starts a program.

_END_OF_ZIP = 22  # Bytes of the end of a zip archive's directory, without its comment.
_OF_MACOS = "__MACOSX"  # A folder that its zip archives have beside the real ones.
_UNCOUNTED = 0xFFFF  # More members than the end can count.
_MOST_DEPTH = 64  # Of containers in each other: what is read is written back and compared by recursion.
_MOST_MEMBERS = 10_000
_RESEMBLING = 0.75  # `difflib`'s ratio; one letter of four, or three of twelve.
_KINDS = "biufcSU"  # Numbers and text: neither objects, which can hold code, nor records or dates.
_JSON_NAMES = {dict: "an object {...}", list: "a list [...]"}


class FileError(ValueError):
    """A file that cannot be used; the message names it and says what is wrong, what was expected and what to do next."""


def read_json(
    path: str | os.PathLike,
    expected: type | tuple[type, ...] = dict,
    advice: str = "Make or download it again.",
    raises: type[ValueError] = FileError,
    largest: int = LARGEST_JSON,
) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Args:
      path: the file.
      expected: what its outermost value has to be: `dict`, `list`, or both.
      advice: what to do about a file that cannot be used; a sentence.
      raises: the type of the error.
      largest: bytes that the file may have.

    Raises:
      raises: it cannot be read, is larger, is no JSON, is nested too deeply, or holds something else than `expected`.
      FileNotFoundError: there is no such file.
    """
    with _told(path, "as JSON", advice, raises):
        with open(path, "rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > largest:
                raise FileError(f"it has {size:,} bytes, at most {largest:,} are read")
            content = file.read(size)
        return _json(content, expected)


def parse_json(
    content: str | bytes,
    where: str,
    expected: type | tuple[type, ...] = dict,
    advice: str = "Make or download it again.",
    raises: type[ValueError] = FileError,
) -> Any:
    """As `read_json`, of text that is a part of a file; `where` names it in messages."""
    with _told(where, "as JSON", advice, raises):
        return _json(content, expected)


def _json(content: str | bytes, expected: type | tuple[type, ...]) -> Any:
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        value = json.loads(text)
    except RecursionError:
        raise FileError(_too_deep()) from None
    if not isinstance(value, expected):
        kinds = expected if isinstance(expected, tuple) else (expected,)
        wanted = " or ".join(_JSON_NAMES.get(kind, kind.__name__) for kind in kinds)
        raise FileError(f"it holds {_shortened(json.dumps(value))}, and {wanted} was expected")
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_MOST_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return value
    raise FileError(_too_deep())


def _too_deep() -> str:
    return f"its lists and objects lie more than {_MOST_DEPTH} deep in each other"


def read_npy(
    path: str | os.PathLike,
    advice: str = "Make or download it again.",
    raises: type[ValueError] = FileError,
    mapped: bool = False,
) -> np.ndarray:
    """The array of an .npy file: numbers or text.

    Args:
      path: the file.
      advice: what to do about a file that cannot be used; a sentence.
      raises: the type of the error.
      mapped: leave the numbers on disk (`numpy.memmap`, read only).

    Raises:
      raises: it is no .npy file, holds Python objects, or is not as long as its header says.
      FileNotFoundError: there is no such file.
    """
    with _told(path, "as one plain array (.npy)", advice, raises), open(path, "rb") as file:
        if file.read(2) == b"PK":
            raise FileError("it is an archive of arrays with the ending of a single one: rename it to .npz")
        file.seek(0)
        _check_header(file, os.fstat(file.fileno()).st_size)
        file.seek(0)
        if mapped:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return _checked_text(np.lib.format.read_array(file, allow_pickle=False))


class Npz(Mapping[str, np.ndarray]):
    """The arrays of an .npz by name, each read when it is asked for; close it after use (`open_npz` does)."""

    def __init__(
        self, path: str | os.PathLike, advice: str, raises: type[ValueError] = FileError, largest: int = LARGEST_ARRAY
    ):
        """Opens a file; arguments and errors are those of `open_npz`."""
        self._path, self._advice, self._raises, self._largest = path, advice, raises, largest
        with self._told(), contextlib.ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            start = file.read(6)
            if start == b"\x93NUMPY":
                raise FileError("it is a single array with the ending of an archive: rename it to .npy")
            self._zip = stack.enter_context(zipfile.ZipFile(file))
            check_count(self._zip, path)
            self._members = self._checked(self._zip)
            self._stack = stack.pop_all()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> np.ndarray:
        """An array of numbers or text.

        Raises:
          ValueError: of the type that was asked for: there is none of this name, or it is damaged.
        """
        with self._told():
            if name not in self._members:
                raise FileError(f"it has no array {name!r}; it has {_listed(self)}")
            info = self._members[name]
            with self._told_array(name):
                with self._zip.open(info) as stream:
                    _check_header(stream, info.file_size)
                with self._zip.open(info) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
                    stream.read(1)  # At its end the checksum is compared.
                return _checked_text(array)

    def content(self, name: str) -> bytes:
        """The bytes of a member as they are, for readers of what is no plain array; as `__getitem__` otherwise."""
        with self._told():
            if name not in self._members:
                raise FileError(f"it has no array {name!r}; it has {_listed(self)}")
            with self._told_array(name), self._zip.open(self._members[name]) as stream:
                return stream.read()

    @property
    def unpacked_bytes(self) -> int:
        """Of all arrays together, as the directory says."""
        return sum(info.file_size for info in self._members.values())

    def close(self) -> None:
        """Closes the file; arrays that were read stay."""
        self._stack.close()

    def _told(self) -> contextlib.AbstractContextManager[None]:
        return _told(self._path, "as an archive of arrays (.npz)", self._advice, self._raises)

    @contextlib.contextmanager
    def _told_array(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise FileError(f"its array {name!r} is damaged or no plain array: {_reason(error)}") from error

    def _checked(self, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        """The members by the names of their arrays, after a look at what the directory says of each."""
        infos = file.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise FileError(f"it has {len(infos):,} members, at most {_MOST_MEMBERS:,} are read")
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if not visible(pathlib.PurePosixPath(info.filename)):
                continue
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in members:
                raise FileError(f"its member {_shortened(info.filename)!r} is no .npy file, or there twice")
            if info.file_size > self._largest:
                raise FileError(f"its array {name!r} has {info.file_size:,} bytes, at most {self._largest:,} are read")
            with self._told_array(name), file.open(info):
                pass  # Compares the name in the directory with that before the data; refuses encrypted ones.
            members[name] = info
        return members


@contextlib.contextmanager
def open_npz(
    path: str | os.PathLike,
    advice: str = "Make or download it again.",
    raises: type[ValueError] = FileError,
    largest: int = LARGEST_ARRAY,
) -> Iterator[Npz]:
    """Opens an .npz; its arrays are read on access, so that members that are not needed cost nothing.

    Args:
      path: the file.
      advice: what to do about a file that cannot be used; a sentence.
      raises: the type of the error.
      largest: bytes that one array may have.

    Raises:
      raises: it is no .npz, its directory and its members disagree in a name, a member is larger, encrypted, there
        twice or no .npy file.
      FileNotFoundError: there is no such file.
    """
    archive = Npz(path, advice, raises, largest)
    try:
        yield archive
    finally:
        archive.close()


def read_npz(
    path: str | os.PathLike,
    advice: str = "Make or download it again.",
    raises: type[ValueError] = FileError,
    largest: int = LARGEST_ARRAY,
) -> dict[str, np.ndarray]:
    """All arrays of an .npz; as `open_npz`, where `largest` is for all of them together."""
    with open_npz(path, advice, raises, largest) as archive:
        total = archive.unpacked_bytes
        if total > largest:
            raise raises(f"{path}: its arrays have {total:,} bytes, at most {largest:,} are read. {advice}")
        return dict(archive)


def misspelt(names: Collection[str], known: Collection[str]) -> str:
    """Which unknown name resembles a known one that is not there, for a message; "" if none.

    Otherwise something optional would count as absent when its name is misspelt. Other unknown names are left alone.

    Args:
      names: of the arrays or keys in a file.
      known: the names that have a meaning.
    """
    pair = _resembling(frozenset(names), frozenset(known))
    return f"has {_shortened(pair[0])!r}, and {pair[1]!r}, which it resembles, is absent" if pair else ""


@functools.lru_cache(maxsize=256)  # The entries of a file have few sets of keys.
def _resembling(names: frozenset[str], known: frozenset[str]) -> tuple[str, str] | None:
    """An unknown name and the absent known one that it resembles most, or None."""
    absent = {name.lower(): name for name in sorted(known - names)}
    for name in sorted(names - known):
        if near := difflib.get_close_matches(name.lower(), absent, 1, _RESEMBLING):
            return name, absent[near[0]]
    return None


def inside(folder: str | os.PathLike, name: str) -> pathlib.Path:
    """The path of a file that another file names; it has to lie in a folder, also after links are followed.

    Folders directly in `folder` may be links: people put together an archive like this. No other link may lead out.

    Args:
      folder: the folder, which may be a link itself.
      name: relative to it, with `/`.

    Raises:
      FileError: the name is absolute, or leads out of the folder by `..` or by a link.
    """
    try:
        parts = pathlib.PurePosixPath(name).parts
        if parts and ".." not in parts and not os.path.isabs(name):
            real = os.path.realpath(os.path.join(folder, name))
            roots = [os.path.realpath(os.path.join(folder, part)) for part in ("", parts[0])[: len(parts)]]
            if any(os.path.commonpath([root, real]) == root for root in roots):
                return pathlib.Path(folder, name)
    except (ValueError, TypeError):  # A zero byte, or no text.
        pass
    raise FileError(
        f"the name {_shortened(repr(name), 200)} leads out of {os.fspath(folder)}, where the file itself has to be; "
        "nothing outside is read. Copy it there if it is right."
    )


def files_below(root: str | os.PathLike) -> list[pathlib.Path]:
    """All files in a folder and its folders, sorted, without hidden ones and what macOS adds.

    Folders that are links are entered, as people put together an archive like this; not those that lead back to where they
    stand in.
    """
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        inner = ((name, os.path.realpath(os.path.join(folder, name))) for name in folders)
        folders[:] = [name for name, target in inner if os.path.commonpath([real, target]) != target]
        found += [pathlib.Path(folder, name) for name in names]
    return sorted(path for path in found if path.is_file() and visible(path, root))


def visible(path: pathlib.PurePath, root: str | os.PathLike = "") -> bool:
    """Whether nothing of a path below a folder is hidden, or what macOS adds: `._NAME` beside each NAME, and `__MACOSX`."""
    parts = path.relative_to(root).parts
    return not any((part.startswith(".") and part not in (".", "..")) or part == _OF_MACOS for part in parts)


def check_count(archive: zipfile.ZipFile, path: str | os.PathLike) -> None:
    """Compares the members of a zip archive with the number that its end states; `zipfile` drops some where they differ.

    Args:
      archive: an open archive.
      path: its file.

    Raises:
      FileError: they differ.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_OF_ZIP - 2**16))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END_OF_ZIP + 4)
    stated, found = int.from_bytes(tail[at + 10 : at + 12], "little"), len(archive.infolist())
    if stated not in (found, _UNCOUNTED):
        raise FileError(f"its directory is damaged: it has {found} members and states {stated}")


_LISTS = (b"ffconcat", b"#EXTM3U", b"v=0", b"<?xml", b"<MPD", b"[playlist]", b"RTSP")
_MARK = b"\xef\xbb\xbf"  # Of UTF-8.


def check_video(path: str | os.PathLike) -> None:
    """Refuses a text under the name of a video that lists other files or addresses, which decoders would open.

    Raises:
      FileError: it is one (FFconcat, HLS, DASH, SDP).
      OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        start = file.read(64).removeprefix(_MARK).lstrip()
    if start.startswith(_LISTS):
        raise FileError(
            f"{path} is no video but a list of others ({_shortened(repr(start))}); give the videos themselves."
        )


def hdf5_dataset(file: Any, name: str) -> Any:
    """The data of a name in an open file of h5py, which lie in that file: HDF5 can point to other files, of any kind.

    Raises:
      FileError: they lie in another file.
      KeyError: there is no such name.
    """
    return own_hdf5(file[name], name) if type(file.get(name, getlink=True)).__name__ == "HardLink" else _outside(name)


def own_hdf5(data: Any, name: str) -> Any:
    """A dataset (or group) of h5py, unless what it holds lies in another file.

    Raises:
      FileError: it does.
    """
    return _outside(name) if getattr(data, "external", None) or getattr(data, "is_virtual", False) else data


def _outside(name: str) -> Any:
    raise FileError(f"{_shortened(name)} of it lies in another file, and nothing outside is read")


_pillow_limit = threading.Lock()


def open_image(path: str | os.PathLike) -> "Image.Image":
    """Opens an image of `IMAGE_FORMATS`, whatever its name; its pixels are decoded later. Close it after use.

    Pillow knows formats whose reading starts another program (EPS: Ghostscript); these are not tried.

    Raises:
      FileError: it has more than `MOST_PIXELS`, or is none of these formats.
      OSError: it cannot be opened. A damaged file can raise anything.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [name for name in IMAGE_FORMATS if name in Image.OPEN]  # AVIF is not in every build.
    with _pillow_limit:  # Pillow's own limit is half as large; it is the setting of a module.
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path, formats=formats)
        except UnidentifiedImageError as error:
            raise FileError(f"it is damaged or none of {', '.join(formats)}: save it as JPEG or PNG") from error
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise FileError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS:,}: make it smaller")
    return image


def _check_header(stream: BinaryIO | zipfile.ZipExtFile | Any, size: int) -> None:
    """Compares what an .npy file says of its array with the bytes that there are, before an array is made."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise FileError(f"its format has the version {version}, and 1.0 and 2.0 are known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise FileError("it holds Python objects, which can hold code and are not opened (allow_pickle=False)")
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise FileError(f"it has the type {dtype}, and numbers or text were expected")
    declared, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or declared != there:
        raise FileError(f"its header declares {dtype} {shape}, {declared:,} bytes, and there are {there:,}")


def _checked_text(array: np.ndarray) -> np.ndarray:
    """The array, unless it is of text with numbers that are no characters: printing it would fail."""
    if array.dtype.kind == "U":
        codes = array.ravel(order="K").view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if np.any((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))):
            raise FileError("its text has numbers that are no characters of Unicode")
    return array


@contextlib.contextmanager
def _told(where: str | os.PathLike, what: str, advice: str, raises: type[ValueError]) -> Iterator[None]:
    """Turns every error of reading into `raises`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # Parsers, zlib and NumPy raise almost anything on damaged files.
        raise raises(f"{os.fspath(where)} cannot be read {what}: {_reason(error)}. {advice}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it does not fit into the memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (_shortened(str(error), 300) or type(error).__name__).rstrip(".")


def _listed(names: Mapping[str, Any]) -> str:
    some = list(names)[:20]
    return ", ".join(map(repr, some)) + (", ..." if len(names) > len(some) else "") if some else "none"


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
