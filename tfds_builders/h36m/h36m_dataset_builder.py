"""Human3.6M as a TFDS builder."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfds_builders import archives, building
from tfds_builders.h36m import archive, metadata, recorded
from tfds_builders.options import option

TRAIN, VALIDATION, TEST = ("S1", "S5", "S6", "S7", "S8"), ("S8",), ("S9", "S11")
_COUNTS = {"train": 312_188, "p1": 109_867, "p2": 27_558}  # Every fifth frame of the complete archive.
_NAMED = 5  # Of the files that are missing.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(archives.ArchiveOptions):
    """Options of `h36m`."""

    frame_step: int = option(5, "step{}", "h36m: every so many frames of 50 per second; 5 is the published rule")
    frame_offset: int = option(
        0,
        "offset{}",
        "h36m: the video's frame shown with pose i of validation and test is i + this; 1 = SPIN's images, 20 ms late",
    )
    cameras: str = option("", "cameras{}", "h36m: names of cameras, with commas, instead of those of the config")
    fits: str = option(
        "",
        "fits_{}",
        "h36m: folder of SMPL fits, MoSh's .pkl or NeuralAnnot's .json; without it there are none",
        file=True,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.frame_step < 1:
            raise ValueError(f"frame_step must be at least 1, got {self.frame_step}.")
        if self.frame_offset not in (0, 1):
            raise ValueError(f"frame_offset is 0, or 1 for SPIN's images, got {self.frame_offset}.")
        if unknown := set(self.chosen_cameras) - set(archive.CAMERAS):
            raise ValueError(
                f"cameras are {', '.join(archive.CAMERAS)}, with commas; got {', '.join(sorted(unknown))}."
            )
        if self.fits and not pathlib.Path(self.fits).is_dir():
            raise ValueError(f"There is no folder of SMPL fits {self.fits!r}.")

    @property
    def chosen_cameras(self) -> tuple[str, ...]:
        """Empty for those of the config."""
        return tuple(name.strip() for name in self.cameras.split(",") if name.strip())


def _config(name: str, description: str) -> building.Config:
    return building.Config(name=name, base=name, options=Options(), description=description)


class Builder(archives.ArchiveBuilder):
    """Human3.6M: eleven professional actors seen by four cameras, with 3D joints from motion capture."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [
        _config("spin", "Train on S1, S5, S6, S7, S8, test protocol 2. Validation (S8) is part of train."),
        _config("heldout", "As `spin`, but S8 is left out of train, so that validation is of an unseen person."),
        _config("p1", "Validation and test only: protocol 1, S9 and S11 by all cameras."),
        _config("p2", "Validation and test only: protocol 2, S9 and S11 by the front camera."),
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
  metadata.xml                                                        (optional: cameras; from the site's code)"""

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        drifted = sorted("/".join(names) for names in recorded.DRIFTED)
        info.metadata.update({"drifted": drifted})  # pyright: ignore[reportOptionalMemberAccess]
        return info

    def expected(self) -> dict[str, int | None]:
        """Known for the published rule: every fifth frame, all cameras."""
        published = self.options.frame_step == 5 and not self.options.cameras
        test = _COUNTS["p1" if self.base == "p1" else "p2"] if published else None
        counts: dict[str, int | None] = {"validation": None, "test": test}
        if self.base in ("p1", "p2"):
            return counts
        return {"train": _COUNTS["train"] if published and self.base == "spin" else None, **counts}

    def tasks(self, split: str) -> Sequence[recorded.Task | recorded.Absent]:
        """The recordings of a split: subjects, then files by name, as in SPIN's lists."""
        manual_dir = self.archive()
        root = archive.root_of(manual_dir)
        if root is None:
            raise self.missing("S*/MyPoseFeatures/D3_Positions_mono")
        if self.options.store == "path":
            raise archives.BuildError("h36m: this archive has videos, so that store=path has no image files to name.")
        places = (manual_dir / metadata.NAME, root / metadata.NAME)
        described = next((place for place in places if place.exists()), None)
        tasks: list[recorded.Task | recorded.Absent] = []
        for subject in self._subjects(split):
            found = self._recordings(root, subject, self._cameras(split))
            tasks += [self._task(split, recording, described) for recording in found] or [recorded.Absent(subject)]
        return tasks

    @staticmethod
    def make(task: recorded.Task | recorded.Absent) -> Any:
        """The examples of one recording."""
        return recorded.make(task)

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
