"""MPI-INF-3DHP (Mehta et al., 2017): the training sequences, `annot.mat` and the videos of fourteen cameras."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.data import images
from tfds_builders import archives
from tfds_builders.archives import Skip
from tfds_builders.sources import joint_sets, mat, pictures, rows, video

CAMERAS = {"vnect": (0, 1, 2, 4, 5, 6, 7, 8), "all": tuple(range(14))}  # VNect's are at the height of people.
SIDE_PX = 2048
# Frames of each sequence that the authors' README calls usable; annotations can go on beyond the video.
USABLE = {
    (1, 1): 6416, (1, 2): 12430, (2, 1): 6502, (2, 2): 6081, (3, 1): 12488, (3, 2): 12283, (4, 1): 6171, (4, 2): 6675,
    (5, 1): 12820, (5, 2): 12312, (6, 1): 6188, (6, 2): 6145, (7, 1): 6239, (7, 2): 6320, (8, 1): 6468, (8, 2): 6054,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Task:
    """The frames of one camera of one sequence, for one worker process.

    Attributes:
      base: the folder that has S1, S2, ...
      prefix: of `base` below the folder of the archive.
      subject: 1 to 8.
      sequence: 1 or 2.
      camera: 0 to 13.
      frames: indices from 0, ascending.
      left_out: those with a joint outside the image.
      options: of the builder.
    """

    base: pathlib.Path
    prefix: str
    subject: int
    sequence: int
    camera: int
    frames: tuple[int, ...]
    left_out: tuple[int, ...]
    options: archives.ArchiveOptions
    dataset = "mpi_inf_3dhp"
    split = "train"

    @property
    def folder(self) -> pathlib.Path:
        """Of the sequence."""
        return self.base / f"S{self.subject}" / f"Seq{self.sequence}"

    def __str__(self) -> str:
        return f"mpi_inf_3dhp S{self.subject}/Seq{self.sequence} camera {self.camera}"


def sequences(base: pathlib.Path) -> list[tuple[int, int]]:
    """The sequences (subject, number) that are there."""
    return [key for key in USABLE if (base / f"S{key[0]}" / f"Seq{key[1]}" / "annot.mat").is_file()]


def plan(archive: pathlib.Path, base: pathlib.Path, cameras: Sequence[int], step: int, options: Any) -> list[Task]:
    """Chooses frames as SPIN did: of those with all 17 joints in the image every `step`-th, counted over everything.

    Args:
      archive: the folder that `Task.prefix` is relative to.
      base: the folder in it that has S1, S2, ...
      cameras: to take.
      step: 1 takes all frames.
      options: for the tasks.

    Raises:
      ValueError: annotations that do not fit the frames.
    """
    counted, tasks = 0, []
    prefix = base.relative_to(archive).as_posix()
    for subject, sequence in sequences(base):
        folder = base / f"S{subject}" / f"Seq{sequence}"
        cells = mat.read_v5(folder / "annot.mat", ["annot2"])["annot2"]
        for camera in cameras:
            kp2d = _joints(folder, "annot2", cells, camera, 2)
            frames = _available(folder, camera, USABLE[subject, sequence])
            if frames and frames[-1] >= len(kp2d):
                raise ValueError(
                    f"{folder}: camera {camera} has a frame {frames[-1]}, but annot.mat only {len(kp2d)} rows. Are the "
                    "frames numbered from 1, and of this sequence?"
                )
            j24, has = joint_sets.to_j24(kp2d[frames], joint_sets.MPI28)
            seen = np.all((j24 >= 0) & (j24 < SIDE_PX) | (has[:, None] == 0), axis=(1, 2))
            kept = np.asarray(frames, int)[seen]
            chosen = kept[-counted % step :: step]
            counted += len(kept)
            left_out = np.asarray(frames, int)[~seen]
            picked = (tuple(chosen.tolist()), tuple(left_out.tolist()))
            if any(picked) or not frames:  # `make` reports a camera without images.
                tasks.append(Task(base, prefix, subject, sequence, camera, *picked, options))
    return tasks


def make(task: Task) -> Iterator[dict[str, Any] | Skip]:
    """The examples of one camera of a sequence; runs in a worker process."""
    if not task.frames and not task.left_out:
        yield Skip("a camera without images or video", str(task))
    for frame in task.left_out:
        yield Skip("a joint outside the image, or not finite", f"{task} frame {frame}")
    if not task.frames:
        return
    path = task.folder / "annot.mat"
    cells2, cells3 = _annotations(path, path.stat().st_mtime_ns)
    kp2d, has = joint_sets.to_j24(_joints(task.folder, "annot2", cells2, task.camera, 2), joint_sets.MPI28)
    joints3d, _ = joint_sets.to_j24(_joints(task.folder, "annot3", cells3, task.camera, 3), joint_sets.MPI28)
    intrinsics = read_calibration(task.folder / "camera.calibration").get(task.camera)
    camera = {} if intrinsics is None else {"intrinsics": intrinsics, "intrinsics_valid": 1.0}
    for frame, file, image in _images(task):
        name = f"mpi_inf_3dhp/train/S{task.subject}/Seq{task.sequence}/{task.camera}/{frame:06d}"
        if isinstance(image, Skip):
            yield image
            continue
        if not np.all(np.isfinite(joints3d[frame])):
            yield Skip("a joint that is not finite", name)
            continue
        more = {"joints3d": joints3d[frame] / 1000, "joints3d_valid": has, "protocol_hint": "mpi_inf_3dhp", **camera}
        row = rows.row(name, file, kp2d[frame], has, more=more)
        yield row if isinstance(row, Skip) else rows.example(row, image, task)


def read_calibration(path: pathlib.Path) -> dict[int, Float[np.ndarray, "3 3"]]:
    """The camera matrices of `camera.calibration` by camera; none where the file is not there.

    Raises:
      ValueError: it is not as the documentation says.
    """
    result: dict[int, np.ndarray] = {}
    camera = -1
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        key, *values = line.split() or [""]
        try:
            if key == "name":
                camera = int(values[0])
            elif key == "intrinsic":
                result[camera] = np.array(values, np.float64).reshape(4, 4)[:3, :3]
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: cannot read the line {line!r} ({error}). Download it again.") from error
    return result


def frame_files(folder: pathlib.Path, camera: int) -> dict[int, pathlib.Path]:
    """Extracted frames of a camera by index from 0; their names end in a number from 1, as several groups write them."""
    name = f"{folder.parent.name}_{folder.name}_V{camera}"
    for inner, start in (
        (folder / "imageFrames" / f"video_{camera}", ""),
        (folder / f"video_{camera}", ""),
        (folder / "images" / name, ""),
        (folder / "imageFrames", f"img_{camera}_"),
    ):
        files = {
            int(m[1]) - 1: p
            for p in inner.glob("*")
            if (m := re.fullmatch(rf"(?!\.){start}(?:.*\D)?(\d+)\.(jpg|png)", p.name))
        }
        if files:
            return dict(sorted(files.items()))
    return {}


def _available(folder: pathlib.Path, camera: int, usable: int) -> list[int]:
    """The frames of a camera that can be used: extracted ones, else those of its video; none where neither is there."""
    if files := frame_files(folder, camera):
        return [index for index in files if 0 <= index < usable]
    return list(range(min(usable, video.stated_frames(_video(folder, camera)))))


def _images(task: Task) -> Iterator[tuple[int, str, Any]]:
    """The frames of a task, each with the path below the archive ("" in a video), and the image or why there is none."""
    files = frame_files(task.folder, task.camera)
    if files:
        for frame in task.frames:
            path = files[frame].relative_to(task.base).as_posix()
            try:
                yield frame, path, pictures.Reader()(files[frame])
            except images.ImageError as error:
                yield frame, path, Skip("unreadable image", str(error).replace(f"{task.base}/", ""))
        return
    decoded = set()
    for frame, image in video.frames(_video(task.folder, task.camera), task.frames):
        decoded.add(frame)
        yield frame, "", image
    for frame in sorted(set(task.frames) - decoded):
        yield frame, "", Skip("a frame that the video does not have", f"{task} frame {frame}")


def _video(folder: pathlib.Path, camera: int) -> pathlib.Path:
    return folder / "imageSequence" / f"video_{camera}.avi"


@functools.lru_cache(maxsize=1)  # Tasks of one sequence follow each other.
def _annotations(path: pathlib.Path, changed: int) -> tuple[np.ndarray, np.ndarray]:
    del changed  # A file that was written anew is read anew.
    content = mat.read_v5(path, ["annot2", "annot3"])
    return content["annot2"], content["annot3"]


def _joints(folder: pathlib.Path, name: str, cells: np.ndarray, camera: int, size: int) -> Float[np.ndarray, "F 28 D"]:
    """One camera's cell of a variable of annot.mat."""
    if cells.dtype != object or camera >= cells.size:
        raise mat.MatError(f"{name} of {folder / 'annot.mat'} is {cells.shape} {cells.dtype}; it should be 14 cells.")
    cell = np.asarray(cells.ravel()[camera])
    if cell.ndim != 2 or cell.shape[1] != 28 * size:
        raise mat.MatError(
            f"{name} of {folder / 'annot.mat'} has {cell.shape} for camera {camera}; it should be (F, {28 * size})."
        )
    return cell.reshape(len(cell), 28, size).astype(np.float64)
