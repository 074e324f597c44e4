"""COCO 2014: the people of the training images whose limbs are all annotated."""

import pathlib
from collections.abc import Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders import training_sets
from tfds_builders.archives import Skip
from tfds_builders.sources import coco, rows, trees


class Builder(training_sets.TrainingSet):
    """People in everyday scenes with 12 to 17 joints in the image; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = training_sets.configs(
        {
            "official": "From person_keypoints_train2014.json: people whose twelve limb joints are all labelled.",
            training_sets.LIST: "The rows of coco_2014_train.npz.",
        },
        training_sets.Options(),
    )
    HOMEPAGE = "https://cocodataset.org"
    CITATION = """@inproceedings{Lin14,
  title = {Microsoft {COCO}: Common Objects in Context},
  author = {Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Bourdev, Lubomir and Girshick, Ross and Hays, James and Perona, Pietro and Ramanan, Deva and Zitnick, C. Lawrence and Doll{\\'a}r, Piotr},
  booktitle = {ECCV}, year = {2014}}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Download train2014.zip and annotations_trainval2014.zip. MANUAL_DIR must hold
  train2014/COCO_train2014_000000000009.jpg ...
  annotations/person_keypoints_train2014.json
  coco_2014_train.npz                                 (for coco2014/spin)"""
    COUNTS: ClassVar = {"official": {"train": 28_344}, training_sets.LIST: {"train": 28_344}}
    LISTS: ClassVar = {"train": ("coco_2014_train.npz",)}
    FITS = "coco_fits.npy"

    def people(self, root: pathlib.Path, split: str) -> tuple[pathlib.Path, Sequence[rows.Row | Skip]]:
        """Several people per image, in the order of the annotations."""
        path = trees.find(root, "annotations/person_keypoints_train2014.json")
        if path is None:
            raise self.missing("annotations/person_keypoints_train2014.json")
        image = trees.find(root, "train2014/*.jpg")
        if image is None:
            raise self.missing("train2014/*.jpg")
        return image.parent, coco.read(path, split)
