"""The layouts in which pose estimators write people: recognised, checked, and rewritten as J24 and boxes.

`LAYOUTS` is the table. Sources are the documentation of OpenPose (`doc/02_output.md`), COCO (data format), AlphaPose
(`docs/output.md`, Halpe-FullBody) and MMPose 1.x (inference guide). Confidences are compared with `MIN_CONFIDENCE` as they
stand in the file, and one that a layout cannot have is refused. All but COCO's flags may exceed 1: they are peaks of
unnormalised heat maps or logits. In OpenPose 1.41 was seen, AlphaPose states 0 to 6, and MMPose's SimCC heads are unbounded.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people_json
from multibodies_jax.prediction.people_json import PeopleError

MIN_CONFIDENCE = 0.2  # Estimators give a place to every joint, found or not; COCO's own flags are 0, 1 and 2.
MOST_PEOPLE = 100_000
_LARGEST_FLAG = 2.0  # Of COCO annotations and of OpenPose.
_LARGEST_SCORE = 10.0  # Of the other estimators.
_LARGEST_IMAGE = 1_000_000

# Keypoints in a list without names -> the set that its first ones are; COCO-WholeBody has 133, Halpe 136.
_RESULT_SETS = {17: "coco17", 26: "halpe26", 133: "coco17", 136: "halpe26"}
_OPENPOSE_SETS = {25: "openpose25", 18: "openpose18"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One person of a file.

    Attributes:
      image: name of the image, without its suffix where the file does not tell it, or the image's number.
      keypoints: J24: x, y in pixels, and 1 where the joint is known (0, 0, 0 elsewhere).
      bbox: x, y, width, height in pixels, or None.
      where: the entry, for messages.
    """

    image: str | int
    keypoints: Float[np.ndarray, "24 3"]
    bbox: tuple[float, float, float, float] | None
    where: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a file lists: all its images with their (width, height) or None, and the people in them."""

    images: dict[str | int, tuple[int, int] | None]
    entries: Sequence[Entry]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A layout: its name, what a file of it looks like, how it is recognised, and how it is read.

    `read(content, stem)` gets the file's name without suffix, which names the image where the content does not.
    """

    name: str
    looks_like: str
    recognise: Callable[[Any], bool]
    read: Callable[[Any, str], Listing]


def read(content: Any, stem: str) -> Listing:
    """The people of one file.

    Args:
      content: of the JSON file; nothing in it is trusted.
      stem: the file's name without `.json`.

    Raises:
      PeopleError: the layout is unknown, or an entry is not as it should be; the message says which.
    """
    for layout in LAYOUTS:
        if layout.recognise(content):
            return layout.read(content, stem)
    kind = {dict: "an object", list: "a list"}.get(type(content), people_json.short(content))
    known = "".join(f"\n  {layout.name}: {layout.looks_like}" for layout in LAYOUTS)
    raise PeopleError(f"the file is {kind} of no known layout of people; known are{known}\n  A folder of such files")


def joint_set(names: Sequence[Any], where: str) -> str:
    """The set of `joints.SETS` whose joints these are, in its order; for 133 or 136 names, that of the first ones.

    Names may be spelt as in this project, COCO, MMPose, OpenPose or Halpe: `left_hip`, `LHip`, `MidHip`, `Neck`.

    Raises:
      PeopleError: no set has these names in this order.
    """
    plain = [str(name).strip().lower().replace(" ", "").replace("-", "").replace("_", "") for name in names]
    body = {133: 17, 136: 26}.get(len(plain), len(plain))
    for known, expected in joints.SETS.items():
        if len(expected) == body and all(a in _spellings(b) for a, b in zip(plain[:body], expected, strict=True)):
            return known
    raise PeopleError(
        f"{where} are {len(plain)} names ({people_json.short(', '.join(map(str, names)))}) of no known set in its order; "
        f"known are {', '.join(joints.SETS)} (names in joints.py)"
    )


def _spellings(joint: str) -> set[str]:
    side, _, rest = joint.partition("_")
    if side in ("left", "right"):
        plain = rest.replace("_", "")
        return {side + plain, side[0] + plain}
    others = {"mid_shoulders": {"neck"}, "mid_hips": {"midhip"}, "pelvis": {"hip"}, "head_top": {"head"}}
    return {joint.replace("_", "")} | others.get(joint, set())


def _j24(table: Float[np.ndarray, "K 3"], known_set: str, largest: float, where: str) -> Float[np.ndarray, "24 3"]:
    """x, y and confidence of a known set, possibly followed by more keypoints, as J24."""
    names = joints.SETS[known_set]
    table = table[: len(names)].copy()
    if (over := np.flatnonzero(table[:, 2] > largest)).size:
        raise PeopleError(
            f"{where}: the confidence of {names[over[0]]} is {table[over[0], 2]:g}; this layout has at most {largest:g}"
        )
    table[(table[:, :2] == 0).all(axis=1), 2] = 0  # (0, 0) stands for "not found", whatever confidence is beside it.
    table[:, 2] = table[:, 2] >= MIN_CONFIDENCE
    placed = table[table[:, 2] > 0, :2]
    if len(placed) >= 2 and np.abs(placed).max() <= 1:
        raise PeopleError(
            f"{where}: all known keypoints lie within -1 and 1, so they are fractions of the image; expected are pixels "
            "(OpenPose: --keypoint_scale=0)"
        )
    return joints.to_j24(table.astype(np.float32), known_set)


def _flat(value: Any, sets: Mapping[int, str], largest: float, where: str) -> Float[np.ndarray, "24 3"]:
    """A flat list x, y, confidence, x, y, ... whose length tells the set."""
    numbers = people_json.numbers(value, where)
    count, rest = divmod(len(numbers), 3)
    if rest or count not in sets:
        wanted = " or ".join(f"3 x {number} ({name})" for number, name in sets.items())
        raise PeopleError(f"{where} has {len(numbers)} numbers, expected {wanted}")
    return _j24(np.array(numbers).reshape(count, 3), sets[count], largest, where)


def _bbox(value: Any, where: str) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    numbers = people_json.numbers(value, where)
    if len(numbers) != 4 or min(numbers[2:]) <= 0:
        raise PeopleError(f"{where} has to be [x, y, width, height] with an area, got {people_json.short(value)}")
    x, y, width, height = numbers
    return x, y, width, height


def _corners(value: Any, where: str) -> tuple[float, float, float, float] | None:
    """MMPose's [[x1, y1, x2, y2]], or the same without the outer list."""
    if value is None:
        return None
    numbers = people_json.numbers(value[0] if isinstance(value, list) and len(value) == 1 else value, where)
    if len(numbers) != 4 or numbers[2] <= numbers[0] or numbers[3] <= numbers[1]:
        raise PeopleError(f"{where} has to be [x1, y1, x2, y2] with an area, got {people_json.short(value)}")
    return numbers[0], numbers[1], numbers[2] - numbers[0], numbers[3] - numbers[1]


def _people(value: Any, where: str) -> list:
    """A list of people, of which there are not too many."""
    if len(people_json.items(value, where)) > MOST_PEOPLE:
        raise PeopleError(f"{where} has {len(value)} entries; at most {MOST_PEOPLE} people are read")
    return value


def _has(content: Any, *keys: str) -> bool:
    return isinstance(content, dict) and any(key in content for key in keys)


def _list_of(content: Any, *keys: str) -> bool:
    """Whether it is a list whose first item has one of the keys."""
    return isinstance(content, list) and len(content) > 0 and _has(content[0], *keys)


# COCO annotations


def _annotations(content: Any, stem: str) -> Listing:
    sets = _category_sets(people_json.items(content.get("categories", []), "categories"))
    names, sizes = _images(people_json.items(content.get("images"), "images"))
    entries = []
    for index, annotation in enumerate(_people(content.get("annotations"), "annotations")):
        where = f"annotations[{index}]"
        image = people_json.field(annotation, "image_id", (int, str), where)
        if image not in names:
            raise PeopleError(f"{where} belongs to image_id {image!r}, which is not among the images")
        category = annotation.get("category_id")
        if not isinstance(category, (int, str, type(None))):
            raise PeopleError(f"{where}.category_id has to be int or str, got {people_json.short(category)}")
        if sets and category is not None and category not in sets:
            raise PeopleError(f"{where}.category_id {category!r} is not among the categories")
        known_set = sets.get(category, "")
        if known_set is None or annotation.get("iscrowd"):
            continue
        keypoints = _annotated(annotation.get("keypoints"), known_set, f"{where}.keypoints")
        entries.append(Entry(names[image], keypoints, _bbox(annotation.get("bbox"), f"{where}.bbox"), where))
    return Listing(sizes, entries)


def _images(entries: list) -> tuple[dict[str | int, str], dict[str | int, tuple[int, int] | None]]:
    """(id -> file name, file name -> size or None) of all images."""
    names: dict[str | int, str] = {}
    sizes: dict[str | int, tuple[int, int] | None] = {}
    for index, entry in enumerate(entries):
        where = f"images[{index}]"
        identity = people_json.field(entry, "id", (int, str), where)
        name = pathlib.PurePosixPath(people_json.field(entry, "file_name", (str,), where)).name
        if identity in names or name in sizes or not name:
            raise PeopleError(f"{where}: its id {identity!r} or file name {name!r} is empty or stands there twice")
        names[identity] = name
        sizes[name] = None
        if entry.get("width") is not None and entry.get("height") is not None:
            sizes[name] = _side(entry, "width", where), _side(entry, "height", where)
    return names, sizes


def _side(entry: Any, key: str, where: str) -> int:
    side = people_json.field(entry, key, (int,), where)
    if not 1 <= side <= _LARGEST_IMAGE:
        raise PeopleError(f"{where}.{key} has to be 1 to {_LARGEST_IMAGE} pixels, got {people_json.short(side)}")
    return side


def _category_sets(categories: list) -> dict[Any, str | None]:
    """Category id -> joint set ("" for a person without keypoint names), None for what is no person."""
    result: dict[Any, str | None] = {}
    for index, category in enumerate(categories):
        where = f"categories[{index}]"
        identity = people_json.field(category, "id", (int, str), where)
        if str(category.get("name", "person")).lower() != "person":
            result[identity] = None
        elif "keypoints" not in category:
            result[identity] = ""
        else:
            result[identity] = joint_set(people_json.field(category, "keypoints", (list,), where), f"{where}.keypoints")
    return result


def _annotated(value: Any, known_set: str, where: str) -> Float[np.ndarray, "24 3"]:
    if value is None:
        return np.zeros((24, 3), np.float32)
    name = known_set or "coco17"
    hint = "" if known_set else "; other sets need the names of their keypoints in categories"
    try:
        return _flat(value, {len(joints.SETS[name]): name}, _LARGEST_FLAG, where)
    except PeopleError as error:
        raise PeopleError(f"{error}{hint}") from None


# COCO results and AlphaPose: a list of people, each with its image


def _results(content: Any, stem: str) -> Listing:
    images: dict[str | int, tuple[int, int] | None] = {}
    entries = []
    for index, person in enumerate(_people(content, "the list")):
        where = f"[{index}]"
        image = people_json.field(person, "image_id", (int, str), where)
        image = pathlib.PurePosixPath(image).name if isinstance(image, str) else image
        if image == "":
            raise PeopleError(f"{where}.image_id is empty; expected is the name or the number of an image")
        if isinstance(image, str) != isinstance(content[0].get("image_id"), str):
            raise PeopleError(
                f"{where}.image_id is {image!r}; expected are either names or numbers of images, not both"
            )
        if person.get("category_id", 1) not in (0, 1):
            category = people_json.short(person["category_id"])
            raise PeopleError(f"{where}.category_id is {category}; a person has 1. Keep the people only")
        keypoints = _flat(person.get("keypoints"), _RESULT_SETS, _LARGEST_SCORE, f"{where}.keypoints")
        box = "box" if "box" in person else "bbox"
        images[image] = None
        entries.append(Entry(image, keypoints, _bbox(person.get(box), f"{where}.{box}"), where))
    return Listing(images, entries)


# OpenPose, and AlphaPose with --format=open or cmu


def _openpose(content: Any, stem: str) -> Listing:
    image = stem.removesuffix("_keypoints")
    return Listing({image: None}, _bodies(content, image, ""))


def _alphapose_by_image(content: Any, stem: str) -> Listing:
    names = {name: pathlib.PurePosixPath(name).name for name in content}
    if len(set(names.values())) < len(names) or "" in names.values():
        raise PeopleError("its images have equal or empty names without their folders")
    entries = [entry for name in content for entry in _bodies(content[name], names[name], f"[{name!r}].")]
    return Listing(dict.fromkeys(names.values()), entries)


def _bodies(content: Any, image: str, before: str) -> list[Entry]:
    key = "people" if "people" in content else "bodies"
    largest = _LARGEST_SCORE if str(content.get("version")).startswith("AlphaPose") else _LARGEST_FLAG
    entries = []
    for index, person in enumerate(_people(content[key], before + key)):
        where = f"{before}{key}[{index}]"
        spelt = [name for name in ("pose_keypoints_2d", "pose_keypoints", "joints") if _has(person, name)]
        name = spelt[0] if spelt else "pose_keypoints_2d"
        value = people_json.field(person, name, (list,), where)
        entries.append(Entry(image, _flat(value, _OPENPOSE_SETS, largest, f"{where}.{name}"), None, where))
    return entries


def _is_alphapose_by_image(content: Any) -> bool:
    return isinstance(content, dict) and bool(content) and all(_has(v, "people", "bodies") for v in content.values())


# MMPose 1.x


def _mmpose(content: Any, stem: str) -> Listing:
    known_set, count, where, image = "", 0, "", stem
    if isinstance(content, dict):
        image = stem.removeprefix("results_")
        if (names := _names(content.get("meta_info"))) is not None:
            known_set, count = joint_set(names, "meta_info.keypoint_id2name"), len(names)
        content, where = content["instance_info"], "instance_info"
    if not _list_of(content, "instances"):
        return Listing({image: None}, _instances(content, image, known_set, count, where))
    images: dict[str | int, tuple[int, int] | None] = {}
    entries: list[Entry] = []
    for index, frame in enumerate(content):
        number = people_json.field(frame, "frame_id", (int,), f"{where}[{index}]")
        inside = f"{where}[{index}].instances"
        if number in images:
            raise PeopleError(f"{where}[{index}]: frame_id {number} stands there twice")
        name = image if len(content) == 1 else number
        images[name] = None
        entries += _instances(frame.get("instances"), name, known_set, count, inside)
    return Listing(images, entries)


def _names(meta: Any) -> list[Any] | None:
    """The names of the keypoints in their order, where the file has them."""
    numbered = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(numbered, dict):
        return None
    return [numbered.get(str(index)) for index in range(len(numbered))]


def _instances(content: Any, image: str | int, known_set: str, count: int, where: str) -> list[Entry]:
    sets = {count: known_set} if known_set else _RESULT_SETS
    entries = []
    for index, person in enumerate(_people(content, where)):
        here = f"{where}[{index}]"
        points = people_json.field(person, "keypoints", (list,), here)
        scores = people_json.numbers(person.get("keypoint_scores"), f"{here}.keypoint_scores")
        if len(points) not in sets or len(scores) != len(points):
            wanted = " or ".join(f"{number} ({name})" for number, name in sets.items())
            raise PeopleError(
                f"{here} has {len(points)} keypoints and {len(scores)} keypoint_scores, expected {wanted} of each"
            )
        table = []
        for place, (point, score) in enumerate(zip(points, scores, strict=True)):
            pair = people_json.numbers(point, f"{here}.keypoints[{place}]")
            if len(pair) != 2:
                raise PeopleError(f"{here}.keypoints[{place}] has {len(pair)} numbers, expected [x, y]")
            table.append([*pair, score])
        keypoints = _j24(np.array(table), sets[len(points)], _LARGEST_SCORE, here)
        entries.append(Entry(image, keypoints, _corners(person.get("bbox"), f"{here}.bbox"), here))
    return entries


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "COCO annotations",
        '{"images": [{"id", "file_name"}], "annotations": [{"image_id", "keypoints": [x, y, flag, ...], "bbox"}], '
        '"categories": [...]}',
        lambda content: _has(content, "images", "annotations"),
        _annotations,
    ),
    Layout(
        "COCO results (MMPose 0.x, ViTPose)",
        '[{"image_id": number or file name, "category_id": 1, "keypoints": [x, y, confidence, ...], "score"}, ...]',
        lambda content: _list_of(content, "image_id"),
        _results,
    ),
    Layout(
        "AlphaPose",
        'as COCO results, with "box"; or, with --format=open or cmu, {"photo.jpg": {"people" or "bodies": [...]}, ...}',
        _is_alphapose_by_image,
        _alphapose_by_image,
    ),
    Layout(
        "OpenPose",
        '{"version", "people": [{"pose_keypoints_2d": [x, y, confidence, ...]}]}, one file an image, named '
        "IMAGE_keypoints.json",
        lambda content: _has(content, "people", "bodies"),
        _openpose,
    ),
    Layout(
        "MMPose 1.x",
        '[{"keypoints": [[x, y], ...], "keypoint_scores": [...], "bbox"}, ...], one file an image, named IMAGE.json; or '
        '{"meta_info", "instance_info": [...]} in results_IMAGE.json',
        lambda content: (
            content == [] or _has(content, "instance_info") or _list_of(content, "keypoint_scores", "instances")
        ),
        _mmpose,
    ),
)
