"""Building a set so that only whole sets are ever visible: one builder at a time, checked before it appears."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Any, ClassVar, cast

import absl.logging
import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from tensorflow_datasets.core import constants, shuffle

from multibodies_jax import io, untrusted
from tfds_builders import workers
from tfds_builders.options import config_name


class BuildError(RuntimeError):
    """A set could not be built or is not whole; the message says what to do."""


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """A builder config that knows what it was made of.

    Attributes:
      base: the config it varies, for instance "clean".
      options: the builder's options.
      provenance: what is stored of the options of a set that is only read; None where they are at hand.
    """

    base: str = ""
    options: Any = None
    provenance: dict[str, Any] | None = None


class BaseBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What all builders of this package share; those of real datasets derive from `archives.ArchiveBuilder`.

    A set is written to a folder of its own, checked, and then renamed: whenever a build is killed, the folder of the
    set is either absent or whole. `self.map` runs functions in worker processes while examples are generated.
    """

    OPTIONS: ClassVar[type]  # The dataclass of the builder's options.
    LENS_PX: ClassVar[float] = 0.0  # How far the lens moves joints3d from where `intrinsics` project them; `verify`.
    LEFT: ClassVar[str] = "Nothing half-built is left."  # By a build that failed.

    num_processes: int | None = None
    map: workers.Map

    def __init__(self, **kwargs: Any):
        """Takes `data_dir` and `config` as every TFDS builder does.

        Raises:
          BuildError: the set is built, and what is stored about it is damaged.
        """
        before = absl.logging.get_verbosity()
        absl.logging.set_verbosity(absl.logging.ERROR)  # A config that the class does not list is no cause for warning.
        try:
            super().__init__(**kwargs)
        except Exception as e:  # TFDS reads what is stored; parsers of damaged files raise almost anything.
            folder = pathlib.Path(kwargs.get("data_dir") or "", self.name, getattr(kwargs.get("config"), "name", ""))
            stored = next(folder.glob("[!.]*/dataset_info.json"), None)
            if stored is None:
                raise
            raise BuildError(
                f"{stored} is damaged ({str(e) or type(e).__name__}). Delete {stored.parent} to build it again, or use "
                "another data_dir."
            ) from e
        finally:
            absl.logging.set_verbosity(before)

    @classmethod
    def make_config(cls, base: str, options: Any) -> Config:
        """The config of some options, named after them."""
        config = Config(name=config_name(base, options), base=base, options=options)
        return next((known for known in cls.BUILDER_CONFIGS if known.name == config.name), config)

    def expected(self) -> dict[str, int | None]:
        """The splits and how many examples each should have, None where that is unknown."""
        raise NotImplementedError

    @classmethod
    def stored_config(cls, data_dir: str, name: str) -> Config | None:
        """The config of a built set whose options its folder knows; None where there is none."""
        del data_dir, name
        return None

    def occlusion_shares(self) -> tuple[float, ...] | None:
        """How often each strategy of occlusion should be found in a split, None where nothing is drawn; for `verify`."""
        return None

    @property
    def base(self) -> str:
        """The base of the config: "clean", whatever the options."""
        return cast(Config, self.builder_config).base

    @property
    def options(self) -> Any:
        """What the set is built with."""
        return cast(Config, self.builder_config).options

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the set as ArrayRecord, unless a whole one is there.

        Raises:
          BuildError: another process builds it, the disk is full, or what is there is damaged or made otherwise.
        """
        if self.data_path.exists():
            check(self)
            return
        with _lock(pathlib.Path(self.data_path).parent), _errors_explained(self):
            if self.data_path.exists():  # Built by the process that held the lock.
                return
            _remove_remains(pathlib.Path(self.data_path).parent)
            kwargs["file_format"] = "array_record"
            with workers.pool(self.num_processes) as self.map, _quiet_tfds(), _kept_in_memory():
                super().download_and_prepare(**kwargs)

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        check_records(self)  # Still in the temporary folder.


def check(builder: tfds.core.DatasetBuilder) -> None:
    """Checks that a built set is whole and made from what its builder would make it from now.

    Raises:
      BuildError: records are missing, or other bodies, poses or options went into it.
    """
    check_records(builder)
    metadata = pathlib.Path(builder.data_path) / "metadata.json"
    try:
        stored = untrusted.read_json(metadata, dict, _advice(builder)) if metadata.exists() else {}
    except untrusted.FileError as e:
        raise BuildError(str(e)) from e
    wanted = json.loads(json.dumps(dict(builder._info().metadata or {})))
    different = [key for key in wanted if stored.get(key) != wanted[key]]
    if different:
        was = ", ".join(f"{key} {stored.get(key)!r} (now {wanted[key]!r})" for key in different)
        raise BuildError(f"{builder.data_path} was built with another {was}. {_advice(builder)}")


def open_split(builder: tfds.core.DatasetBuilder, split: str, decoders: Any = None) -> Sequence[dict[str, Any]]:
    """The random-access examples of one split of a built set, those of `store=path` with their images.

    Args:
      builder: of a built set.
      split: name or TFDS slice.
      decoders: as for `as_data_source`; with them images of `store=path` stay paths.

    Returns:
      The examples. Reading one from a damaged file raises a `BuildError` that names its folder.
    """
    image = dict(cast(tfds.features.FeaturesDict, builder.info.features).items()).get("image")
    if decoders is None and isinstance(image, tfds.features.Image):
        decoders = {"image": _Rgb()}
    return _Explained(cast(Any, builder).as_data_source(split, decoders=decoders), split, _advice(builder))


class _Explained(Sequence):
    """Examples whose damage is reported with the set that they are of; ArrayRecord and TFDS raise many types."""

    def __init__(self, source: Any, split: str, advice: str):
        self._source, self._split, self._advice = source, split, advice

    def __repr__(self) -> str:
        return repr(self._source)  # Loaders compare it with the one that they stored.

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        """An example."""
        with self._explained(f"example {index}"):
            return self._source[index]

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))  # TFDS's sources raise ValueError at their end, not IndexError.

    def __getitems__(self, indices: Iterable[int]) -> Any:
        """Several examples."""
        with self._explained("a block of examples"):
            return self._source.__getitems__(indices)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (BuildError, IndexError):
            raise
        except Exception as e:
            reason = (str(e) or type(e).__name__).partition("\n")[0][:300]
            raise BuildError(f"{what} of the split {self._split} is damaged ({reason}). {self._advice}") from e


class _Rgb(tfds.decode.Decoder):
    """Decodes to RGB at once; TFDS decodes to BGR and copies, which takes a sixth longer."""

    def decode_example(self, encoded: bytes) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise BuildError("A stored image cannot be decoded. `multibodies data verify` names damaged files.")
        return image


def size_on_disk(directory: str | os.PathLike) -> int:
    """Bytes of all files under a directory."""
    return sum(f.stat().st_size for f in pathlib.Path(directory).rglob("*") if f.is_file())


def check_records(builder: tfds.core.DatasetBuilder) -> None:
    """Checks that every shard holds the records it should.

    Raises:
      BuildError: a shard is missing or cut short.
    """
    if not builder.info.splits:
        raise BuildError(f"{builder.data_path} holds no splits. {_advice(builder)}")
    for name, split in builder.info.splits.items():
        for path, expected in _shards(builder, name, split):
            reader = array_record_module.ArrayRecordReader(os.fspath(path))
            found = reader.num_records() if reader.ok() else 0  # Not ok: missing or cut short.
            if found != expected:
                raise BuildError(f"{path} ({name}) is damaged: {found} of {expected} records. {_advice(builder)}")


def _shards(builder: tfds.core.DatasetBuilder, name: str, split: Any) -> list[tuple[Any, int]]:
    """Paths and numbers of records of a split; both come from a stored file, which may be damaged."""
    info = pathlib.Path(builder.data_path) / "dataset_info.json"
    try:
        shards = list(zip(split.filepaths, split.shard_lengths, strict=True))
    except Exception as e:  # The file holds a template; formatting a damaged one raises almost anything.
        raise BuildError(f"{info} is damaged: the files of {name} cannot be told ({e}). {_advice(builder)}") from e
    if outside := [path for path, _ in shards if pathlib.Path(path).parent != info.parent]:
        raise BuildError(
            f"{info} is damaged: a file of {name}, {outside[0]}, is outside its folder. {_advice(builder)}"
        )
    return shards


def _advice(builder: tfds.core.DatasetBuilder) -> str:
    return f"Delete {builder.data_path} to build it again, or use another data_dir."


@contextlib.contextmanager
def _lock(directory: pathlib.Path) -> Iterator[None]:
    """Holds the right to build in a directory."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(io.lock(directory / "building.lock", wait=False))
        except io.LockedError as e:
            raise BuildError(
                f"{directory} is being built by {e.holder}. Start again when it is done, or use another data_dir."
            ) from e
        except OSError as e:
            raise BuildError(f"Cannot write to {directory}: {e.strerror}. Use another data_dir.") from e
        yield


def _remove_remains(directory: pathlib.Path) -> None:
    """Deletes what a killed build left. Only under the lock: no other process is writing there."""
    for remains in directory.glob(f"{constants.INCOMPLETE_PREFIX}*"):
        shutil.rmtree(remains, ignore_errors=True)


@contextlib.contextmanager
def _errors_explained(builder: BaseBuilder) -> Iterator[None]:
    try:
        yield
    except ChildProcessError as e:
        raise BuildError(f"{builder.info.full_name}: {e} {builder.LEFT}") from e
    except (OSError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "write() failed" not in str(e):  # How ArrayRecord says OSError.
            raise
        root = builder.data_dir_root
        free = (
            f"{shutil.disk_usage(root).free / 2**20:.0f} MiB are free there" if root.exists() else "it does not exist"
        )
        raise BuildError(
            f"{builder.info.full_name} could not be written to {root}: {e}. {free}; free some space or use another "
            f"data_dir. {builder.LEFT}"
        ) from e


@contextlib.contextmanager
def _kept_in_memory() -> Iterator[None]:
    """Splits are in memory until they are written. Above 1,000 MiB TFDS would put them into files that TensorFlow opens,
    which need not be installed, and would read them back whole, too."""
    most, shuffle.MAX_MEM_BUFFER_SIZE = shuffle.MAX_MEM_BUFFER_SIZE, sys.maxsize
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = most


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """TFDS announces downloads that never happen, and its bars know no end: the builders show one per split."""
    tfds.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(StringIO()):
            yield
    finally:
        tfds.display_progress_bar(True)
