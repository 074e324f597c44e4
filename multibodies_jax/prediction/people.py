"""People that somebody else found: files of pose estimators as boxes and J24, and the square box to crop around each."""

import collections
import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from multibodies_jax.geometry import boxes, joints
from multibodies_jax.prediction import people_json, people_keypoints, people_layouts

PeopleError = people_json.PeopleError
MIN_CONFIDENCE = people_keypoints.MIN_CONFIDENCE

_NAMED = 5  # Entries that cannot be used, and belong to no image or to frames.
# Boxes of top-down estimators are padded by a quarter, so that their joints lie up to an eighth of a box outside of it.
_OUTSIDE = 1 / 8
# In an image of 32 pixels or more, coordinates that all lie within -2 and 2 are fractions.
_FRACTION, _LARGE_PX = 2.0, 32
_NUMBER = re.compile("(?:COCO_[0-9A-Za-z]+_)?([0-9]{1,18})")  # 000000000785, COCO_val2014_000000000785


@dataclasses.dataclass(frozen=True)
class Person:
    """One person of one image, in pixels of the upright image.

    Attributes:
      keypoints: J24: x, y, and 1 where the joint is known (0, 0, 0 elsewhere).
      bbox: x, y, width, height, or None.
      annotation: its id in the file that lists it, or "".
      index: its place among the people of its image in that file, where crowds and entries that cannot be used have a
        place, too; None: its place among the people of `ImagePeople`.
    """

    keypoints: Float[np.ndarray, "24 3"]
    bbox: tuple[float, float, float, float] | None = None
    annotation: str = ""
    index: int | None = None


@dataclasses.dataclass(frozen=True)
class ImagePeople:
    """All people of one image, in the order of the file.

    Attributes:
      people: those that can be used.
      size: (width, height) as the file states it, or None.
      problems: a sentence on each entry that cannot be used.
    """

    people: tuple[Person, ...]
    size: tuple[int, int] | None = None
    problems: tuple[str, ...] = ()


def whole_image() -> ImagePeople:
    """One person of whom nothing is known: the box is the image."""
    return ImagePeople(people=(Person(np.zeros((24, 3), np.float32)),))


class PeopleOfImages(dict[str, ImagePeople]):
    """The people of images, found by an image's file name, by its name without suffix, or by the number that it is.

    Some layouts name an image without its suffix, or give a number: 785 is `000000000785.jpg`, `785.png` and
    `COCO_val2014_000000000785.jpg`; `frame_785.jpg` is not, because a name with a number in it may count anything.
    """

    def __init__(
        self,
        entries: dict[str | int, ImagePeople],
        problems: Sequence[str] = (),
        counted_from_1: Collection[str] = (),
    ):
        """`problems` are sentences on entries that cannot be used and do not say their image.

        `counted_from_1` are the images whose names are numbers of frames, of which the first of the video is 1.
        """
        self.problems = tuple(problems)
        self.counted_from_1 = frozenset(counted_from_1)
        super().__init__({str(image): found for image, found in entries.items()})
        self._numbers = frozenset(image for image in entries if isinstance(image, int))

    def _key(self, name: str) -> str | None:
        stem = pathlib.PurePath(name).stem
        number = _NUMBER.fullmatch(stem)
        if super().__contains__(name):
            return name
        if super().__contains__(stem):
            return stem
        return str(int(number[1])) if number and int(number[1]) in self._numbers else None

    def get(self, name: str, default: Any = None) -> Any:
        """The people of an image, or `default` where the file does not list it."""
        key = self._key(name)
        return default if key is None else super().__getitem__(key)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._key(name) is not None

    def __missing__(self, name: str) -> ImagePeople:
        key = self._key(name)
        if key is None:
            raise KeyError(name)
        return super().__getitem__(key)


def read_people(path: str | os.PathLike) -> PeopleOfImages:
    """Reads the people of a file or a folder of files in one of the layouts `people_layouts.LAYOUTS`.

    These are the annotations and results of COCO (MMPose 0.x and ViTPose write results), and the files of OpenPose,
    AlphaPose, MMPose 1.x, TensorFlow.js and MediaPipe. The joints follow from their names in the file, in any order and
    with others between them, or, where there are no names, from the number of keypoints. A keypoint whose confidence is
    below `MIN_CONFIDENCE`, null or NaN is unknown; of COCO's flags this is 0. Annotations of categories that are no
    people, and crowds, are no people; of results every entry is a person, whatever its score.

    An entry that cannot be used, or a file of a folder, is left out and named in `ImagePeople.problems` of its image or,
    where that is unknown, in `PeopleOfImages.problems`.

    Args:
      path: a JSON file, or a folder whose `.json` files are all read; nothing in them is trusted.

    Returns:
      For every image its people (there may be none), to be looked up by the image's file name without folders.

    Raises:
      PeopleError: a file cannot be read, its layout is unknown, or none of its entries can be used; the message says
        which file and which entry.
    """
    path = pathlib.Path(path)
    found: dict[str | int, ImagePeople] = {}
    sources: dict[str, pathlib.Path] = {}
    problems: list[str] = []
    counted_from_1: set[str] = set()
    total = 0
    files = _files(path) if path.is_dir() else [path]
    for file in files:
        try:
            people, unplaced, from_1 = _read(file)
        except PeopleError as error:
            if len(files) == 1:
                raise
            problems.append(str(error))
            continue
        problems += unplaced
        counted_from_1 |= {str(image) for image in people if from_1}
        for image, entry in people.items():
            if str(image) in sources:
                raise PeopleError(
                    f"{file} and {sources[str(image)]} both list the people of {image}; keep one of them."
                )
            found[image], sources[str(image)] = entry, file
            total += len(entry.people)
            if total > people_layouts.MOST_PEOPLE:
                raise PeopleError(f"{path}: more than {people_layouts.MOST_PEOPLE} people; keep those of these images.")
    every = [*problems, *(problem for entry in found.values() for problem in entry.problems)]
    if every and not total:
        raise PeopleError(every[0] + (f" None of the {len(every)} entries can be used." if len(every) > 1 else ""))
    return PeopleOfImages(found, problems, counted_from_1)


def tell_skipped(problems: Sequence[str], path: str | os.PathLike) -> None:
    """Names the first entries of a people file that cannot be used, and says how many others there are."""
    for problem in problems[:_NAMED]:
        tqdm.write(f"skipped {problem}", file=sys.stderr)
    if len(problems) > _NAMED:
        tqdm.write(f"skipped {len(problems) - _NAMED} more entries of {path}", file=sys.stderr)


def check_keypoints(keypoints: Any) -> Float[np.ndarray, "24 3"]:
    """The keypoints of a person as an array, (0, 0, 0) where they are unknown.

    Args:
      keypoints: J24: x, y in pixels, and 1 where the joint is known.

    Raises:
      PeopleError: they have another shape, a confidence that is not finite, or a known joint that is nowhere.
    """
    table = np.asarray(keypoints, np.float32)
    if table.shape != (len(joints.J24), 3):
        raise PeopleError(
            f"The keypoints are an array {table.shape}; expected are {(len(joints.J24), 3)}: x, y in pixels, and 1 where "
            "the joint is known, of the joints of geometry.joints.J24. Other sets: joints.index_map"
        )
    if lost := [joints.J24[j] for j in np.flatnonzero(~np.isfinite(table[:, 2]))]:
        raise PeopleError(
            f"The confidence of {lost[0]} is {table[joints.J24.index(lost[0]), 2]}; unknown joints have 0"
        )
    known = table[:, 2] > 0
    if (far := np.flatnonzero(known & ~(np.abs(table[:, :2]) <= people_json.LARGEST_NUMBER).all(axis=1))).size:
        x, y = table[far[0], :2]
        raise PeopleError(f"{joints.J24[far[0]]} is at ({x:g}, {y:g}); expected are pixels, or confidence 0")
    return np.where(known[:, None], table, np.float32(0))


def check_inside(person: Person, image_size: Sequence[int], who: str = "the person") -> None:
    """Refuses a person who is not in pixels, or has known keypoints farther outside than an estimator can see.

    Args:
      person: of the image.
      image_size: width, height in pixels.
      who: for the message.

    Raises:
      PeopleError: the person is normalised to the image (`check_pixels`), or a known keypoint is more than an eighth of
        the longer side outside; the message names such joints.
    """
    size = np.asarray(image_size, np.float64)
    if size.max() >= _LARGE_PX:
        check_pixels(person, who)
    margin = _OUTSIDE * size.max()
    points = person.keypoints[:, :2]
    inside = np.all((points >= -margin) & (points <= size + margin), axis=1)  # NaN is not inside.
    outside = (person.keypoints[:, 2] > 0) & ~inside
    if np.any(outside):
        listed = [f"{joints.J24[j]} at ({points[j, 0]:.0f}, {points[j, 1]:.0f})" for j in np.flatnonzero(outside)]
        raise PeopleError(
            f"{who} has known keypoints outside the image of {size[0]:.0f} x {size[1]:.0f} pixels: "
            f"{', '.join(listed[:3])}{', ...' if len(listed) > 3 else ''}; they have to be pixels of this image, with "
            "confidence 0 for joints out of the frame"
        )


def check_pixels(person: Person, who: str = "the person") -> None:
    """Refuses coordinates that are fractions of a large image: no person is two pixels wide in its corner.

    Args:
      person: of an image of at least 32 pixels; the known keypoints count or, of fewer than two, the box.
      who: for the message.

    Raises:
      PeopleError: all coordinates lie within -2 and 2.
    """
    known = person.keypoints[person.keypoints[:, 2] > 0, :2]
    if len(known) >= 2:
        what, numbers = "known keypoints", known
    elif person.bbox is not None:
        what, numbers = "numbers of the box", np.asarray(person.bbox)
    else:
        return
    if np.abs(numbers).max() <= _FRACTION:
        raise PeopleError(
            f"{who}: all {what} lie within -2 and 2 ({', '.join(f'{x:.2g}' for x in numbers.ravel()[:4])}, ...), so they are "
            "fractions of the image; expected are pixels. Multiply x by its width and y by its height"
        )


def box(
    person: Person, image_size: Sequence[int], visible: Float[np.ndarray, "24"] | None = None
) -> tuple[Float[np.ndarray, "2"], float]:
    """The square to crop: around two or more known keypoints, else the annotated box, else the whole image.

    Keypoints come first because training crops around the visible ones (`boxes.visible_box`).

    Args:
      person: of the image.
      image_size: width, height.
      visible: > 0 for the keypoints to use; None for all that are known.

    Returns:
      Centre in pixels, and scale: the side is 200 x scale.
    """
    visible = person.keypoints[:, 2] if visible is None else visible
    if np.count_nonzero(visible > 0) >= 2:
        center, scale = boxes.visible_box(person.keypoints[:, :2], visible)
        return np.asarray(center), float(scale)
    if person.bbox is not None:
        x, y, width, height = person.bbox
        center, side = (x + width / 2, y + height / 2), boxes.PADDING * max(width, height)
    else:
        center, side = (image_size[0] / 2, image_size[1] / 2), max(image_size)
    return np.array(center, np.float32), side / boxes.SIDE


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    found = (file for file in folder.iterdir() if file.suffix.lower() == ".json" and file.name[0] != ".")
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise PeopleError(f"{folder}: no .json file in this folder; expected one for each image.")
    return files


def _read(path: pathlib.Path) -> tuple[dict[str | int, ImagePeople], list[str], bool]:
    """The people of the images of a file, what is wrong with entries that do not say their image, and whether the images are
    frames of which the first is 1."""
    content = people_json.load(path)
    try:
        listing = people_layouts.read(content, path.stem)
    except PeopleError as error:
        raise PeopleError(f"{path}: {error}.") from None
    people: dict[str | int, list[Person]] = {image: [] for image in listing.images}
    problems: dict[str | int | None, list[str]] = {image: [] for image in (*listing.images, None)}
    places: collections.Counter[str | int | None] = collections.Counter()
    for entry in listing.entries:
        place = places[entry.image]
        places[entry.image] += 1
        if isinstance(entry, people_layouts.Skipped):
            if entry.problem:
                problems[entry.image].append(f"{path}: {entry.problem}.")
            continue
        person = Person(entry.keypoints, entry.bbox, entry.annotation, place)
        size = listing.images[entry.image]
        try:
            if size is not None:
                check_inside(person, size, entry.where)
        except PeopleError as error:
            problems[entry.image].append(f"{path}: {error}.")
        else:
            people[entry.image].append(person)
    images = {
        image: ImagePeople(tuple(people[image]), size, tuple(problems[image])) for image, size in listing.images.items()
    }
    return images, problems[None], listing.counted_from_1
