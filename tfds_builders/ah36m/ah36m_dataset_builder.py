"""AH36M: Human3.6M seen ambiguously."""

import dataclasses
from typing import ClassVar

import tensorflow_datasets as tfds

from multibodies_jax.data import image_layouts
from tfds_builders import ambiguous
from tfds_builders.h36m import h36m_dataset_builder, recorded

_LAYOUT = next(dataset for dataset in image_layouts.DATASETS if dataset.stem == "h36m")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ambiguous.Options, h36m_dataset_builder.Options):
    """Options of `ah36m`: those of `h36m` too."""


class Builder(ambiguous.AmbiguousBuilder):
    """AH36M: people of Human3.6M in crops that leave parts of them out."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = ambiguous.configs(Options())
    BASE = h36m_dataset_builder.Builder
    LIST = "h36m_valid_protocol2.npz"
    ROWS = 27_558
    LENS_PX = h36m_dataset_builder.Builder.LENS_PX
    HOMEPAGE, CITATION = h36m_dataset_builder.Builder.HOMEPAGE, h36m_dataset_builder.Builder.CITATION
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Made from h36m, which is built first. {h36m_dataset_builder.Builder.MANUAL_DOWNLOAD_INSTRUCTIONS}\n"
        f"For released_crops also h36m-p2_amb3.npz (--crops=FILE) and {LIST}, beside it or in MANUAL_DIR."
    )

    @staticmethod
    def image_of(imgname: str) -> str:
        """The example id of an image; lists count frames from 1."""
        said = image_layouts.parse(imgname, _LAYOUT)
        if not {"subject", "take", "camera", "frame"} <= set(said):
            raise ValueError(
                f"{imgname!r} is not named like S9_Directions_1.60457274_000001.jpg, as images of lists are."
            )
        return recorded.example_id(
            f"S{said['subject']}", str(said["take"]), str(said["camera"]), int(said["frame"]) - 1
        )
