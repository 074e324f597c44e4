"""AMASS: people without images, from motion capture, for the pose prior and for virtual cameras."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders import archives, building, features
from tfds_builders.archives import Skip
from tfds_builders.options import option
from tfds_builders.sources import amass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `amass`."""

    frames_per_second: float = option(10.0, "{:g}fps", "recordings of amass are thinned to about this rate")
    trim: float = option(
        0.1, "trim{:g}", "share that amass leaves out at each end of a recording, where people stand still"
    )
    store: ClassVar[str] = "window"  # There are no images.

    def __post_init__(self):
        if not self.frames_per_second > 0:
            raise ValueError(f"frames_per_second must be > 0, got {self.frames_per_second}.")
        if not 0 <= self.trim < 0.5:
            raise ValueError(f"trim is a share in [0, 0.5), got {self.trim}.")


class Builder(archives.ArchiveBuilder):
    """Poses and shapes of motion capture; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [
        building.Config(name="smplh", base="smplh", options=Options(), description="The body's joints of SMPL-H.")
    ]
    HOMEPAGE = "https://amass.is.tue.mpg.de"
    CITATION = """@inproceedings{Mahmood19,
  title = {{AMASS}: Archive of Motion Capture as Surface Shapes},
  author = {Mahmood, Naureen and Ghorbani, Nima and Troje, Nikolaus F. and Pons-Moll, Gerard and Black, Michael J.},
  booktitle = {ICCV}, year = {2019}}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Register at https://amass.is.tue.mpg.de and download "SMPL+H G" of each subset. MANUAL_DIR must hold
  CMU/01/01_01_poses.npz ...
  KIT/..., BMLrub/..., HumanEva/..., SSM_synced/... and the other subsets, by their old or new names"""

    def expected(self) -> dict[str, int | None]:
        """AMASS grows: there is no one number."""
        return dict.fromkeys(amass.SPLITS)

    def feature_dictionary(self) -> tfds.features.FeaturesDict:
        """That of people without images."""
        return features.person_features()

    def tasks(self, split: str) -> Sequence[amass.Task]:
        """Recordings, subset by subset.

        Raises:
          BuildError: there is no subset at all.
        """
        root = self.archive()
        if not any(amass.subsets(root, other) for other in amass.SPLITS):
            raise self.missing("CMU")
        return amass.plan(root, split, self.options.frames_per_second, self.options.trim)

    @staticmethod
    def make(task: Any) -> Iterable[dict[str, Any] | Skip]:
        """The people of some recordings; runs in a worker process."""
        return amass.make(task)
