"""Human3.6M as a TFDS builder."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders import archives, building
from tfds_builders.h36m import archive, listed, metadata, recorded
from tfds_builders.options import option
from tfds_builders.sources import spin, trees

TRAIN, VALIDATION, TEST = ("S1", "S5", "S6", "S7", "S8"), ("S8",), ("S9", "S11")
_COUNTS = {"train": 312_188, "p1": 109_867, "p2": 27_558}  # Every fifth frame of the complete archive.
_NAMED = 5  # Of the files that are missing.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(archives.ArchiveOptions):
    """Options of `h36m`."""

    frame_step: int = option(5, "step{}", "h36m: every k-th frame of 50 per second; 5 is the published rule")
    frame_offset: int = option(
        0,
        "offset{}",
        "h36m: the video's frame shown with pose i of validation and test is i + this; 1 = SPIN's images, 20 ms late",
    )
    h36m_cameras: str = option("", "cameras{}", "h36m: names of cameras joined by +, instead of those of the config")
    h36m_fits: str = option(
        "",
        "fits_{}",
        "h36m: folder of SMPL fits, MoSh's .pkl or NeuralAnnot's .json; for h36m/spin a file with the rows of h36m_train",
        file=True,
        read=("*.pkl", "*.json", "*.npy", "*.npz"),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.frame_step < 1:
            raise ValueError(f"frame_step must be at least 1, got {self.frame_step}.")
        if self.frame_offset not in (0, 1):
            raise ValueError(f"frame_offset is 0, or 1 for SPIN's images, got {self.frame_offset}.")
        if unknown := set(self.chosen_cameras) - set(archive.CAMERAS):
            raise ValueError(
                f"h36m_cameras are of {', '.join(archive.CAMERAS)}, joined by +; got {', '.join(sorted(unknown))}."
            )
        if self.h36m_fits and not pathlib.Path(self.h36m_fits).exists():
            raise ValueError(f"There is no folder or file of SMPL fits {self.h36m_fits!r}.")

    @property
    def chosen_cameras(self) -> tuple[str, ...]:
        """Empty for those of the config."""
        return tuple(name.strip() for name in self.h36m_cameras.split("+") if name.strip())


def _config(name: str, description: str) -> building.Config:
    return building.Config(name=name, base=name, options=Options(), description=description)


class Builder(archives.ArchiveBuilder):
    """Human3.6M: actors in a studio seen by four cameras, with 3D joints from motion capture."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [
        _config("official", "Train on S1, S5, S6, S7, S8, test protocol 2. Validation (S8) is part of train."),
        _config("heldout", "As `official`, but S8 is left out of train, so that validation is of an unseen person."),
        _config("p1", "Validation and test only: protocol 1, S9 and S11 by all cameras."),
        _config("p2", "Validation and test only: protocol 2, S9 and S11 by the front camera."),
        _config(
            "spin", "From SPIN's lists h36m_train.npz (where it is there) and h36m_valid_protocol2.npz, and images."
        ),
        _config("spin_p1", "From SPIN's list h36m_valid_protocol1.npz, and images."),
    ]
    LENS_PX: ClassVar = 40.0  # `intrinsics` leave the distortion out, which moves points near the corners so far.
    HOMEPAGE = "http://vision.imar.ro/human3.6m"
    CITATION = """@article{h36m_pami,
  author = {Ionescu, Catalin and Papava, Dragos and Olaru, Vlad and Sminchisescu, Cristian},
  title = {Human3.6M: Large Scale Datasets and Predictive Methods for 3D Human Sensing in Natural Environments},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {36}, number = {7}, pages = {1325-1339}, year = {2014}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Register at http://vision.imar.ro/human3.6m (academic use) and download, for every
subject (S1 S5 S6 S7 S8 to train, S9 S11 to test): Videos, Poses / D3_Positions_mono, Poses / D2_Positions, Segments /
BBoxes MAT. MANUAL_DIR must then hold, as unpacked:
  S9/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf ...   (or S9/Poses_D3_Positions_mono/...)
  S9/MyPoseFeatures/D2_Positions/Directions 1.54138969.cdf ...        (optional; or S9/Poses_D2_Positions/...)
  S9/Videos/Directions 1.54138969.mp4 ...
  S9/MySegmentsMat/ground_truth_bb/Directions 1.54138969.mat ...
  metadata.xml                                                        (optional: cameras; from the site's code)
For h36m/spin and h36m/spin_p1 instead SPIN's lists and extracted images:
  h36m_valid_protocol2.npz, h36m_valid_protocol1.npz, h36m_train.npz
  images/S9_Directions_1.54138969_000001.jpg ...                      (or as other projects extract them)"""

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        drifted = sorted("/".join(names) for names in recorded.DRIFTED)
        info.metadata.update({"drifted": drifted})  # pyright: ignore[reportOptionalMemberAccess]
        return info

    def expected(self) -> dict[str, int | None]:
        """Known for the published rule: every fifth frame, all cameras."""
        published = self.options.frame_step == 5 and not self.options.h36m_cameras
        train = _COUNTS["train"] if published and self.base != "heldout" else None
        test = _COUNTS["p1" if self.base.endswith("p1") else "p2"] if published else None
        splits = {"p1": ("validation", "test"), "p2": ("validation", "test"), "spin_p1": ("test",)}
        counts = {"train": train, "validation": None, "test": test}
        return {split: counts[split] for split in splits.get(self.base, tuple(counts))}

    def tasks(self, split: str) -> Sequence[recorded.Task | recorded.Absent | spin.Task]:
        """The recordings of a split: subjects, then files by name, as in SPIN's lists; or rows of a list."""
        return self._listed(split) if self.base in listed.LISTS else self._recorded(split)

    def _listed(self, split: str) -> Sequence[spin.Task]:
        root, name, default = self.archive(), listed.LISTS[self.base][split], Options()
        if any(
            getattr(self.options, key) != getattr(default, key)
            for key in ("frame_step", "frame_offset", "h36m_cameras")
        ):
            raise archives.BuildError(
                f"h36m/{self.base} has the rows and images of its list: --frame_step, --frame_offset and --h36m_cameras are "
                "of the official archive."
            )
        path = trees.find(root, name)
        if path is None and split == "test":
            raise self.missing(name)
        try:
            fits = pathlib.Path(self.options.h36m_fits) if self.options.h36m_fits and split != "test" else None
            return spin.plan(path, root, self.name, split, self.options, fits) if path else []
        except ValueError as error:
            raise archives.BuildError(f"{self.name}: {error}") from error

    def _recorded(self, split: str) -> Sequence[recorded.Task | recorded.Absent]:
        manual_dir = self.archive()
        root = archive.root_of(manual_dir)
        if root is None:
            raise self.missing("S*/MyPoseFeatures/D3_Positions_mono")
        if self.options.store == "path":
            raise archives.BuildError(
                "h36m: this archive has videos, so that store=path has no image files to name. Use store=window, or "
                "extracted images with h36m/spin."
            )
        if self.options.h36m_fits and not pathlib.Path(self.options.h36m_fits).is_dir():
            raise archives.BuildError(
                f"--h36m_fits of h36m/{self.base} is a folder, but {self.options.h36m_fits} is a file."
            )
        places = (manual_dir / metadata.NAME, root / metadata.NAME)
        described = next((place for place in places if place.exists()), None)
        tasks: list[recorded.Task | recorded.Absent] = []
        for subject in self._subjects(split):
            found = self._recordings(root, subject, self._cameras(split))
            tasks += [self._task(split, recording, described) for recording in found] or [recorded.Absent(subject)]
        return [] if all(isinstance(task, recorded.Absent) for task in tasks) else tasks

    @staticmethod
    def make(task: recorded.Task | recorded.Absent | spin.Task) -> Any:
        """The examples of one recording, or of some rows of a list."""
        return listed.make(task) if isinstance(task, spin.Task) else recorded.make(task)

    def _subjects(self, split: str) -> tuple[str, ...]:
        if split != "train":
            return {"validation": VALIDATION, "test": TEST}[split]
        return tuple(s for s in TRAIN if s not in VALIDATION) if self.base == "heldout" else TRAIN

    def _cameras(self, split: str) -> tuple[str, ...]:
        if self.options.chosen_cameras:
            return self.options.chosen_cameras
        return archive.CAMERAS if split == "train" or self.base == "p1" else (archive.FRONT_CAMERA,)

    def _task(self, split: str, recording: archive.Recording, described: pathlib.Path | None) -> recorded.Task:
        hint = "h36m_p1" if self.base == "p1" else "h36m_p2"
        offset = 0 if split == "train" else self.options.frame_offset
        return recorded.Task(recording, split, hint, offset, described, self.options)

    def _recordings(self, root: pathlib.Path, subject: str, cameras: tuple[str, ...]) -> list[archive.Recording]:
        """Those of a subject; every file that they need is there."""
        try:
            found = archive.recordings(root, subject, cameras)
        except archive.ArchiveError as error:
            raise archives.BuildError(f"{self.name}: {error}") from error
        missing = [p for r in found if not recorded.is_corrupt(r) for p in (r.video, r.boxes) if not p.exists()]
        if missing:
            more = [f"... and {len(missing) - _NAMED} more"] if len(missing) > _NAMED else []
            names = "\n".join(f"  {name}" for name in [*missing[:_NAMED], *more])
            raise archives.BuildError(
                f"{self.name}: there are poses, but not these files:\n{names}\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        return found
