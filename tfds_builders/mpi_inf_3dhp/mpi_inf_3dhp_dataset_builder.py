"""MPI-INF-3DHP: eight people before a green screen seen by many cameras, and six test sequences, with 3D joints."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders import training_sets
from tfds_builders.archives import Skip
from tfds_builders.options import option
from tfds_builders.sources import mpi_inf_3dhp, mpi_inf_3dhp_test_set, rows, trees


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(training_sets.Options):
    """Options of `mpi_inf_3dhp`."""

    mpi_cameras: str = option(
        "vnect", "{}_cameras", "of mpi_inf_3dhp/official: `vnect`, the 8 at the height of people, or `all` 14"
    )
    mpi_step: int = option(10, "step{}", "of mpi_inf_3dhp/official: every k-th frame is for training")
    mpi_skeleton: str = option(
        "universal", "{}_skeleton", "3D joints of the test split of mpi_inf_3dhp/official: `universal` scale, or `real`"
    )

    def __post_init__(self):
        super().__post_init__()
        for name, choices in (("mpi_cameras", mpi_inf_3dhp.CAMERAS), ("mpi_skeleton", mpi_inf_3dhp_test_set.SKELETONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, got {getattr(self, name)!r}.")
        if self.mpi_step < 1:
            raise ValueError(f"mpi_step must be at least 1, got {self.mpi_step}.")


class Builder(training_sets.TrainingSet):
    """People with 17 joints in 3D and in the image; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = training_sets.configs(
        {
            "official": "From annot.mat and videos or extracted frames; the test split (where it is there) from annot_data.mat.",
            training_sets.LIST: "The rows of mpi_inf_3dhp_train.npz and mpi_inf_3dhp_valid.npz, with SMPL where they have it.",
        },
        Options(),
    )
    HOMEPAGE = "https://vcai.mpi-inf.mpg.de/3dhp-dataset/"
    CITATION = """@inproceedings{Mehta17,
  title = {Monocular 3D Human Pose Estimation in the Wild Using Improved CNN Supervision},
  author = {Mehta, Dushyant and Rhodin, Helge and Casas, Dan and Fua, Pascal and Sotnychenko, Oleksandr and Xu, Weipeng and Theobalt, Christian},
  booktitle = {3DV}, year = {2017}}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Download with get_dataset.sh and get_testset.sh of the authors. MANUAL_DIR must hold
  S1/Seq1/annot.mat, camera.calibration               (S1 to S8, Seq1 and Seq2; for the train split)
  S1/Seq1/imageSequence/video_0.avi ...               or S1/Seq1/imageFrames/video_0/frame_000001.jpg ...
  mpi_inf_3dhp_test_set/TS1/annot_data.mat            (TS1 to TS6; for the test split)
  mpi_inf_3dhp_test_set/TS1/imageSequence/img_000001.jpg ...
  mpi_inf_3dhp_train.npz, mpi_inf_3dhp_valid.npz      (for mpi_inf_3dhp/spin)"""
    LENS_PX: ClassVar = 5.0  # annot2 has the hips and the spine up to 2 px beside the projected annot3.
    COUNTS: ClassVar = {
        "official": {"train": 96_719, "test": 2_875},
        training_sets.LIST: {"train": 96_507, "test": None},  # Lists with 2,875 and with 2,929 rows are about.
    }
    LISTS: ClassVar = {
        "train": ("mpi_inf_3dhp_train.npz",),
        "test": ("mpi_inf_3dhp_valid.npz", "mpi_inf_3dhp_test.npz"),
    }
    FITS = "mpi-inf-3dhp_fits.npy"

    def expected(self) -> dict[str, int | None]:
        """The number of training frames is known for SPIN's choice of cameras and step only."""
        counts = dict(self.COUNTS[self.base])
        if (self.options.mpi_cameras, self.options.mpi_step) != ("vnect", 10):
            counts["train"] = None
        return counts

    def tasks(self, split: str) -> Sequence[Any]:
        """Cameras of sequences for training, blocks of frames for testing."""
        if self.base == training_sets.LIST or split == "test" or self.options.static_fits:
            return super().tasks(split)
        root = self.archive()
        found = trees.find(root, "S[1-8]/Seq[12]/annot.mat")
        if found is None and trees.find(root, "TS[1-6]/annot_data.mat") is None:
            raise self.missing("S1/Seq1/annot.mat")
        if found is None:
            return []
        cameras = mpi_inf_3dhp.CAMERAS[self.options.mpi_cameras]
        return mpi_inf_3dhp.plan(root, found.parents[2], cameras, self.options.mpi_step, self.options)

    def people(self, root: pathlib.Path, split: str) -> tuple[pathlib.Path, Sequence[rows.Row | Skip]] | None:
        """The test sequences."""
        del split
        found = trees.find(root, "TS[1-6]/annot_data.mat") or trees.find(
            root, "mpi_inf_3dhp_test_set/TS[1-6]/annot_data.mat"
        )
        if found is None:
            return None
        return found.parents[1], mpi_inf_3dhp_test_set.read(found.parents[1], self.options.mpi_skeleton)

    @staticmethod
    def make(task: Any) -> Iterable[dict[str, Any] | Skip]:
        """The examples of one task; runs in a worker process."""
        return mpi_inf_3dhp.make(task) if isinstance(task, mpi_inf_3dhp.Task) else training_sets.TrainingSet.make(task)
