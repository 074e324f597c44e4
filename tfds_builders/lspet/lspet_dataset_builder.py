"""The extended training set of Leeds Sports Pose, in high resolution."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders import training_sets
from tfds_builders.archives import Skip
from tfds_builders.options import option
from tfds_builders.sources import lsp, rows, trees


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(training_sets.Options):
    """Options of `lspet`."""

    unlabelled: str = option(
        "drop", "{}_unlabelled", "joints of lspet/official without a label: `drop`, or `keep` them as annotated (SPIN)"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.unlabelled not in ("drop", "keep"):
            raise ValueError(f"unlabelled is `drop` or `keep`, got {self.unlabelled!r}.")


class Builder(training_sets.TrainingSet):
    """Athletes with up to 14 joints in the image; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = training_sets.configs(
        {
            "official": "From joints.mat; joints without a label are not annotated.",
            training_sets.LIST: "The rows of hr-lspet_train.npz, in which all 14 joints count as annotated.",
        },
        Options(),
    )
    HOMEPAGE = "http://sam.johnson.io/research/lspet.html"
    CITATION = """@inproceedings{Johnson11,
  title = {Learning Effective Human Pose Estimation from Inaccurate Annotation},
  author = {Johnson, Sam and Everingham, Mark},
  booktitle = {CVPR}, year = {2011}}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Download hr-lspet.zip, the high-resolution version. MANUAL_DIR must hold
  hr-lspet/im00001.png ...
  hr-lspet/joints.mat
  hr-lspet_train.npz                                  (for lspet/spin)"""
    COUNTS: ClassVar = {"official": {"train": 9_428}, training_sets.LIST: {"train": 9_428}}
    LISTS: ClassVar = {"train": ("hr-lspet_train.npz",)}
    FITS = "lspet_fits.npy"

    def people(self, root: pathlib.Path, split: str) -> tuple[pathlib.Path, Sequence[rows.Row | Skip]]:
        """One person per image."""
        del split  # There is one.
        folder = trees.folder(root, "hr-lspet", "joints.mat") or trees.folder(root, root.name, "joints.mat")
        if folder is None:
            raise self.missing("hr-lspet/joints.mat")
        if not lsp.numbered(folder, ".png"):
            raise self.missing("hr-lspet/im*.png")
        return folder, lsp.lspet(folder, self.options.unlabelled)
