"""People annotated in images: what a reader of annotations gives, and the examples that are made of it."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax import untrusted
from multibodies_jax.data import images
from multibodies_jax.geometry import boxes
from tfds_builders import archives, features, windows
from tfds_builders.archives import Skip
from tfds_builders.sources import pictures

BLOCK = 200  # Rows of a task: some seconds of work.
SPIN_PADDING = 1.2  # Of the box around keypoints or a bounding box (Kolotouros et al., 2019, preprocessing).


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One person of one image, as annotated.

    Attributes:
      name: the id of the example.
      image: of the image file, relative to the images' folder.
      kp2d: J24, original pixels.
      kp2d_valid: 1 where annotated.
      box_center: original pixels.
      box_scale: side / 200.
      size: width and height of the image where the annotations state them.
      more: other features of the example.
    """

    name: str
    image: str
    kp2d: Float[np.ndarray, "24 2"]
    kp2d_valid: Float[np.ndarray, "24"]
    box_center: Float[np.ndarray, "2"]
    box_scale: float
    size: tuple[int, int] | None = None
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """A block of rows, for one worker process.

    Attributes:
      folder: of the images.
      prefix: of `folder` below the folder of the archive; stored where the set holds paths instead of images.
      dataset: name of the set.
      split: name of the split.
      rows: people, and what the annotations rule out.
      options: of the builder.
    """

    folder: pathlib.Path
    prefix: str
    dataset: str
    split: str
    rows: tuple[Row | Skip, ...]
    options: archives.ArchiveOptions

    def __str__(self) -> str:
        names = [row.name if isinstance(row, Row) else row.what for row in self.rows]
        return f"{self.dataset} {self.split}, {names[0]} to {names[-1]}"


def row(
    name: str,
    image: str,
    kp2d: Float[np.ndarray, "24 2"],
    kp2d_valid: Float[np.ndarray, "24"],
    box: tuple[Any, Any] | None = None,
    **more: Any,
) -> Row | Skip:
    """A row, its box around the annotated keypoints unless one is given; or why the person cannot be used.

    Raises:
      untrusted.FileError: the image is not named by a relative path without `..`: it may be any file.
    """
    if not isinstance(image, str) or image.startswith("/") or ".." in image.split("/"):
        raise untrusted.FileError(f"the image {image!r:.200} is not named by a path inside the folder of the images")
    if not np.any(kp2d_valid > 0):
        return Skip("no annotated joint", name)
    if not np.all(np.isfinite(kp2d[kp2d_valid > 0])):
        return Skip("a joint that is not finite", name)
    kp2d = np.where(kp2d_valid[:, None] > 0, kp2d, 0.0)
    center, scale = box or boxes.visible_box(kp2d, kp2d_valid, padding=SPIN_PADDING)
    if not (np.all(np.isfinite(center)) and np.isfinite(scale) and scale > 0):
        return Skip("a box that is not finite or has no area", name)
    return Row(name, image, kp2d, kp2d_valid, np.asarray(center, np.float64), float(scale), **more)


def blocks(
    rows: Sequence[Row | Skip], archive: pathlib.Path, folder: pathlib.Path, dataset: str, split: str, options: Any
) -> list[Task]:
    """The tasks of a split."""
    prefix = folder.relative_to(archive).as_posix()
    starts = range(0, len(rows), BLOCK)
    return [Task(folder, prefix, dataset, split, tuple(rows[i : i + BLOCK]), options) for i in starts]


def make(task: Task) -> Iterator[dict[str, Any] | Skip]:
    """The examples of a block of people; runs in a worker process."""
    read = pictures.Reader()
    for person in task.rows:
        if isinstance(person, Skip):
            yield person
            continue
        try:
            image = read(untrusted.inside(task.folder, person.image))
        except images.ImageError as error:
            yield Skip("unreadable image", str(error).replace(f"{task.folder}/", ""))
            continue
        size = (image.shape[1], image.shape[0])
        if person.size not in (None, size):
            yield Skip("an image of another size than annotated", f"{person.name}: {size}, annotated {person.size}")
            continue
        yield example(person, image, task)


def example(person: Row, image: np.ndarray, task: Any) -> dict[str, Any] | Skip:
    """The example of a person in an image that was read; a box beside the image gives none."""
    try:
        pixels, window = windows.cut(image, person.box_center, person.box_scale)
    except ValueError:  # The box is finite: `row` saw to that.
        return Skip("a box outside the image", person.name)
    path = (pathlib.PurePosixPath(task.prefix) / person.image).as_posix() if person.image else None
    return features.example(
        example_id=person.name,
        image=archives.stored_image(pixels, task.options, task.split, path=path),
        window=window,
        image_size=[image.shape[1], image.shape[0]],
        box_center=person.box_center,
        box_scale=person.box_scale,
        kp2d=person.kp2d,
        kp2d_valid=person.kp2d_valid,
        dataset=task.dataset,
        **person.more,
    )
