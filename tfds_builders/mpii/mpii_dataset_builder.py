"""MPII Human Pose: the people of the training images whose joints are all annotated."""

import pathlib
from collections.abc import Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders import training_sets
from tfds_builders.archives import Skip
from tfds_builders.sources import mpii, rows, trees

# By config: the annotations (the first that is there) and who reads them.
_FILES = {
    "official": (("mpii_human_pose_v1_u12_*.mat", "annotations/mpii_human_pose_v1_u12_*.mat"), mpii.read_mat),
    "json": (("annot/train.json", "train.json", "mpii_train.json"), mpii.read_json),
    "h5": (("data/train.h5", "train.h5"), mpii.read_h5),
}


class Builder(training_sets.TrainingSet):
    """People of all activities with 16 joints in the image; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = training_sets.configs(
        {
            "official": "From the official .mat: all people of the training images, those usually held out too.",
            "json": "From the train.json of pose estimators.",
            "h5": "From Stacked Hourglass's train.h5, which SPIN reads: whole pixels.",
            training_sets.LIST: "The rows of mpii_train.npz.",
        },
        training_sets.Options(),
    )
    HOMEPAGE = "http://human-pose.mpi-inf.mpg.de"
    CITATION = """@inproceedings{Andriluka14,
  title = {2D Human Pose Estimation: New Benchmark and State of the Art Analysis},
  author = {Andriluka, Mykhaylo and Pishchulin, Leonid and Gehler, Peter and Schiele, Bernt},
  booktitle = {CVPR}, year = {2014}}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Download mpii_human_pose_v1.tar.gz and mpii_human_pose_v1_u12_2.zip. MANUAL_DIR must hold
  images/015601864.jpg ...
  mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat    (for mpii/official)
  annot/train.json                                         (for mpii/json)
  data/train.h5                                            (for mpii/h5)
  mpii_train.npz                                           (for mpii/spin)"""
    COUNTS: ClassVar = {
        "official": {"train": None},
        "json": {"train": None},
        "h5": {"train": 14_810},
        training_sets.LIST: {"train": 14_810},
    }
    LISTS: ClassVar = {"train": ("mpii_train.npz",)}
    FITS = "mpii_fits.npy"

    def people(self, root: pathlib.Path, split: str) -> tuple[pathlib.Path, Sequence[rows.Row | Skip]]:
        """Several people per image."""
        del split  # There is one: the test images have no annotations.
        names, read = _FILES[self.base]
        path = next((found for name in names if (found := trees.find(root, name))), None)
        if path is None:
            raise self.missing(names[0])
        image = trees.find(root, "images/*.jpg")
        if image is None:
            raise self.missing("images/*.jpg")
        return image.parent, read(path)
