"""Sets from SPIN's lists (Kolotouros et al., 2019): one row per person, with fits of SMPL to them."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.data import fit_files, image_layouts, spin_lists
from tfds_builders.archives import BuildError, Skip
from tfds_builders.sources import rows, trees


@dataclasses.dataclass(frozen=True)
class Task:
    """Some rows of a list, for one worker process.

    Attributes:
      path: of the list.
      archive: the folder of the archive.
      layout: where the images are.
      dataset: name of the set.
      split: name of the split.
      first: its first row.
      count: its number of rows.
      options: of the builder.
      fits: of SMPL to its rows.
      changed: when the list was; an unfinished build of another list is not gone on with.
    """

    path: pathlib.Path
    archive: pathlib.Path
    layout: image_layouts.Layout
    dataset: str
    split: str
    first: int
    count: int
    options: Any
    fits: pathlib.Path | None = None
    changed: int = 0

    def __str__(self) -> str:
        return f"{self.dataset} {self.split}, {self.path.name} from row {self.first} on"


def plan(
    path: pathlib.Path,
    archive: pathlib.Path,
    dataset: str,
    split: str,
    options: Any,
    fits: pathlib.Path | None = None,
) -> list[Task]:
    """The tasks of a list whose images are in the archive.

    Args:
      path: of the list.
      archive: its folder.
      dataset: name of the set.
      split: name of the split.
      options: of the builder.
      fits: of SMPL to its rows (`read_fits`).

    Raises:
      BuildError: images are missing.
      ValueError: the list or the fits cannot be used, or do not belong together.
    """
    people = load(path, fits)
    names = list(dict.fromkeys(people.imgname))
    try:
        layout = image_layouts.find(archive, people.stem, names[:1])
    except ValueError as error:
        raise BuildError(
            f"{path} lists {len(names)} images; the first, {names[0]}, is neither there in {archive} by that name nor as "
            "other projects call it. Unpack the images of the set there."
        ) from error
    there = [None if (file := layout.path(name)) is None else file.relative_to(archive).as_posix() for name in names]
    absent = trees.absent(archive, [name or f"{names[i]} (a name of another kind)" for i, name in enumerate(there)])
    if absent:
        raise BuildError(
            f"{path} lists {len(names)} images, of which {len(absent)} are not in {archive}; the first is {absent[0]}. "
            "Was every archive unpacked to the end?"
        )
    count, changed = len(people), path.stat().st_mtime_ns
    return [
        Task(path, archive, layout, dataset, split, first, min(rows.BLOCK, count - first), options, fits, changed)
        for first in range(0, count, rows.BLOCK)
    ]


def make(task: Task) -> Iterator[dict[str, Any] | Skip]:
    """The examples of some rows; runs in a worker process."""
    people = load(task.path, task.fits)
    some = tuple(_row(people, i, task) for i in range(task.first, task.first + task.count))
    return rows.make(rows.Task(task.archive, ".", task.dataset, task.split, some, task.options))


def read_fits(
    path: pathlib.Path, count: int
) -> tuple[Float[np.ndarray, "N 72"], Float[np.ndarray, "N 10"], Float[np.ndarray, "N"]]:
    """Fits of SMPL to the rows of a list: poses, shapes, and 1 where there is one.

    Args:
      path: a .npy of `static_fits` (N, 82), in which every finite row is a fit, or an .npz with `pose`, `shape` (or
        `betas`) and a flag.
      count: rows of the list, in whose order they are.

    Raises:
      ValueError: the file cannot be used, or has another number of rows.
    """
    pose, betas, flag = fit_files.read_arrays(path)
    if len(flag) != count:
        raise ValueError(
            f"{path} has poses {pose.shape}; the list has {count} rows. Fits belong to the rows of one list."
        )
    finite = np.all(np.isfinite(pose), axis=1) & np.all(np.isfinite(betas), axis=1)
    return pose, betas, np.where(finite, flag > 0, 0.0)


def _row(people: spin_lists.Rows, i: int, task: Task) -> rows.Row | Skip:
    image = people.imgname[i]
    file = task.layout.path(image)
    assert file is not None  # `plan` saw to that.
    more: dict[str, Any] = {
        "joints3d": people.joints3d[i, :, :3],
        "joints3d_valid": (people.joints3d[i, :, 3] > 0).astype(np.float32),
        "gender": people.gender[i],
        "protocol_hint": "mpi_inf_3dhp" if task.dataset == "mpi_inf_3dhp" else "",
    }
    if people.smpl_valid[i] > 0:
        more |= {"pose": people.pose[i], "betas": people.betas[i], "smpl_valid": 1.0}
    return rows.row(
        f"{task.dataset}/{task.split}/{i:06d}/{pathlib.PurePosixPath(image).with_suffix('')}",
        file.relative_to(task.archive).as_posix(),
        people.kp2d[i, :, :2],
        (people.kp2d[i, :, 2] > 0).astype(np.float32),
        (people.center[i], people.scale[i]),
        more=more,
    )


def load(path: pathlib.Path, fits: pathlib.Path | str | None = None) -> spin_lists.Rows:
    """A list; people without SMPL get theirs from the fits."""
    return _loaded(path, pathlib.Path(fits) if fits else None, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)  # All tasks of a process are of one list.
def _loaded(path: pathlib.Path, fits: pathlib.Path | None, changed: int) -> spin_lists.Rows:
    del changed  # A list that was written anew is read anew.
    people = spin_lists.read(path)
    if fits is None:
        return people
    pose, betas, flag = read_fits(fits, len(people))
    fill = (people.smpl_valid == 0) & (flag > 0)
    return dataclasses.replace(
        people,
        pose=np.where(fill[:, None, None], pose.reshape(-1, 24, 3), people.pose),
        betas=np.where(fill[:, None], betas, people.betas),
        smpl_valid=np.where(fill, 1.0, people.smpl_valid),
    )
