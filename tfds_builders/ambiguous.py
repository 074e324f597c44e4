"""Ambiguous sets: the people of another set in crops that leave parts of them out (appendix B; AH36M, A3DPW).

Three readings, three configs, because their numbers cannot be compared: `paper` as the text says, `released_train` as
the authors' training code draws, `released_crops` with the crops that the authors tested on.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float

from multibodies_jax.data import occlusion
from multibodies_jax.geometry import boxes
from tfds_builders import archives, building, features, options
from tfds_builders.archives import BuildError, Skip
from tfds_builders.sources import released_crops, trees

PAPER, RELEASED_TRAIN, RELEASED_CROPS = "paper", "released_train", "released_crops"
# What the training code hides for its types NONE, LEGS, ARMS+HEAD and "HEAD", which in fact are the arms.
RELEASED_HIDDEN = (*occlusion.HIDDEN_JOINTS[:3], (6, 7, 8, 9, 10, 11))
NOT_DRAWN = -1  # As the seed of an example: the authors published crops, but neither strategies nor seeds.

BLOCK = 500  # Examples of a task: they are copied, not encoded again.
_DESCRIPTIONS = {
    PAPER: "Strategies and probabilities of appendix B, crops around what stays visible padded by 1.1. To be tested on.",
    RELEASED_TRAIN: "What the authors' code draws in training: the type called HEAD hides the arms, and crops are tight.",
    RELEASED_CROPS: "The authors' test crops (--crops=FILE), nothing hidden: comparable with the published numbers.",
}
_SPLITS = {PAPER: ("validation", "test"), RELEASED_TRAIN: ("train", "validation", "test"), RELEASED_CROPS: ("test",)}

Box = tuple[Float[np.ndarray, "2"], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options that ambiguous sets have beside those of the set they are made from."""

    seed: int = options.option(0, "seed{}", "of the strategies of paper and released_train; always in the name")
    made_from: str = options.option(
        "official", "from_{}", "config of the set that an ambiguous set is made from: ah36m of h36m, a3dpw of threedpw"
    )
    crops: str = options.option(
        "", "{}", "the authors' crops, h36m-p2_amb3.npz or 3dpw_amb3.npz, for released_crops", file=True
    )

    def __post_init__(self):
        getattr(super(), "__post_init__", lambda: None)()
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be within [0, 2^31), got {self.seed}.")
        if self.crops and not pathlib.Path(self.crops).is_file():
            raise ValueError(f"There is no file of crops {self.crops!r}.")


@dataclasses.dataclass(frozen=True)
class Task:
    """Some examples of the set that an ambiguous set is made from."""

    builder: type
    data_dir: str
    made_from: str
    options: Any
    split: str
    first: int
    count: int
    rule: str
    seed: int
    files: released_crops.Files | None
    changed: int  # When the other set was: an unfinished build from an earlier one is not gone on with.


class AmbiguousBuilder(archives.ArchiveBuilder, skip_registration=True):
    """People of `BASE`, with all of its options, seen ambiguously; a subclass says where the authors' rows belong."""

    BASE: ClassVar[type[archives.ArchiveBuilder]]
    LIST: ClassVar[str]  # The list whose rows the authors' crops have.
    ROWS: ClassVar[int]  # Of that list.

    @staticmethod
    def image_of(imgname: str) -> str:
        """The part of example ids that all people of an image share, from the image's name in the authors' list.

        Raises:
          ValueError: a name of another kind.
        """
        raise NotImplementedError

    @classmethod
    def make_config(cls, base: str, options: Any) -> building.Config:
        """The config of a reading; what is drawn has its seed in the name, also the default one."""
        known = [config.name for config in cls.BASE.BUILDER_CONFIGS]
        if options.made_from not in known:
            raise ValueError(
                f"made_from is a config of {cls.BASE.name}: {', '.join(known)}; got {options.made_from!r}."
            )
        if base == RELEASED_CROPS:
            if options.seed:
                raise ValueError(f"{base} draws nothing: leave seed={options.seed} out.")
            return super().make_config(base, options)
        config = super().make_config(f"{base}-seed{options.seed}", dataclasses.replace(options, seed=0))
        return building.Config(name=config.name, base=base, options=options, description=_DESCRIPTIONS[base])

    def expected(self) -> dict[str, int | None]:
        """The splits of a reading; those of the complete set."""
        if self.base == RELEASED_CROPS:
            return {"test": self.ROWS}
        known = self.made_from().expected()
        return {split: known[split] for split in _SPLITS[self.base] if split in known}

    def occlusion_shares(self) -> tuple[float, ...] | None:
        """How often each strategy should be found, None where that is unknown."""
        return None if self.base == RELEASED_CROPS else occlusion.PROBABILITIES

    def feature_dictionary(self) -> tfds.features.FeaturesDict:
        """That of all sets, and the seed that the strategy was drawn with."""
        return tfds.features.FeaturesDict(
            {**super().feature_dictionary(), "occlusion_seed": tfds.features.Scalar(np.int32)}
        )

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        if cast(building.Config, self.builder_config).provenance is None:  # Otherwise it is read, not built.
            cast(dict, info.metadata)["source_set"] = self.made_from().info.full_name
        return info

    def made_from(self) -> archives.ArchiveBuilder:
        """The builder of the set that this one is made from, with the same options."""
        names = [field.name for field in dataclasses.fields(self.BASE.OPTIONS)]
        chosen = self.BASE.OPTIONS(**{name: getattr(self.options, name) for name in names})
        return _made_from(type(self), self.data_dir_root, self.options.made_from, chosen)

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the set; first the one that it is made from, unless that is there."""
        made_from = self.made_from()
        if not self.data_path.exists():
            made_from.num_processes = self.num_processes
            made_from.beam_runner, made_from.beam_options = self.beam_runner, self.beam_options
            made_from.download_and_prepare(**kwargs)
        if self.options.store == "path" and made_from.data_path.exists():
            self.manual_dir = pathlib.Path(cast(dict, made_from.info.metadata)["manual_dir"])
        super().download_and_prepare(**kwargs)

    def tasks(self, split: str) -> Sequence[Any]:
        """Blocks of the examples of the other set, in their order; before that is built, the work of building it."""
        made_from = self.made_from()
        if not made_from.data_path.exists():
            made_from.manual_dir = self.manual_dir
            try:
                return made_from.tasks(split)
            except BuildError as error:  # This set needs more.
                raise BuildError(str(error).replace(made_from.needs(), self.needs())) from error
        files = self._files() if self.base == RELEASED_CROPS else None
        seed = NOT_DRAWN if files else self.options.seed
        count = made_from.info.splits[split].num_examples if split in made_from.info.splits else 0
        changed = pathlib.Path(made_from.data_path / "metadata.json").stat().st_mtime_ns
        where = os.fspath(self.data_dir_root), self.options.made_from, made_from.options, split
        return [
            Task(type(self), *where, first, min(BLOCK, count - first), self.base, seed, files, changed)
            for first in range(0, count, BLOCK)
        ]

    @staticmethod
    def make(task: Task) -> Iterator[dict[str, Any] | Skip]:
        """The examples of a block, seen ambiguously."""
        made_from = _made_from(task.builder, task.data_dir, task.made_from, task.options)
        stores_pixels = made_from.options.store != "path"
        decoders = {"image": tfds.decode.SkipDecoding()} if stores_pixels else {}  # Pixels are copied as they are.
        source = building.open_split(made_from, task.split, decoders)
        for index in range(task.first, task.first + task.count):
            yield from ambiguous_example(source[index], task)

    def _files(self) -> released_crops.Files:
        """The authors' crops and the list that they belong to."""
        if not self.options.crops:
            raise BuildError(
                f"{self.name}/{RELEASED_CROPS} needs --crops=FILE: the authors published their test crops as "
                "h36m-p2_amb3.npz and 3dpw_amb3.npz (shared folder of 3D Multi-bodies). How they were drawn is not known, so "
                f"that nothing else is called so; {self.name}/{PAPER} draws crops as the paper describes."
            )
        path = pathlib.Path(self.options.crops).absolute()
        roots = [path.parent, *([self.manual_dir] if self.manual_dir else [])]
        found = next((place for root in roots if (place := trees.find(root, self.LIST))), None)
        if found is None:
            raise BuildError(
                f"{path.name} has crops for the rows of {self.LIST}, which is neither beside it nor in --manual_dir "
                f"({self.manual_dir or 'not given'}). Put it there."
            )
        return released_crops.Files.at(found, path)


def _made_from(builder: Any, data_dir: str | os.PathLike, base: str, options: Any) -> archives.ArchiveBuilder:
    return builder.BASE(data_dir=os.fspath(data_dir), config=builder.BASE.make_config(base, options))


def released_view(
    strategy: int, kp2d: Float[np.ndarray, "24 2"], kp2d_valid: Float[np.ndarray, "24"]
) -> tuple[Float[np.ndarray, "24"], Box | None, int]:
    """What the authors' training code leaves visible, and the crop it takes.

    It removes joints, takes the bounds of the others with 1 added to the greatest coordinates, and pads nothing. Its
    type NONE crashes, and so does hiding everything: here the crop stays as it was.

    Args:
      strategy: index of the type, in its order NONE, LEGS, ARMS+HEAD, "HEAD".
      kp2d: J24, original pixels.
      kp2d_valid: > 0 where annotated.

    Returns:
      Visible keypoints (0 where removed), the centre and scale of the crop (None: unchanged), and the type used.
    """
    visible = np.array(kp2d_valid)
    visible[list(RELEASED_HIDDEN[strategy])] = 0
    if strategy == 0 or not np.any(visible > 0):
        return np.asarray(kp2d_valid), None, 0
    points = kp2d[visible > 0].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    return visible, ((low + high) / 2, float((high - low).max()) / boxes.SIDE), strategy


def ambiguous_example(record: dict[str, Any], task: Task) -> Iterator[dict[str, Any] | Skip]:
    """The example that a record becomes, after notes about it; or why there is none."""
    name = record["example_id"].decode()
    strategy, visible, box = 0, record["kp2d_valid"], None
    if task.files is not None:
        box = released_crops.box_of(task.files, task.builder, record)
        if box is None:
            yield Skip(f"not in {task.files.rows.name}", name)
            return
    elif not np.any(visible > 0):
        yield Skip("no keypoint that could be hidden", name)
        return
    else:
        drawn = occlusion.strategy_for(name, task.seed)
        if task.rule == PAPER:
            visible, strategy = occlusion.hide(drawn, visible)
            box = boxes.visible_box(record["kp2d"], visible)
        else:
            visible, box, strategy = released_view(drawn, record["kp2d"], visible)
        if strategy != drawn:
            yield Skip("the strategy would hide everything: kept, nothing hidden", name)
    center, scale = (record["box_center_full"], record["box_scale_full"]) if box is None else box
    half = boxes.half_side(scale)
    low, high = np.asarray(center) - half, np.asarray(center) + half
    if np.any(high <= 0) or np.any(low >= record["image_size"]):
        yield Skip("a box outside the image", name)
        return
    first, size = record["window"][:2], record["window"][2:]
    if np.any(np.maximum(low, 0) < first) or np.any(np.minimum(high, record["image_size"]) > first + size):
        yield Skip("the crop reaches beyond the stored window: kept, black there", name)
    yield _example(record, task, np.asarray(visible), int(strategy), center, scale)


def _example(
    record: dict[str, Any], task: Task, visible: Float[np.ndarray, "24"], strategy: int, center: Any, scale: Any
) -> dict[str, Any]:
    image = record["image"]
    changed = {
        "example_id": record["example_id"].decode(),
        "protocol_hint": record["protocol_hint"].decode(),
        "image": image if image.startswith((b"\x89PNG", b"\xff\xd8")) else image.decode(),
        "dataset": task.builder.name,
        "occlusion": occlusion.STRATEGIES[strategy],
        "kp2d_input": visible,
        "box_center": np.asarray(center),
        "box_scale": np.asarray(scale),
    }
    return features.example(**{**record, **changed}) | {"occlusion_seed": np.int32(task.seed)}


def configs(options: Any) -> list[building.Config]:
    """The three readings."""
    return [building.Config(name=n, base=n, options=options, description=text) for n, text in _DESCRIPTIONS.items()]
