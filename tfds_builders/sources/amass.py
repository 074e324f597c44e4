"""AMASS (Mahmood et al., 2019): recordings of motion capture as SMPL-H, by the customary split of its subsets."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax import untrusted
from multibodies_jax.data import pose_files, pose_readers
from tfds_builders import features
from tfds_builders.archives import Skip

# Subsets by split, each by all names it has had (VPoser's split; Pavlakos et al., 2019).
SPLITS: dict[str, tuple[tuple[str, ...], ...]] = {
    "train": (
        ("CMU",), ("KIT",), ("BioMotionLab_NTroje", "BMLrub"), ("BMLmovi",), ("BMLhandball",), ("EKUT",), ("ACCAD",),
        ("TCD_handMocap", "TCDHands"), ("TotalCapture",), ("Eyes_Japan_Dataset", "EyesJapan"),
        ("MPI_Limits", "MPI-Limits", "PosePrior"), ("DanceDB",), ("DFaust_67", "DFaust"),
    ),
    "validation": (("HumanEva",), ("MPI_HDM05", "HDM05"), ("SFU",), ("MPI_mosh", "MPI-Mosh", "MoSh")),
    "test": (("Transitions_mocap", "Transitions"), ("SSM_synced", "SSM")),
}  # fmt: skip
# Recordings whose files state a wrong rate, by a part of their path.
_RATES = {"BMLhandball/": 240.0, "20160930_50032/": 59.0, "20161014_50033/": 59.0}
_FILES = 50  # Recordings of a task: some seconds of work.


@dataclasses.dataclass(frozen=True)
class Task:
    """Some recordings, for one worker process.

    Attributes:
      folder: of the subset.
      subset: its first name in `SPLITS`.
      split: of the set.
      files: recordings, relative to the folder.
      frames_per_second: recordings are thinned to about this rate.
      trim: share of a recording that is cut off at each of its ends.
    """

    folder: pathlib.Path
    subset: str
    split: str
    files: tuple[str, ...]
    frames_per_second: float
    trim: float

    def __str__(self) -> str:
        return f"amass {self.split}, {self.subset} from {self.files[0]} on"


def subsets(root: pathlib.Path, split: str) -> list[tuple[str, pathlib.Path]]:
    """The first name and the folder of every subset of a split that is in `root` or in one of its folders.

    Raises:
      ValueError: a subset is there under two of its names, so that its people would be counted twice.
    """
    result = []
    for names in SPLITS[split]:
        patterns = [pattern for name in names for pattern in (name, f"*/{name}")]
        matches = (path for pattern in patterns for path in root.glob(pattern))
        found = {path for path in matches if path.is_dir() and untrusted.visible(path, root)}
        outer = sorted(path for path in found if path.parent not in found)  # CMU/CMU is one subset.
        if len(outer) > 1:
            raise ValueError(f"AMASS's {names[0]} is there twice: {', '.join(map(str, outer))}. Remove one of them.")
        result += [(names[0], path) for path in outer]
    return result


def plan(root: pathlib.Path, split: str, frames_per_second: float, trim: float) -> list[Task]:
    """The tasks of a split."""
    tasks = []
    for subset, folder in subsets(root, split):
        files = [path.relative_to(folder).as_posix() for path in pose_readers.amass_files(folder)]
        for start in range(0, len(files), _FILES):
            some = tuple(files[start : start + _FILES])
            tasks.append(Task(folder, subset, split, some, frames_per_second, trim))
    return tasks


def make(task: Task) -> Iterator[dict[str, Any] | Skip]:
    """The people of some recordings; runs in a worker process."""
    for file in task.files:
        name = f"{task.subset}/{file.removesuffix('.npz')}"
        try:
            clip, betas = _read(task.folder / file, name, task.frames_per_second)
        except ValueError as error:
            yield Skip("a recording that cannot be used", str(error).replace(str(task.folder), task.subset))
            continue
        poses = pose_files.upright(clip, task.folder / file)
        reasons = pose_files.glitches(poses)
        cut = int(task.trim * len(poses))
        for i in range(cut, len(poses) - cut):
            frame = f"{name}/{i * clip.step:06d}"
            if reasons[i]:
                yield Skip(f"an impossible pose: {reasons[i]}", frame)
            else:
                yield features.person(example_id=f"amass/{task.split}/{frame}", pose=poses[i], betas=betas)


def _read(path: pathlib.Path, name: str, frames_per_second: float) -> tuple[pose_readers.Clip, Float[np.ndarray, "10"]]:
    """A recording, and the shape of its person."""
    rate = next((rate for part, rate in _RATES.items() if part in name), None)
    clip = pose_readers.read_amass(path, frames_per_second, rate)
    with untrusted.open_npz(path) as content:
        betas = content["betas"] if "betas" in content else np.zeros(0)
    if betas.ndim != 1 or len(betas) < 10 or betas.dtype.kind not in "iuf" or not np.all(np.isfinite(betas)):
        raise ValueError(f"betas of {path} are {betas.shape} {betas.dtype}; they should be 10 or more finite numbers.")
    return clip, betas[:10]
