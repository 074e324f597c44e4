"""Rendered people with everything annotated, clean and ambiguous."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from multibodies_jax.body import body_files
from multibodies_jax.data import occlusion
from multibodies_jax.embedded.synthetic import bodies, scene
from multibodies_jax.geometry import boxes
from tfds_builders import building, features, people
from tfds_builders.options import PeopleOptions, option

_SALT = 2
_AMBIGUOUS = "ambiguous"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(PeopleOptions):
    """Options of `synthetic_bodies`."""

    num_validation: int = option(500, "validation{}")
    num_test: int = option(1_000, "test{}")
    num_train: int = option(20_000, "train{}", "images in the train split of synthetic_bodies")
    image_size: int = option(128, "px{}", "side of the images of synthetic_bodies, pixels")
    body_dir: str = option(
        "", "body_{}", "folder with SMPL_NEUTRAL.{pkl,npz} and the regressors; default: the embedded body"
    )

    def __post_init__(self):
        super().__post_init__()
        if not 32 <= self.image_size <= 1024:
            raise ValueError(f"image_size must be within 32 to 1024 pixels, got {self.image_size}.")


class Builder(people.PeopleBuilder):
    """One person per image; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [
        building.Config(name="clean", base="clean", options=Options(), description="Whole people, crops around them."),
        building.Config(
            name=_AMBIGUOUS,
            base=_AMBIGUOUS,
            options=Options(),
            description="The people and images of `clean`, cropped around the keypoints left visible by a strategy of "
            "the paper's appendix B (padding 1.1), drawn from the seed 0 and the example id.",
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.people_info(features.features(), "Rendered people with everything annotated.")

    def expected(self) -> dict[str, int | None]:
        """What the options say."""
        chosen = self.options
        return {"train": chosen.num_train, "validation": chosen.num_validation, "test": chosen.num_test}

    def occlusion_shares(self) -> tuple[float, ...] | None:
        """Those of appendix B for `ambiguous`."""
        return occlusion.PROBABILITIES if self.base == _AMBIGUOUS else None

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the set; `ambiguous` builds the `clean` set of the same options first."""
        if self.base == _AMBIGUOUS:
            clean = self._clean()
            clean.num_processes = self.num_processes
            clean.download_and_prepare(**kwargs)
        super().download_and_prepare(**kwargs)

    def _clean(self) -> "Builder":
        return Builder(data_dir=self.data_dir_root, config=self.make_config("clean", self.options))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        if self.base == _AMBIGUOUS:
            return {split: self._occlude(split) for split in people.SPLITS}
        return self.split_generators(_render, _SALT)

    def _occlude(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        decoders = {"image": tfds.decode.SkipDecoding()}
        source = building.open_split(self._clean(), split, decoders)
        bar = tqdm.tqdm(range(len(source)), desc=f"{self.name}/{_AMBIGUOUS} {split}", unit=" people")
        for index in bar:
            yield index, occlude(source[index], self.options.seed)


def occlude(record: dict[str, Any], seed: int) -> dict[str, Any]:
    """Makes a stored example ambiguous: keypoints hidden, the crop recomputed around those that stay visible.

    Args:
      record: a stored example, its image still encoded.
      seed: of the set; the strategy depends on it and on the example id.

    Returns:
      The example to store; `box_center_full` and `box_scale_full` keep the box without occlusion.
    """
    example_id = record["example_id"].decode()
    visible, strategy = occlusion.hide(occlusion.strategy_for(example_id, seed), record["kp2d_valid"])
    center, scale = boxes.visible_box(record["kp2d"], visible)
    changed = {
        "example_id": example_id,
        "protocol_hint": record["protocol_hint"].decode(),
        "dataset": features.DATASETS[record["dataset"]],
        "occlusion": occlusion.STRATEGIES[int(strategy)],
        "kp2d_input": visible,
        "box_center": center,
        "box_scale": scale,
    }
    return features.example(**{**record, **changed})


def _render(task: people.Task) -> list[dict[str, Any]]:
    """The examples of one block; runs in a worker process."""
    options = cast(Options, task.options)
    body = _body(options.body_dir)
    poses, betas = people.block(task)
    examples = []
    for i in range(task.wanted):
        person = scene.render_person(body, poses[i], betas[i], task.rng(i), options.image_size)
        examples.append(_example(f"synthetic_bodies/{task.split}/{task.first + i:06d}", person))
    return examples


@functools.cache
def _body(directory: str) -> bodies.Body:
    """Read once per process."""
    return bodies.from_files(body_files.load(directory))


def _example(example_id: str, person: scene.Scene) -> dict[str, Any]:
    height, width = person.image.shape[:2]
    return features.example(
        example_id=example_id,
        image=person.image,
        window=[0, 0, width, height],
        image_size=[width, height],
        box_center=person.box_center,
        box_scale=person.box_scale,
        kp2d=person.kp2d,
        kp2d_valid=np.ones(24),
        joints3d=person.joints24_cam,
        joints3d_valid=np.ones(24),
        pose=person.pose,
        betas=person.betas,
        smpl_valid=1.0,
        intrinsics=person.intrinsics,
        intrinsics_valid=1.0,
        dataset="synthetic_bodies",
        protocol_hint="strict",
    )
