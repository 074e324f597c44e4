"""One shard of a set: the examples of some tasks in one ArrayRecord file, with a record that says it is finished."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import tensorflow_datasets as tfds
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from multibodies_jax import io, untrusted
from tfds_builders.building import BuildError

_NAMED = 3  # How many of the things that are skipped for one reason are named.


@dataclasses.dataclass(frozen=True)
class Skip:
    """Something in an archive that gives no example: it is counted and reported, never silent.

    Attributes:
      reason: one of a builder's few fixed texts, for instance "no visible joint".
      what: which frame or row, for instance "S9/Directions 1.60457274 frame 15".
    """

    reason: str
    what: str


Make = Callable[[Any], Iterable[dict[str, Any] | Skip]]


@dataclasses.dataclass(frozen=True)
class Job:
    """A shard to be written, by any process.

    Attributes:
      make: an importable function: task -> its examples, and `Skip`s, in order.
      tasks: what it is called with, one after the other.
      features: the feature dictionary of the set.
      path: of the shard; `path` + ".json" is written when it is finished.
      root: the folder that examples with paths instead of images name them from (`store=path`); "" for other sets.
    """

    make: Make
    tasks: tuple[Any, ...]
    features: tfds.features.FeaturesDict
    path: pathlib.Path
    root: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes with the tasks: a shard of other tasks is not this one."""
        return io.sha256(repr((self.make.__module__, self.make.__qualname__, self.tasks)).encode())


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard; one without examples has no file.

    Attributes:
      fingerprint: of its job.
      examples: number of records.
      num_bytes: of all records.
      sha256: of the file.
      skipped: reason -> number, and the first few by name.
    """

    fingerprint: str
    examples: int
    num_bytes: int
    sha256: str
    skipped: dict[str, tuple[int, list[str]]]


def write(job: Job) -> Shard:
    """Writes a shard, unless it is finished already. Memory holds one example at a time.

    Raises:
      BuildError: `make` raised an error; the message names the task.
      RuntimeError: the disk is full, in the words of ArrayRecord.
    """
    if finished := _finished(job):
        return finished
    # Its temporary name is unique: on another machine a worker of a killed build may still be writing.
    with io.replacing(job.path) as temporary:
        shard = _write(job, temporary)
        if not shard.examples:
            temporary.unlink(missing_ok=True)
    io.write_text(_record_path(job), json.dumps(dataclasses.asdict(shard)))
    return shard


def _write(job: Job, path: pathlib.Path) -> Shard:
    examples = num_bytes = 0
    skipped: dict[str, tuple[int, list[str]]] = {}
    serializer = tfds.core.ExampleSerializer(cast(Any, job.features.get_serialized_info()))
    writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1")
    try:
        for example in _examples(job):
            if isinstance(example, Skip):
                skipped = merge(skipped, {example.reason: (1, [example.what])})
                continue
            stored = serializer.get_tf_example(job.features.encode_example(example))
            record = stored.SerializeToString(deterministic=True)  # Same examples, same file, same checksum.
            writer.write(record)
            examples, num_bytes = examples + 1, num_bytes + len(record)
    finally:
        writer.close()
    return Shard(job.fingerprint, examples, num_bytes, io.sha256_of_file(path) if examples else "", skipped)


def read(job: Job) -> Shard:
    """What became of a job that is finished."""
    record = json.loads(_record_path(job).read_text(encoding="utf-8"))
    return Shard(**record | {"skipped": {reason: (count, some) for reason, (count, some) in record["skipped"].items()}})


def merge(a: dict[str, tuple[int, list[str]]], b: dict[str, tuple[int, list[str]]]) -> dict[str, tuple[int, list[str]]]:
    """Adds what was skipped here and there."""
    none: tuple[int, list[str]] = (0, [])
    return {
        reason: (
            a.get(reason, none)[0] + b.get(reason, none)[0],
            (a.get(reason, none)[1] + b.get(reason, none)[1])[:_NAMED],
        )
        for reason in a | b
    }


def _examples(job: Job) -> Iterator[dict[str, Any] | Skip]:
    for task in job.tasks:
        try:
            for example in job.make(task):
                if job.root and not isinstance(example, Skip):
                    _check_path(job.root, example["image"])
                yield example
        except Exception as e:  # Of the archive: readers of damaged files raise almost anything. Not errors of writing.
            kind = "" if isinstance(e, OSError | ValueError | BuildError) else f"{type(e).__name__}: "
            raise BuildError(f"{task}: {kind}{e}") from e


def _check_path(root: str, path: str) -> None:
    """Refuses, while a set is built, a path that will not be read (`linked.Linked`)."""
    try:
        untrusted.inside(root, path)
    except untrusted.FileError as error:
        raise BuildError(
            f"store=path: {error} Or give the folder in which the link stands as --manual_dir, or use store=window."
        ) from error


def _finished(job: Job) -> Shard | None:
    """What an earlier build left, if it is whole and of the same tasks."""
    try:
        shard = read(job)
        same = shard.fingerprint == job.fingerprint and (
            not shard.examples or io.sha256_of_file(job.path) == shard.sha256
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # As of no task.
        return None
    return shard if same else None


def _record_path(job: Job) -> pathlib.Path:
    return job.path.with_name(job.path.name + ".json")
