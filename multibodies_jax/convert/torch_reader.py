"""Reads files of `torch.save` without torch, and without running what they contain: tensors and plain data only.

Two formats: zip archives (torch 1.6 and later) and a stream of pickles followed by the raw storages (before, and with
`_use_new_zipfile_serialization=False`). In both a pickle names storages and how tensors lie in them; here every name in
it resolves to an inert stand-in, or is refused. Storages are read when a tensor is asked for.
"""

import contextlib
import io
import math
import os
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from multibodies_jax.body import pickles

_MAGIC = 0x1950A86A20F9469CFC6C  # Of the stream format, as are the next two.
_PROTOCOL = 1001
_COUNT = np.dtype("<i8")
_LARGEST_PICKLE = 2**26  # Bytes; those of networks have a thousandth of it.
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Inert(metaclass=pickles.Sealed):
    """An object of torch that says nothing about values."""

    __slots__ = ()

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class Storage(_Inert):
    """Numbers in the file: `size` of them from `start` of the one called `key`, which has `whole`."""

    __slots__ = ("dtype", "key", "size", "start", "whole")

    def __init__(self, key: Any, dtype: np.dtype, whole: Any, view: Any = None):
        _, start, size = view if view is not None else (None, 0, whole)
        if not isinstance(key, (str, int)):
            raise pickles.RefusedError(f"it has a storage of the name {pickles.shown(key)}")
        self.key, self.dtype, self.whole, self.start, self.size = str(key), dtype, whole, start, size
        _natural("a storage", self.whole, self.start, self.size)
        if self.start + self.size > self.whole:
            raise ValueError(f"storage {self.key} has {self.whole} numbers, and a part of it reaches further")


class Tensor(_Inert):
    """Where a tensor is: `shape` and `dtype` are known before it is read."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *about: Any):
        if not isinstance(storage, Storage):
            raise pickles.RefusedError("it has a tensor without a storage")
        if any(about[2:]):  # After those of the gradient: whether the numbers are to be negated or conjugated.
            raise pickles.RefusedError(
                f"it has a tensor with the properties {pickles.shown(about[2:])}; save it with .resolve_neg()"
            )
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)
        _natural("a tensor", self.offset, *self.shape, *self.strides)
        steps = [(n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)]
        if 0 not in self.shape and self.offset + sum(steps) >= storage.size:
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage of {storage.size} numbers")
        if math.prod(self.shape) > storage.size:
            raise ValueError(
                f"a tensor of shape {self.shape} repeats a storage of {storage.size} numbers; save it with .contiguous()"
            )

    @property
    def dtype(self) -> np.dtype:
        return self.storage.dtype


class _Parameter(_Inert):
    """A trained tensor; the record of its gradient is dropped."""

    def __new__(cls, tensor: Any, *_: Any) -> Any:
        return tensor


class _Dict(dict, metaclass=pickles.Sealed):
    """An ordered dictionary; state dicts carry versions of their modules as an attribute, which is dropped."""

    def __setstate__(self, _: Any) -> None:
        pass


class _StorageType(metaclass=pickles.Sealed):
    """The type of a storage, only ever named."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: Any):
        self.dtype = np.dtype(dtype)


_ACCEPTED: dict[tuple[str, str], Any] = {
    **pickles.ACCEPTED,
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    ("torch.nn.parameter", "Parameter"): _Parameter,
    ("torch", "Size"): tuple,
    ("torch", "device"): _Inert,
}
for _module in ("torch", "torch.cuda"):
    _ACCEPTED |= {(_module, name): _StorageType(dtype) for name, dtype in _STORAGES.items()}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any):
        pickles.check_memo(file)
        super().__init__(file, encoding="latin1")
        self.sizes: dict[str, int] = {}  # Of one number of each storage, bytes.

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ACCEPTED:
            raise pickles.RefusedError(
                f"it wants to construct {module_name}.{global_name}, which could run code; only tensors and plain data "
                "are accepted. If you trust its source, load it in PyTorch and save the state dict alone: "
                "torch.save(model.state_dict(), FILE)."
            )
        return _ACCEPTED[module_name, global_name]

    def persistent_load(self, pid: Any) -> Any:
        kind, storage_type, key, _, whole, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickles.RefusedError(f"it has a {pickles.shown(kind)} where the storage of a tensor should be")
        storage = Storage(key, storage_type.dtype, whole, *view)
        self.sizes[storage.key] = storage_type.dtype.itemsize
        return storage


class TorchFile:
    """An open file: `root` is what was saved, with `Tensor` for tensors; `read` gives their numbers."""

    def __init__(self, path: str | os.PathLike, root: Any, places: "_Archive | _Stream"):
        self._path, self.root, self._places = path, root, places
        self._last: tuple[str, np.ndarray] = "", np.zeros(0)  # Shared storages would be read again and again.

    def read(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor, in an array of its own in C order.

        Raises:
          ValueError: the file is damaged there.
        """
        storage = tensor.storage
        key = f"{storage.key} {storage.dtype.str}"
        if self._last[0] != key:
            try:
                data = self._places.read(storage.key, storage.whole * storage.dtype.itemsize)
            except Exception as error:  # Zip files fail in many ways.
                raise ValueError(
                    f"{self._path} is damaged at storage {storage.key} ({error}): download it again."
                ) from error
            self._last = key, np.frombuffer(data, storage.dtype.newbyteorder(self._places.order))
        numbers = self._last[1][storage.start : storage.start + storage.size][tensor.offset :]
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, storage.dtype)
        strides = tuple(step * numbers.itemsize for step in tensor.strides)
        view = np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)
        return view.astype(storage.dtype, order="C", copy=True)


@contextlib.contextmanager
def open_file(path: str | os.PathLike) -> Iterator[TorchFile]:
    """Opens a file of `torch.save`, of any version since 0.2.

    Raises:
      RefusedError: it wants to construct anything but tensors and plain data; the message names it.
      ValueError: it is damaged, cut short, or no file of `torch.save`.
      OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            places = _Archive(file) if zipped else _Stream(file)
            opened = TorchFile(path, places.root, places)
        except pickles.RefusedError as error:
            raise pickles.RefusedError(f"{path} was not read: {error}") from None
        except Exception as error:  # A damaged pickle is a program gone wrong: it can fail in any way.
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"{path} ({os.path.getsize(path):,} bytes) is no file of torch.save, is cut short or damaged: {reason}. "
                "Compare its size and checksum with where it came from, and download it again."
            ) from error
        yield opened


class _Archive:
    """The zip format: <name>/data.pkl, <name>/data/<key>, <name>/byteorder."""

    def __init__(self, file: BinaryIO):
        self._zip = zipfile.ZipFile(file)
        roots = [name.removesuffix("data.pkl") for name in self._zip.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"a zip file with {len(roots)} entries named data.pkl, where one was expected")
        self._prefix = roots[0]
        order = f"{self._prefix}byteorder"
        big = order in self._zip.namelist() and self._small(order, len(b"little\n\n")).strip() == b"big"
        self.order: Any = ">" if big else "<"
        self.root = _Unpickler(io.BytesIO(self._small(f"{self._prefix}data.pkl", _LARGEST_PICKLE))).load()

    def _small(self, name: str, most: int) -> bytes:
        """A member of at most this many bytes by the directory; more are not unpacked."""
        if (size := self._zip.getinfo(name).file_size) > most:
            raise ValueError(f"{size:,} bytes in {name}; at most {most:,} were expected")
        return self._zip.read(name)

    def read(self, key: str, size: int) -> bytes:
        info = self._zip.getinfo(f"{self._prefix}data/{key}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != size:
            raise ValueError(f"{info.file_size} bytes in the file; {size} were expected, uncompressed")
        return self._zip.read(info)  # Checks the CRC.


class _Stream:
    """The old format: pickles of a magic number, a version, the system, the object, the keys; then each storage."""

    def __init__(self, file: BinaryIO):
        self._file, self._places = file, {}
        if tarfile.is_tarfile(file):
            raise ValueError("the tar format of torch 0.1: load it and save it again with torch 0.4 to 1.5")
        file.seek(0)
        magic, version, system = (_Unpickler(file).load() for _ in range(3))
        if (magic, version) != (_MAGIC, _PROTOCOL):
            raise ValueError("it does not begin as one")
        self.order: Any = "<" if system.get("little_endian", True) else ">"
        unpickler = _Unpickler(file)
        self.root, keys = unpickler.load(), _Unpickler(file).load()
        end = os.fstat(file.fileno()).st_size
        if not isinstance(keys, (list, tuple)) or not all(isinstance(key, (str, int)) for key in keys):
            raise ValueError(f"its storages have the names {pickles.shown(keys)}")
        for key in map(str, keys):
            numbers = int(np.frombuffer(file.read(8), _COUNT.newbyteorder(self.order))[0])
            self._places[key] = file.tell(), numbers * unpickler.sizes[key]
            if numbers < 0 or sum(self._places[key]) > end:
                raise ValueError(f"storage {key} of {numbers} numbers reaches beyond the end of the file")
            file.seek(sum(self._places[key]))

    def read(self, key: str, size: int) -> bytes:
        start, stored = self._places.get(key, (0, -1))
        if stored != size:
            raise ValueError(f"{stored} bytes in the file; {size} were expected")
        self._file.seek(start)
        return self._file.read(size)


def _natural(what: str, *numbers: Any) -> None:
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"{what} is described by {pickles.shown(numbers)}, where natural numbers were expected")
