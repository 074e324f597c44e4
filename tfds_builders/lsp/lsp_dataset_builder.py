"""Leeds Sports Pose: 1,000 images to train on, 1,000 to test on."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders import training_sets
from tfds_builders.archives import Skip
from tfds_builders.options import option
from tfds_builders.sources import lsp, rows, trees

_FOLDERS = {"train": "lsp_dataset_original", "test": "lsp_dataset"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(training_sets.Options):
    """Options of `lsp`."""

    split_at: int = option(
        lsp.SPLIT_AT, "split{}", "number of images of lsp/official for training; the others are for testing"
    )


class Builder(training_sets.TrainingSet):
    """Athletes with 14 joints in the image; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = training_sets.configs(
        {
            "official": "From joints.mat: train in the original resolution, test (where it is there) in the small one.",
            training_sets.LIST: "The rows of lsp_dataset_original_train.npz.",
        },
        Options(),
    )
    HOMEPAGE = "http://sam.johnson.io/research/lsp.html"
    CITATION = """@inproceedings{Johnson10,
  title = {Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation},
  author = {Johnson, Sam and Everingham, Mark},
  booktitle = {BMVC}, year = {2010}}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Download lsp_dataset_original.zip and lsp_dataset.zip. MANUAL_DIR must hold
  lsp_dataset_original/images/im0001.jpg ...
  lsp_dataset_original/joints.mat
  lsp_dataset/images/im1001.jpg ...                   (for the test split)
  lsp_dataset/joints.mat
  lsp_dataset_original_train.npz                      (for lsp/spin)"""
    COUNTS: ClassVar = {"official": {"train": 1_000, "test": 1_000}, training_sets.LIST: {"train": 1_000}}
    LISTS: ClassVar = {"train": ("lsp_dataset_original_train.npz",)}
    FITS = "lsp-orig_fits.npy"

    def people(self, root: pathlib.Path, split: str) -> tuple[pathlib.Path, Sequence[rows.Row | Skip]] | None:
        """One person per image; the two archives have other pixels for images of the same name."""
        folders = {name: trees.folder(root, folder, "joints.mat") for name, folder in _FOLDERS.items()}
        if not any(folders.values()):
            raise self.missing("lsp_dataset_original/joints.mat")
        folder = folders[split]
        return None if folder is None else (folder, lsp.lsp(folder, split, self.options.split_at))
