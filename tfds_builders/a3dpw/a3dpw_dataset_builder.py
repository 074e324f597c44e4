"""A3DPW: 3DPW seen ambiguously."""

import dataclasses
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders import ambiguous
from tfds_builders.threedpw import threedpw_dataset_builder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ambiguous.Options, threedpw_dataset_builder.Options):
    """Options of `a3dpw`: those of `threedpw` too."""


class Builder(ambiguous.AmbiguousBuilder):
    """A3DPW: people of 3DPW in crops that leave parts of them out."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = ambiguous.configs(Options())
    BASE = threedpw_dataset_builder.Builder
    LIST = "3dpw_test_all.npz"
    ROWS = 35_515
    LENS_PX = threedpw_dataset_builder.Builder.LENS_PX
    HOMEPAGE, CITATION = threedpw_dataset_builder.Builder.HOMEPAGE, threedpw_dataset_builder.Builder.CITATION
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Made from threedpw, which is built first. {threedpw_dataset_builder.Builder.MANUAL_DOWNLOAD_INSTRUCTIONS}\n"
        f"For released_crops also 3dpw_amb3.npz (--crops=FILE) and {LIST}, beside it or in MANUAL_DIR."
    )

    @staticmethod
    def image_of(imgname: str) -> str:
        """How the example ids of an image begin; the authors listed the test split only."""
        return threedpw_dataset_builder.image_id("test", imgname)
