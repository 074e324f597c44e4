"""A3DPW: 3DPW seen ambiguously."""

import dataclasses
import re
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders import ambiguous
from tfds_builders.threedpw import threedpw_dataset_builder as threedpw

_IMAGE = re.compile(r"(?P<sequence>[^/]+)/image_(?P<frame>\d{5})\.(jpg|jpeg|png)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ambiguous.Options, threedpw.Options):
    """Options of `a3dpw`: those of `threedpw` too."""


class Builder(ambiguous.AmbiguousBuilder):
    """A3DPW: people of 3DPW in crops that leave parts of them out."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = ambiguous.configs(Options())
    BASE = threedpw.Builder
    LIST = "3dpw_test_all.npz"
    ROWS = 35_515
    LENS_PX = threedpw.Builder.LENS_PX
    HOMEPAGE, CITATION = threedpw.Builder.HOMEPAGE, threedpw.Builder.CITATION
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Made from threedpw, which is built first. {threedpw.Builder.MANUAL_DOWNLOAD_INSTRUCTIONS}\n"
        f"For released_crops also 3dpw_amb3.npz (--crops=FILE) and {LIST}, beside it or in MANUAL_DIR."
    )

    @staticmethod
    def image_of(imgname: str) -> str:
        """The example ids of an image, without the person; only the test split was listed."""
        found = _IMAGE.search(imgname)
        if found is None:
            raise ValueError(f"{imgname!r} is not named like <sequence>/image_00000.jpg, as 3DPW's images are.")
        return f"threedpw/test/{found['sequence']}/{found['frame']}"
