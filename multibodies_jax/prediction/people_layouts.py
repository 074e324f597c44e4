"""The layouts in which pose estimators write people: recognised, checked, and rewritten as J24 and boxes.

`LAYOUTS` is the table; `people_keypoints` reads the joints of one person. Sources are the documentation of OpenPose
(`doc/02_output.md`), COCO (data format), AlphaPose (`docs/output.md`, Halpe-FullBody) and MMPose 1.x (inference guide). A
confidence that a layout cannot have is refused. All but COCO's flags may exceed 1: they are peaks of unnormalised heat maps
or logits. In OpenPose 1.41 was seen, AlphaPose states 0 to 6, and MMPose's SimCC heads are unbounded.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax import untrusted
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people_json, people_keypoints
from multibodies_jax.prediction.people_json import PeopleError

MOST_PEOPLE = 2_000_000  # COCO train2017 has 262,465 annotations.
_LARGEST_FLAG = 2.0  # Of COCO annotations and of OpenPose.
_LARGEST_SCORE = 10.0  # Of the other estimators.
_LARGEST_IMAGE = 1_000_000
_LOOKED_AT = 100  # Items of a list, to recognise its layout.

# Keypoints in a list without names -> the set that its first ones are; COCO-WholeBody has 133, Halpe 136.
_RESULT_SETS = {
    17: joints.COCO17, 26: joints.HALPE26, 33: joints.MEDIAPIPE33, 133: joints.COCO17, 136: joints.HALPE26,
}  # fmt: skip
_OPENPOSE_SETS = {25: joints.OPENPOSE25, 18: joints.OPENPOSE18}
_HUMAN = ("person", "persons", "people", "human", "humans", "pedestrian")  # Names of the category of people.
# Keys of entries that are easily missed: without one a person has no joints, no box, or is one where there is none.
_ANNOTATION_KEYS = ("keypoints", "num_keypoints", "bbox", "category_id", "iscrowd")
_RESULT_KEYS = ("keypoints", "bbox", "box")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One person of a file.

    Attributes:
      image: name of the image, without its suffix where the file does not tell it, or the image's number.
      keypoints: J24: x, y in pixels, and 1 where the joint is known (0, 0, 0 elsewhere).
      bbox: x, y, width, height in pixels, or None.
      where: the entry, for messages.
      annotation: its id in the file, "" where it has none.
    """

    image: str | int
    keypoints: Float[np.ndarray, "24 3"]
    bbox: tuple[float, float, float, float] | None
    where: str
    annotation: str = ""


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An entry that gives no person but has a place among the people of its image.

    Attributes:
      image: as of `Entry`; None where the entry does not say it.
      problem: why it cannot be used; "" for a crowd, which is no single person.
    """

    image: str | int | None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a file lists: all its images with their (width, height) or None, and the people in them.

    The numbers of images are those of frames, of which the first is 1 with `counted_from_1`, and 0 without it.
    """

    images: dict[str | int, tuple[int, int] | None]
    entries: Sequence[Entry | Skipped]
    counted_from_1: bool = False


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
      PeopleError: the layout is unknown, or what holds the entries is not as it should be. An entry that cannot be used
        is a `Skipped` that says why.
    """
    for layout in LAYOUTS:
        if layout.recognise(content):
            return layout.read(content, stem)
    kind = {dict: "an object", list: "a list"}.get(type(content), people_json.short(content))
    known = "".join(f"\n  {layout.name}: {layout.looks_like}" for layout in LAYOUTS)
    raise PeopleError(f"the file is {kind} of no known layout of people; known are{known}\n  A folder of such files")


def _bbox(value: Any, where: str) -> tuple[float, float, float, float] | None:
    """x, y, width, height; None for one without an area, as some annotations have."""
    if value is None or value == []:
        return None
    numbers = people_json.numbers(value, where)
    if len(numbers) != 4:
        raise PeopleError(f"{where} has to be [x, y, width, height], got {people_json.short(value)}")
    x, y, width, height = numbers
    return (x, y, width, height) if width > 0 and height > 0 else None


def _corners(value: Any, where: str) -> tuple[float, float, float, float] | None:
    """MMPose's [[x1, y1, x2, y2]], or the same without the outer list."""
    if value is None or value == []:
        return None
    numbers = people_json.numbers(value[0] if isinstance(value, list) and len(value) == 1 else value, where)
    if len(numbers) != 4:
        raise PeopleError(f"{where} has to be [x1, y1, x2, y2], got {people_json.short(value)}")
    width, height = numbers[2] - numbers[0], numbers[3] - numbers[1]
    return (numbers[0], numbers[1], width, height) if width > 0 and height > 0 else None


def _people(value: Any, where: str) -> list:
    """A list of people, of which there are not too many."""
    if len(people_json.items(value, where)) > MOST_PEOPLE:
        raise PeopleError(f"{where} has {len(value)} entries; at most {MOST_PEOPLE} people are read")
    return value


def _each(
    value: Any,
    where: str,
    image_of: Callable[[Any, str], str | int],
    read_one: Callable[[Any, str, str | int], Entry | Skipped | None],
    keys: tuple[str, ...] = (),
) -> list[Entry | Skipped]:
    """The entries of a list of people; one that cannot be used is skipped, and says why.

    Args:
      value: of the file.
      where: the list, for messages.
      image_of: (entry, where) -> its image.
      read_one: (entry, where, image) -> what it gives; None for what is no person.
      keys: of an entry, which may lack some of them: one that is misspelt is no one that is absent.
    """
    entries: list[Entry | Skipped] = []
    for index, person in enumerate(_people(value, where or "the list")):
        here, image = f"{where}[{index}]", None
        try:
            if not isinstance(person, dict):
                raise PeopleError(f"{here} has to be an object, got {people_json.short(person)}")
            image = image_of(person, here)
            if told := untrusted.misspelt(person, keys):
                raise PeopleError(f"{here} {told}")
            found = read_one(person, here, image)
        except PeopleError as error:
            found = Skipped(image, str(error))
        if found is not None:
            entries.append(found)
    return entries


def _identity_of(person: Mapping[str, Any]) -> str:
    """The id of an entry, which is kept with its prediction; "" where it has none."""
    value = person.get("id")
    return value if isinstance(value, str) else str(value) if type(value) in (int, float) else ""


def _has(content: Any, *keys: str) -> bool:
    return isinstance(content, dict) and any(key in content for key in keys)


def _list_of(content: Any, *keys: str) -> bool:
    """Whether it is a list with items that have one of the keys; the first ones are looked at, and one may be broken."""
    return isinstance(content, list) and any(_has(item, *keys) for item in content[:_LOOKED_AT])


# COCO annotations


def _annotations(content: Any, stem: str) -> Listing:
    names_of = _category_names(people_json.items(content.get("categories", []), "categories"))
    names, sizes, problems = _images(people_json.items(content.get("images"), "images"))

    def image_of(annotation: Any, where: str) -> str:
        image = annotation.get("image_id")
        if (key := people_json.identity(image, f"{where}.image_id")) not in names:
            raise PeopleError(f"{where} belongs to image_id {image!r}, which is not among the images")
        return names[key]

    def read_one(annotation: Any, where: str, image: str | int) -> Entry | Skipped | None:
        category = annotation.get("category_id")
        key = None if category is None else people_json.identity(category, f"{where}.category_id")
        if names_of and key is not None and key not in names_of:
            raise PeopleError(f"{where}.category_id {category!r} is not among the categories")
        known = names_of.get(key, ()) if key is not None else ()
        if known is None:
            return None
        if annotation.get("iscrowd"):
            return Skipped(image)
        keypoints = _annotated(annotation.get("keypoints"), known, f"{where}.keypoints")
        return Entry(image, keypoints, _bbox(annotation.get("bbox"), f"{where}.bbox"), where, _identity_of(annotation))

    entries = _each(content.get("annotations"), "annotations", image_of, read_one, _ANNOTATION_KEYS)
    return Listing(sizes, [*(Skipped(None, problem) for problem in problems), *entries])


def _images(entries: list) -> tuple[dict[str, str], dict[str | int, tuple[int, int] | None], list[str]]:
    """(id -> file name, file name -> size or None) of all images, and what is wrong with those that cannot be used.

    Images with one id, or one file name, are all left out: it is unknown which annotations belong to which.
    """
    names: dict[str, str] = {}
    sizes: dict[str | int, tuple[int, int] | None] = {}
    seen: set[str] = set()
    problems = []
    for index, entry in enumerate(entries):
        where = f"images[{index}]"
        try:
            name = people_json.base_name(people_json.field(entry, "file_name", (str,), where))
            identity = people_json.identity(entry.get("id"), f"{where}.id")
            twice = {f"id {identity}", f"file name {name}"} & seen
            seen |= {f"id {identity}", f"file name {name}"}
            if twice or not name:
                sizes.pop(names.pop(identity, name), None)
                sizes.pop(name, None)
                raise PeopleError(f"{where}: its id {identity!r} or file name {name!r} is empty or stands there twice")
            both = entry.get("width") is not None and entry.get("height") is not None
            size = (_side(entry, "width", where), _side(entry, "height", where)) if both else None
        except PeopleError as error:
            problems.append(str(error))
        else:
            names[identity], sizes[name] = name, size
    return {identity: name for identity, name in names.items() if name in sizes}, sizes, problems


def _side(entry: Any, key: str, where: str) -> int:
    side = people_json.field(entry, key, (int,), where)
    if not 1 <= side <= _LARGEST_IMAGE:
        raise PeopleError(f"{where}.{key} has to be 1 to {_LARGEST_IMAGE} pixels, got {people_json.short(side)}")
    return side


def _category_names(categories: list) -> dict[str, tuple[str, ...] | None]:
    """Category id -> its joints (none for a person without keypoint names), None for what is no person."""
    result: dict[str, tuple[str, ...] | None] = {}
    for index, category in enumerate(categories):
        where = f"categories[{index}]"
        if not isinstance(category, dict):
            raise PeopleError(f"{where} has to be an object, got {people_json.short(category)}")
        identity = people_json.identity(category.get("id"), f"{where}.id")
        if str(category.get("name", "person")).strip().lower() not in _HUMAN:
            result[identity] = None
        elif not category.get("keypoints"):
            result[identity] = ()
        else:
            names = people_json.field(category, "keypoints", (list,), where)
            result[identity] = people_keypoints.joint_names(names, f"{where}.keypoints")
    if result and all(names is None for names in result.values()):
        called = ", ".join(people_json.short(category.get("name")) for category in categories[:5])
        raise PeopleError(f"no category is a person: they are called {called}; known are {', '.join(_HUMAN)}")
    return result


def _annotated(value: Any, known: tuple[str, ...], where: str) -> Float[np.ndarray, "24 3"]:
    names = known or joints.COCO17
    hint = "" if known else "; other sets need the names of their keypoints in categories"
    try:
        return people_keypoints.read(value, {len(names): names}, _LARGEST_FLAG, where)
    except PeopleError as error:
        raise PeopleError(f"{error}{hint}") from None


# COCO results and AlphaPose: a list of people, each with its image


def _results(content: Any, stem: str) -> Listing:
    images: dict[str | int, tuple[int, int] | None] = {}

    def image_of(person: Any, where: str) -> str | int:
        image = person.get("image_id")
        identity = people_json.identity(image, f"{where}.image_id")
        found = people_json.base_name(identity) if isinstance(image, str) else int(identity)
        if found == "":
            raise PeopleError(f"{where}.image_id is empty; expected is the name or the number of an image")
        images[found] = None
        return found

    def read_one(person: Any, where: str, image: str | int) -> Entry:
        category = person.get("category_id", 1)
        if people_json.identity(category, f"{where}.category_id") not in ("0", "1"):
            raise PeopleError(
                f"{where}.category_id is {people_json.short(category)}; a person has 1. Keep the people only"
            )
        keypoints = person.get("keypoints")
        if keypoints is None:
            raise PeopleError(f"{where}.keypoints has to be a list, got None")
        scores = _scores(person)
        table = people_keypoints.read(keypoints, _RESULT_SETS, _LARGEST_SCORE, f"{where}.keypoints", scores)
        box = "box" if "box" in person else "bbox"
        return Entry(image, table, _bbox(person.get(box), f"{where}.{box}"), where, _identity_of(person))

    entries = _each(content, "", image_of, read_one, _RESULT_KEYS)
    return Listing(images, entries)


def _scores(person: Mapping[str, Any]) -> Any:
    """The confidences beside the keypoints of an entry, where it has some."""
    scores = person.get("keypoint_scores", person.get("scores"))
    return scores if isinstance(scores, list) else None


# OpenPose, and AlphaPose with --format=open or cmu


def _openpose(content: Any, stem: str) -> Listing:
    image = stem.removesuffix("_keypoints")
    return Listing({image: None}, _bodies(content, image, ""))


def _alphapose_by_image(content: Any, stem: str) -> Listing:
    names = {name: people_json.base_name(name) for name in content}
    if len(set(names.values())) < len(names) or "" in names.values():
        raise PeopleError("its images have equal or empty names without their folders")
    entries = [entry for name in content for entry in _bodies(content[name], names[name], f"[{name!r}].")]
    return Listing(dict.fromkeys(names.values()), entries)


def _bodies(content: Any, image: str, before: str) -> list[Entry | Skipped]:
    key = "people" if "people" in content else "bodies"
    largest = _LARGEST_SCORE if str(content.get("version")).startswith("AlphaPose") else _LARGEST_FLAG

    def read_one(person: Any, where: str, image: str | int) -> Entry:
        spelt = [name for name in ("pose_keypoints_2d", "pose_keypoints", "joints") if name in person]
        name = spelt[0] if spelt else "pose_keypoints_2d"
        value = people_json.field(person, name, (list,), where)
        return Entry(image, people_keypoints.read(value, _OPENPOSE_SETS, largest, f"{where}.{name}"), None, where)

    return _each(content[key], before + key, lambda person, where: image, read_one)


def _is_alphapose_by_image(content: Any) -> bool:
    return isinstance(content, dict) and bool(content) and all(_has(v, "people", "bodies") for v in content.values())


# MMPose 1.x


def _mmpose(content: Any, stem: str) -> Listing:
    """People of one image, or of the frames of a video.

    MMPose's inferencer writes a list of frames, counted from 0. Its demos (topdown_demo_with_mmdet.py, bottomup_demo.py)
    write `instance_info` with frames counted from 1; a file of that form with a frame 0 is of somebody who counts from 0.
    """
    of_demo = isinstance(content, dict)
    known: tuple[str, ...] = ()
    count, where, image = 0, "", stem
    if isinstance(content, dict):
        image = stem.removeprefix("results_")
        if (names := _names(content.get("meta_info"))) is not None:
            known, count = people_keypoints.joint_names(names, "meta_info.keypoint_id2name"), len(names)
        content, where = content["instance_info"], "instance_info"
    if not _list_of(content, "instances"):
        return Listing({image: None}, _instances(content, image, known, count, where))
    images: dict[str | int, tuple[int, int] | None] = {}
    entries: list[Entry | Skipped] = []
    for index, frame in enumerate(content):
        try:
            number = people_json.field(frame, "frame_id", (int,), f"{where}[{index}]")
            if number in images:
                raise PeopleError(f"{where}[{index}]: frame_id {number} stands there twice")
            name = image if len(content) == 1 else number
            images[name] = None
            entries += _instances(frame.get("instances"), name, known, count, f"{where}[{index}].instances")
        except PeopleError as error:
            entries.append(Skipped(None, str(error)))
    numbers = [image for image in images if isinstance(image, int)]
    return Listing(images, entries, of_demo and min(numbers, default=0) > 0)


def _names(meta: Any) -> list[Any] | None:
    """The names of the keypoints in their order, where the file has them."""
    numbered = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(numbered, dict):
        return None
    return [numbered.get(str(index)) for index in range(len(numbered))]


def _instances(content: Any, image: str | int, known: tuple[str, ...], count: int, where: str) -> list[Entry | Skipped]:
    sets = {count: known} if known else _RESULT_SETS

    def read_one(person: Any, where: str, image: str | int) -> Entry:
        points = people_json.field(person, "keypoints", (list,), where)
        keypoints = people_keypoints.read(points, sets, _LARGEST_SCORE, f"{where}.keypoints", _scores(person))
        return Entry(image, keypoints, _corners(person.get("bbox"), f"{where}.bbox"), where, _identity_of(person))

    return _each(content, where, lambda person, where: image, read_one, _RESULT_KEYS)


# MediaPipe


def _mediapipe(content: Any, stem: str) -> Listing:
    found = people_json.items(content["pose_landmarks"], "pose_landmarks")
    people = [found] if found and isinstance(found[0], dict) else found  # Of one person, in the older interface.
    sets = {33: joints.MEDIAPIPE33}

    def read_one(person: Any, where: str, image: str | int) -> Entry:
        return Entry(image, people_keypoints.read(person["landmarks"], sets, 1.0, where), None, where)

    listed = [{"landmarks": one} for one in people]
    return Listing({stem: None}, _each(listed, "pose_landmarks", lambda person, where: stem, read_one))


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
        '[{"keypoints": [[x, y], ...], "keypoint_scores": [...], "bbox"}, ...], or with [{"x", "y", "score", "name"}, ...] '
        'as keypoints (TensorFlow.js), one file an image, named IMAGE.json; or {"meta_info", "instance_info": [...]} in '
        "results_IMAGE.json",
        lambda content: (
            content == []
            or _has(content, "instance_info")
            or _list_of(content, "keypoint_scores", "instances", "keypoints")
        ),
        _mmpose,
    ),
    Layout(
        "MediaPipe",
        '{"pose_landmarks": [[{"x", "y", "visibility"}, ... of 33], ...]}, one file an image, named IMAGE.json',
        lambda content: _has(content, "pose_landmarks"),
        _mediapipe,
    ),
)
