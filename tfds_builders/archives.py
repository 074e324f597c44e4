"""What the builders of real datasets share: an archive under --manual_dir, read task by task, by any number of processes."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from jaxtyping import UInt8

from multibodies_jax import io, untrusted
from tfds_builders import building, features, linked, on_beam, options, shards
from tfds_builders.building import BuildError
from tfds_builders.shards import Skip

__all__ = ["ArchiveBuilder", "ArchiveOptions", "BuildError", "Skip", "stored_image"]

MOST_SHARDS = 256  # Of a split: a training mixture opens all shards of all its sets at once.
_LISTED = 20  # Names shown of what is there instead of what is needed.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """Options of every set made from an archive; `ValueError` where they make no sense."""

    jpeg_quality: int = options.option(
        0, "jpeg{}", "JPEG quality of the images of the train split, 1 to 100; 0 is PNG, without loss"
    )
    store: str = options.option(
        "window", "{}", "what examples hold of an image: `window`, its pixels around the person; `path`, where it is"
    )

    def __post_init__(self):
        if not 0 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality is from 1 to 100, or 0 for PNG, got {self.jpeg_quality}.")
        if self.store not in ("window", "path"):
            raise ValueError(f"store is `window` or `path`, got {self.store!r}.")
        if self.store == "path" and self.jpeg_quality:
            raise ValueError("store=path stores no images: leave jpeg_quality out.")


class ArchiveBuilder(building.BaseBuilder, skip_registration=True):
    '''A set made from files that a person has downloaded to `manual_dir`.

    A builder says what is to be done (`tasks`) and how one task is done (`make`). This class does the rest: processes,
    shards, continuing after an interruption, progress, counting what was skipped. For instance:

        @dataclasses.dataclass(frozen=True)
        class Task:  # Small, picklable, its repr says which it is: an error shows it.
            root: pathlib.Path
            split: str
            sequence: str
            options: archives.ArchiveOptions

        class Builder(archives.ArchiveBuilder):
            """One line: what the set is."""

            VERSION = tfds.core.Version("1.0.0")
            RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
            OPTIONS = archives.ArchiveOptions  # Or a subclass, with more `options.option` fields.
            BUILDER_CONFIGS: ClassVar = [building.Config(name="all", base="all", options=OPTIONS())]
            HOMEPAGE, CITATION = "https://...", "@inproceedings{...}"
            MANUAL_DOWNLOAD_INSTRUCTIONS = "Register at https://... MANUAL_DIR must hold:\\n  images/*.jpg\\n  poses.npz"

            def expected(self):
                return {"train": 312_188, "test": None}  # The splits; of the complete archive, None where unknown.

            def tasks(self, split):
                root = self.archive("poses.npz")  # BuildError with the expected and the found tree if it is missing.
                return [Task(root, split, name, self.options) for name in sorted(...)]

            @staticmethod
            def make(task):
                for frame in ...:
                    if not visible.any():
                        yield archives.Skip("no visible joint", f"{task.sequence} frame {frame}")
                        continue
                    pixels, window = windows.cut(image, center, scale)
                    image = archives.stored_image(pixels, task.options, task.split, path="images/000001.jpg")
                    yield features.example(image=image, window=window, dataset="h36m", ...)

    `make` is a generator, so that memory does not grow with a task; it depends on nothing but its task. A task should
    take seconds to a minute (a video, a block of 500 rows). `tasks` is quick and sorted: examples are stored in the
    order of the tasks, whatever the number of processes. An error out of `make` stops the build with the name of the
    task; what is merely unusable is a `Skip`.
    '''

    OPTIONS: ClassVar[type] = ArchiveOptions
    HOMEPAGE: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""
    LEFT: ClassVar[str] = "What is finished is kept: the same command goes on from there."

    manual_dir: pathlib.Path | None = None
    beam_runner: str = ""  # Instead of processes on this machine.
    beam_options: str = ""

    def expected(self) -> dict[str, int | None]:
        """The splits, with the number of examples that the complete archive gives, None where that is unknown."""
        raise NotImplementedError

    def tasks(self, split: str) -> Sequence[Any]:
        """What there is to do for a split, in the order of its examples; empty leaves the split out."""
        raise NotImplementedError

    @staticmethod
    def make(task: Any) -> Iterable[dict[str, Any] | Skip]:
        """The examples of one task, in order; runs in a worker process."""
        raise NotImplementedError

    def feature_dictionary(self) -> tfds.features.FeaturesDict:
        """`features.features`, unless the set has people without images."""
        return features.features("path" if self.options.store == "path" else "png")

    def archive(self, *needed: str) -> pathlib.Path:
        """The folder of the archive, which holds what is needed (paths or glob patterns in it).

        Raises:
          BuildError: no folder was given, or something is missing: what was expected and what is there.
        """
        if self.manual_dir is None:
            raise BuildError(f"{self.name} needs --manual_dir=DIR. {self.needs()}")
        if not self.manual_dir.is_dir():
            raise BuildError(f"--manual_dir={self.manual_dir} is not a folder. {self.needs()}")
        for pattern in needed:
            if not any(untrusted.visible(path, self.manual_dir) for path in self.manual_dir.glob(pattern)):
                raise self.missing(pattern)
        return self.manual_dir

    def missing(self, what: str) -> BuildError:
        """The error to raise where something is missing in the archive."""
        root = self.manual_dir or pathlib.Path()
        names = sorted(f"{p.name}/" if p.is_dir() else p.name for p in root.iterdir())
        more = [f"... and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
        listing = "\n".join(f"  {name}" for name in [*names[:_LISTED], *more]) or "  nothing"
        return BuildError(f"{self.name}: there is no {what} in {root}. {self.needs()}\nFound there:\n{listing}")

    def needs(self) -> str:
        """What the archive is, where to register for it, and what its folder must hold."""
        return str(self.MANUAL_DOWNLOAD_INSTRUCTIONS).strip()

    def _info(self) -> tfds.core.DatasetInfo:
        config = cast(building.Config, self.builder_config)
        record = options.provenance(self.options) if config.provenance is None else config.provenance
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{(type(self).__doc__ or '').strip()} Made with {record}.",
            features=self.feature_dictionary(),
            homepage=self.HOMEPAGE or None,
            citation=self.CITATION or None,
            disable_shuffling=True,  # The order of the tasks.
            metadata=tfds.core.MetadataDict(record),
        )

    @classmethod
    def stored_config(cls, data_dir: str, name: str) -> building.Config | None:
        """The config of a set that is built, by the name of its folder ("official-jpeg90"); None where there is none."""
        path = pathlib.Path(data_dir, cls.name, name, str(cls.VERSION), "metadata.json")
        if "/" in name or not path.exists():
            return None
        advice = f"Delete {path.parent} to build it again."
        try:
            record = untrusted.read_json(path, dict, advice)
        except untrusted.FileError as e:
            raise BuildError(str(e)) from e
        fields = [field.name for field in dataclasses.fields(cls.OPTIONS) if not field.metadata["file"]]
        try:
            chosen = cls.OPTIONS(
                **{field: record[field] for field in fields}
            )  # Without its files, which only building needs.
            provenance = {key: record[key] for key in options.provenance(chosen)}
            return building.Config(name=name, base=record["config"], options=chosen, provenance=provenance)
        except (KeyError, TypeError, ValueError) as e:
            raise BuildError(
                f"{path} is damaged: it lacks an option of the set, or has a wrong one ({e!r}). {advice}"
            ) from e

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the set from `download_config.manual_dir`, from where an interrupted build of it stopped."""
        config = kwargs.get("download_config")
        if config is not None and config.manual_dir:
            self.manual_dir = pathlib.Path(os.fspath(config.manual_dir)).absolute()
        super().download_and_prepare(**kwargs)
        shutil.rmtree(self._unfinished(), ignore_errors=True)
        if self.options.store == "path" and self.manual_dir is not None:
            self._link()

    def _link(self) -> None:
        """Stores where the images are: where the archive was found last, so that it may be moved."""
        path = pathlib.Path(self.data_path) / "metadata.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("manual_dir") != str(self.manual_dir):
            io.write_text(path, json.dumps(record | {"manual_dir": str(self.manual_dir)}))
        cast(dict, self.info.metadata)["manual_dir"] = str(self.manual_dir)

    def as_data_source(self, split: Any = None, *, decoders: Any = None, **kwargs: Any) -> Any:
        """As TFDS's, but examples of `store=path` come with their images; not with `decoders`, which leave the path."""
        source = cast(Any, super()).as_data_source(split, decoders=decoders, **kwargs)
        if self.options.store != "path" or decoders is not None:
            return source
        root = cast(dict, self.info.metadata)["manual_dir"]
        advice = (
            f"The set was built with store=path from {root}. If it was moved, build again with the new --manual_dir: "
            "that takes no time."
        )

        def link(one: Any) -> Any:
            return [link(each) for each in one] if isinstance(one, list) else linked.Linked(one, root, advice)

        return {name: link(one) for name, one in source.items()} if isinstance(source, dict) else link(source)

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        self._unfinished().mkdir(exist_ok=True)
        for remains in self._unfinished().glob(f"*{io.TEMPORARY}"):  # Of a killed build; the lock keeps others out.
            remains.unlink()
        jobs = {split: self._jobs(split) for split in self.expected()}
        made = iter([*self._write([job for some in jobs.values() for job in some])])
        splits, record = [], {"config": self.base, "expected": self.expected(), "skipped": {}, "sha256": {}}
        for split, some in jobs.items():
            pairs = [(job, next(made)) for job in some]
            record["skipped"][split] = functools.reduce(shards.merge, (shard.skipped for _, shard in pairs), {})
            if whole := [(job, shard) for job, shard in pairs if shard.examples]:
                splits.append(self._place(split, whole, record["sha256"]))
        if not splits:
            raise BuildError(f"{self.info.full_name}: no example in all of {self.manual_dir}. {self.needs()}")
        if self.options.store == "path":
            record["manual_dir"] = str(self.manual_dir)
        cast(Any, self.info).set_splits(tfds.core.SplitDict(splits))
        cast(dict, self.info.metadata).update(record)
        building.check_records(self)

    def _split_generators(self, dl_manager: Any) -> Any:
        raise NotImplementedError("Archives are written shard by shard, not by TFDS's writer.")

    _generate_examples = _split_generators

    def _unfinished(self) -> pathlib.Path:
        """Where finished shards wait for the rest; survives interruptions."""
        return pathlib.Path(self.data_path).parent / f"unfinished_{self.version}"

    def _jobs(self, split: str) -> list[shards.Job]:
        """The shards of a split; they depend on its tasks only."""
        try:
            tasks = tuple(self.tasks(split))
        except OSError as e:
            raise BuildError(f"{self.name}: the archive cannot be read: {e}") from e
        each = -(-len(tasks) // MOST_SHARDS) or 1
        dictionary, make = self.feature_dictionary(), type(self).make
        root = str(self.manual_dir) if self.options.store == "path" else ""
        return [
            shards.Job(make, tasks[i : i + each], dictionary, self._unfinished() / f"{split}-{i // each:05d}", root)
            for i in range(0, len(tasks), each)
        ]

    def _write(self, jobs: list[shards.Job]) -> Iterator[shards.Shard]:
        """Writes all shards; yields what became of them in order, and shows how far it is."""
        if self.beam_runner:
            on_beam.run(shards.write, jobs, self.beam_runner, self.beam_options)
        made = map(shards.read, jobs) if self.beam_runner else self.map(shards.write, jobs)
        examples = 0
        with tqdm.tqdm(total=sum(len(job.tasks) for job in jobs), desc=self.name, unit=" tasks") as bar:
            for job, shard in zip(jobs, made, strict=True):
                examples += shard.examples
                bar.set_postfix_str(f"{examples} examples", refresh=False)
                bar.update(len(job.tasks))
                yield shard

    def _place(
        self, split: str, whole: list[tuple[shards.Job, shards.Shard]], sha256: dict[str, str]
    ) -> tfds.core.SplitInfo:
        """Puts finished shards under their final names into the folder that becomes the set."""
        template = tfds.core.ShardedFileTemplate(
            data_dir=self.data_path, dataset_name=self.name, split=split, filetype_suffix="array_record"
        )
        for number, (job, shard) in enumerate(whole):
            path = os.fspath(template.sharded_filepath(shard_index=number, num_shards=len(whole)))
            try:
                os.link(job.path, path)  # Not moved: a build that is killed now starts again from all shards.
            except OSError:  # A file system without links.
                os.replace(job.path, path)
            sha256[pathlib.Path(path).name] = shard.sha256
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.examples for _, shard in whole],
            num_bytes=sum(shard.num_bytes for _, shard in whole),
            filename_template=template,
        )


def stored_image(
    pixels: UInt8[np.ndarray, "h w 3"], chosen: ArchiveOptions, split: str, path: str | None = None
) -> bytes | str:
    """The feature `image` as the options want it stored.

    Args:
      pixels: the window, RGB.
      chosen: the options of the set.
      split: only the train split may lose anything.
      path: of the whole image, relative to the archive's folder, with slashes; None for a frame of a video.

    Raises:
      ValueError: store=path, but there is no image file.
    """
    if chosen.store == "path":
        if not path:
            raise ValueError("store=path needs image files, and this archive has videos. Use store=window.")
        return path
    if chosen.jpeg_quality and split == "train":
        return features.encode_image(pixels, "jpeg", chosen.jpeg_quality)
    return features.encode_image(pixels)


def report(builder: tfds.core.DatasetBuilder) -> list[str]:
    """What a built set holds, against what was expected, and what was left out: lines for people."""
    metadata, splits = cast(dict[str, Any], builder.info.metadata or {}), builder.info.splits
    lines = []
    for split, expected in metadata.get("expected", {}).items():
        examples = splits[split].num_examples if split in splits else 0
        differs = expected is not None and examples != expected
        lines.append(f"{split}: {examples} examples" + (f", but the complete archive gives {expected}" * differs))
        for reason, (count, some) in metadata["skipped"][split].items():
            lines.append(f"  {count} skipped: {reason} ({', '.join(some)}{', ...' * (count > len(some))})")
    return lines
