"""People without images, for the pose prior and for virtual cameras."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders import building, features, people
from tfds_builders.options import PeopleOptions, option

_SALT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(PeopleOptions):
    """Options of `synthetic_poses`."""

    num_people: int = option(50_000, "people{}", "people in the train split of synthetic_poses")


class Builder(people.PeopleBuilder):
    """Poses and shapes; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [
        building.Config(name="people", base="people", options=Options(), description="50,000 people to train on.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.people_info(features.person_features(), "Poses (axis-angle) and SMPL shapes of people, no images.")

    def expected(self) -> dict[str, int | None]:
        """What the options say."""
        chosen = self.options
        return {"train": chosen.num_people, "validation": chosen.num_validation, "test": chosen.num_test}

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return self.split_generators(_people, _SALT)


def _people(task: people.Task) -> list[dict[str, Any]]:
    """The examples of one block; runs in a worker process."""
    poses, betas = people.block(task)
    return [
        features.person(example_id=f"synthetic_poses/{task.split}/{task.first + i:06d}", pose=poses[i], betas=betas[i])
        for i in range(task.wanted)
    ]
