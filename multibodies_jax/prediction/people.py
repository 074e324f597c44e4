"""People of a COCO-style JSON file: boxes and keypoints, checked, as J24; and the square box to crop around each."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.geometry import boxes, joints

MIN_CONFIDENCE = 0.2  # Detectors give a place to every joint, found or not; COCO's own flags are 0, 1 and 2.
_MOST_PEOPLE = 100_000
_LARGEST_FILE = 2**30
_LARGEST_COORDINATE = 1e6

# The names in OpenPose's own documentation, in its order.
_OPENPOSE_NAMES = (
    "nose", "neck", "rshoulder", "relbow", "rwrist", "lshoulder", "lelbow", "lwrist", "midhip", "rhip", "rknee",
    "rankle", "lhip", "lknee", "lankle", "reye", "leye", "rear", "lear", "lbigtoe", "lsmalltoe", "lheel", "rbigtoe",
    "rsmalltoe", "rheel",
)  # fmt: skip


class PeopleError(ValueError):
    """A people file that cannot be used; the message names the file and the entry."""


@dataclasses.dataclass(frozen=True)
class Person:
    """One person of one image, in pixels of the upright image.

    Attributes:
      keypoints: J24: x, y, and 1 where the joint is known (0, 0, 0 elsewhere).
      bbox: x, y, width, height, or None.
    """

    keypoints: Float[np.ndarray, "24 3"]
    bbox: tuple[float, float, float, float] | None = None


@dataclasses.dataclass(frozen=True)
class ImagePeople:
    """All people of one image, in the order of the file; `size` is (width, height) as the file states it, or None."""

    people: tuple[Person, ...]
    size: tuple[int, int] | None = None


def whole_image() -> ImagePeople:
    """One person of whom nothing is known: the box is the image."""
    return ImagePeople(people=(Person(np.zeros((24, 3), np.float32)),))


def read_people(path: str | os.PathLike) -> dict[str, ImagePeople]:
    """Reads a COCO-style file: `images`, `annotations` with `keypoints` or `bbox` or both, and `categories`.

    The names in `categories` say which joints the keypoints are (COCO-17, J24, OpenPose-25 and the other sets of
    `joints.SETS`); without names 17 keypoints are COCO's. Annotations of categories that are not "person", and crowds,
    are no people. The third number of a keypoint is COCO's flag, or a detector's confidence: below `MIN_CONFIDENCE` the
    joint counts as unknown.

    Args:
      path: a JSON file; nothing in it is trusted.

    Returns:
      For every image, by its file name without folders, its people (there may be none).

    Raises:
      PeopleError: the file cannot be read, or an entry is not as it should be; the message says which.
    """
    path = pathlib.Path(path)
    content = _load(path)
    try:
        joint_sets = _joint_sets(_list(content, "categories", needed=False))
        sizes, names = _images(_list(content, "images"))
        found: dict[Any, list[Person]] = {identity: [] for identity in names}
        annotations = _list(content, "annotations")
        if len(annotations) > _MOST_PEOPLE:
            raise PeopleError(f"it has {len(annotations)} annotations; at most {_MOST_PEOPLE} are read")
        for index, annotation in enumerate(annotations):
            where = f"annotations[{index}]"
            image = _field(annotation, "image_id", (int, str), where)
            if image not in found:
                raise PeopleError(f"{where} belongs to image_id {image!r}, which is not among the images")
            if (person := _person(annotation, joint_sets, where)) is not None:
                found[image].append(person)
    except PeopleError as error:
        raise PeopleError(f"{path}: {error}.") from None
    return {name: ImagePeople(tuple(found[identity]), sizes[identity]) for identity, name in names.items()}


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


def _load(path: pathlib.Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise PeopleError(f"{path}: larger than {_LARGEST_FILE >> 20} MiB; keep the people of these images only.")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PeopleError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, PeopleError):
            raise
        raise PeopleError(f"{path}: no valid JSON ({error}).") from error


def _list(content: Any, key: str, needed: bool = True) -> list:
    if not isinstance(content, dict):
        raise PeopleError(
            f"the file is a {type(content).__name__}; a COCO-style file is an object with images and annotations"
        )
    value = content.get(key, None if needed else [])
    if not isinstance(value, list):
        raise PeopleError(f"{key} has to be a list, got {_short(value)}")
    return value


def _field(entry: Any, key: str, types: tuple[type, ...], where: str) -> Any:
    if not isinstance(entry, dict):
        raise PeopleError(f"{where} has to be an object, got {_short(entry)}")
    value = entry.get(key)
    if not isinstance(value, types) or isinstance(value, bool):
        wanted = " or ".join(kind.__name__ for kind in types)
        raise PeopleError(f"{where}.{key} has to be {wanted}, got {_short(value)}")
    return value


def _numbers(value: Any, where: str) -> list[float]:
    plain = isinstance(value, list) and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
    if not plain or not all(abs(x) <= _LARGEST_COORDINATE for x in value):
        raise PeopleError(f"{where} has to be a list of pixels, finite numbers, got {_short(value)}")
    return [float(x) for x in value]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _images(entries: list) -> tuple[dict[Any, tuple[int, int] | None], dict[Any, str]]:
    """(id -> size or None, id -> file name) of all images."""
    sizes: dict[Any, tuple[int, int] | None] = {}
    names: dict[Any, str] = {}
    taken = {""}
    for index, entry in enumerate(entries):
        where = f"images[{index}]"
        identity = _field(entry, "id", (int, str), where)
        name = pathlib.PurePosixPath(_field(entry, "file_name", (str,), where)).name
        if identity in names or name in taken:
            raise PeopleError(f"{where}: its id {identity!r} or file name {name!r} is empty or stands there twice")
        names[identity] = name
        taken.add(name)
        sized = entry.get("width") is not None and entry.get("height") is not None
        sizes[identity] = (
            (_field(entry, "width", (int,), where), _field(entry, "height", (int,), where)) if sized else None
        )
    return sizes, names


def _joint_sets(categories: list) -> dict[Any, str | None]:
    """Category id -> joint set ("" for a person without keypoint names), None for what is no person."""
    result: dict[Any, str | None] = {}
    for index, category in enumerate(categories):
        where = f"categories[{index}]"
        identity = _field(category, "id", (int, str), where)
        if str(category.get("name", "person")).lower() != "person":
            result[identity] = None
        elif "keypoints" not in category:
            result[identity] = ""
        else:
            result[identity] = _joint_set(_field(category, "keypoints", (list,), where), where)
    return result


def _joint_set(names: list, where: str) -> str:
    plain = tuple(str(name).strip().lower().replace(" ", "_").replace("-", "_") for name in names)
    if tuple(name.replace("_", "") for name in plain) == _OPENPOSE_NAMES:
        return "openpose25"
    for joint_set, expected in joints.SETS.items():
        if plain == expected:
            return joint_set
    raise PeopleError(
        f"{where}.keypoints are {len(plain)} names ({_short(', '.join(plain))}) of no known set in its order; "
        f"known are {', '.join(joints.SETS)} (names in joints.py)"
    )


def _person(annotation: Any, joint_sets: dict[Any, str | None], where: str) -> Person | None:
    """The person of an annotation, or None where it is none."""
    category = annotation.get("category_id")
    if not isinstance(category, (int, str, type(None))):
        raise PeopleError(f"{where}.category_id has to be int or str, got {_short(category)}")
    if joint_sets and category is not None and category not in joint_sets:
        raise PeopleError(f"{where}.category_id {category!r} is not among the categories")
    joint_set = joint_sets.get(category, "")
    if joint_set is None or annotation.get("iscrowd"):
        return None
    keypoints = np.zeros((24, 3), np.float32)
    if annotation.get("keypoints") is not None:
        keypoints = _keypoints(annotation["keypoints"], joint_set, f"{where}.keypoints")
    return Person(keypoints, _bbox(annotation.get("bbox"), f"{where}.bbox"))


def _keypoints(value: Any, joint_set: str, where: str) -> Float[np.ndarray, "24 3"]:
    numbers = _numbers(value, where)
    expected = len(joints.SETS[joint_set or "coco17"])
    if len(numbers) != 3 * expected:
        hint = "" if joint_set else "; other sets need the names of their keypoints in categories"
        raise PeopleError(
            f"{where} has {len(numbers)} numbers, expected 3 x {expected} ({joint_set or 'coco17'}){hint}"
        )
    table = np.array(numbers, np.float32).reshape(expected, 3)
    table[:, 2] = table[:, 2] >= MIN_CONFIDENCE
    return joints.to_j24(table, joint_set or "coco17")


def _bbox(value: Any, where: str) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    numbers = _numbers(value, where)
    if len(numbers) != 4 or not all(math.isfinite(x) for x in numbers) or min(numbers[2:]) <= 0:
        raise PeopleError(f"{where} has to be [x, y, width, height] with an area, got {_short(value)}")
    x, y, width, height = numbers
    return x, y, width, height
