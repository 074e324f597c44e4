"""The people of the embedded sets: poses from the generator or from a file, shapes, and the builder that draws them."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from jaxtyping import Float

from multibodies_jax.data import pose_files
from multibodies_jax.embedded.synthetic import poses
from tfds_builders import building
from tfds_builders.options import PeopleOptions, provenance

BLOCK = 64  # People are drawn in blocks of this many; changing it changes every set.
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Task:
    """One block of people, for one worker process.

    Attributes:
      options: where poses come from, and the seed.
      salt: of the set, so that two sets with one seed hold different people.
      split: one of `SPLITS`.
      first: index of its first person in the split, a multiple of `BLOCK`.
      wanted: how many of the block's people the split has.
    """

    options: PeopleOptions
    salt: int
    split: str
    first: int
    wanted: int

    def rng(self, index: int) -> np.random.Generator:
        """A generator of its own for a number, for instance of one person."""
        return np.random.default_rng([self.options.seed, self.salt, SPLITS.index(self.split), self.first, index])


class PeopleBuilder(building.BaseBuilder, skip_registration=True):
    """A builder whose examples are drawn in blocks by worker processes."""

    def people_info(self, feature_dictionary: tfds.features.FeaturesDict, description: str) -> tfds.core.DatasetInfo:
        """The information of a set, with all that went into it."""
        record = provenance(self.options)
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{description} Made from {record}.",
            features=feature_dictionary,
            disable_shuffling=True,  # Example i is person i.
            metadata=tfds.core.MetadataDict(record),
        )

    def split_generators(self, make: Callable[[Task], list], salt: int) -> dict[str, Iterator]:
        """Examples of all splits, made block by block with a function that worker processes can import."""
        if self.options.poses:
            tqdm.tqdm.write(f"{self.options.poses}: {pose_files.describe(_load(self.options.poses))}", file=sys.stderr)
        counts = self.expected()
        return {split: self._generate_examples(make, salt, split, count or 0) for split, count in counts.items()}

    def _generate_examples(self, make: Callable[[Task], list], salt: int, split: str, count: int) -> Iterator[tuple]:
        tasks = [Task(self.options, salt, split, first, min(BLOCK, count - first)) for first in range(0, count, BLOCK)]
        with tqdm.tqdm(total=count, desc=f"{self.name} {split}", unit=" people") as bar:
            for task, examples in zip(tasks, self.map(make, tasks), strict=True):
                yield from enumerate(examples, start=task.first)
                bar.update(len(examples))


def block(task: Task) -> tuple[Float[np.ndarray, "64 24 3"], Float[np.ndarray, "64 10"]]:
    """Draws a block of people; depends on nothing but the task.

    Returns:
      Poses as axis-angle with an upright root (y up, facing +z), and shapes: standard normal, clipped to +-2.
    """
    rng = task.rng(BLOCK)  # 0 to BLOCK - 1 are the people's own.
    betas = poses.sample_betas(BLOCK, rng)
    from_file = (rng.random(BLOCK) < task.options.pose_mix) & bool(task.options.poses)
    pose = np.zeros((BLOCK, 24, 3), np.float32)
    if from_file.any():
        pose[from_file] = _file_poses(task.options.poses, task.split, rng)[from_file]
    if not from_file.all():
        pose[~from_file] = poses.sample_poses(BLOCK, rng)[0][~from_file]
    return pose, betas


def _file_poses(path: str, split: str, rng: np.random.Generator) -> Float[np.ndarray, "64 24 3"]:
    """Draws poses of the split's subjects with replacement, by weight, half of them mirrored."""
    file = pose_files.split(_load(path), split)
    drawn = file.poses[rng.choice(len(file.poses), BLOCK, p=file.weights)]
    return np.where((rng.random(BLOCK) < 0.5)[:, None, None], poses.mirror_pose(drawn), drawn)


_load = functools.cache(pose_files.load)  # Once per process.
