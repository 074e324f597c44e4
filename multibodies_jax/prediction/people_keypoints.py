"""The keypoints of one person in any form that pose estimators write, as J24.

The joints follow from their names, in the spellings of this project, COCO, MMPose, OpenPose and Halpe, or from their
number. Confidences are compared with `MIN_CONFIDENCE` as they stand in the file.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people_json
from multibodies_jax.prediction.people_json import PeopleError

MIN_CONFIDENCE = 0.2  # Estimators give a place to every joint, found or not; COCO's own flags are 0, 1 and 2.
_FEWEST_JOINTS = 2  # Of names in an order of their own.
_SCORES = ("score", "confidence", "visibility")  # Of a keypoint that is an object.


def read(
    value: Any, sets: Mapping[int, Sequence[str]], largest: float, where: str, scores: Any = None
) -> Float[np.ndarray, "24 3"]:
    """Keypoints in any of their forms as J24; an empty list, or none at all, says that no joint was found.

    The forms are x, y, confidence, x, y, ...; [[x, y, confidence], ...]; [[x, y], ...] with `scores`; and [{"x", "y",
    "score" or "visibility"}, ...], which may have names.

    Args:
      value: of the file.
      sets: number of keypoints -> their names, for keypoints without names of their own.
      largest: confidence that the layout can have.
      where: the entry, for messages.
      scores: confidences beside the keypoints.

    Raises:
      PeopleError: they have none of these forms, another number or unknown names, a coordinate that is not finite, or a
        confidence above `largest`.
    """
    if value is None or value == []:
        return np.zeros((24, 3), np.float32)
    first = people_json.items(value, where)[0]
    if isinstance(first, dict):
        table, names = _of_objects(value, where)
        if names is not None:
            return _j24(table, joint_names(names, where), largest, where)
    elif isinstance(first, list):
        table = _nested(value, scores, where)
    else:
        numbers = people_json.numbers(value, where, missing=True)
        if len(numbers) % 3 or len(numbers) // 3 not in sets:
            wanted = " or ".join(f"3 x {number} ({_set_name(names)})" for number, names in sets.items())
            raise PeopleError(f"{where} has {len(numbers)} numbers, expected {wanted}")
        table = np.array(numbers).reshape(-1, 3)
    if len(table) not in sets:
        wanted = " or ".join(f"{number} ({_set_name(names)})" for number, names in sets.items())
        raise PeopleError(f"{where} has {len(table)} keypoints, expected {wanted}")
    return _j24(table, sets[len(table)], largest, where)


def joint_set(names: Sequence[Any], where: str) -> str:
    """The set of `joints.SETS` whose joints these are, in its order; for 133 or 136 names, that of the first ones.

    Names may be spelt as in this project, COCO, MMPose, OpenPose or Halpe: `left_hip`, `LHip`, `MidHip`, `Neck`.

    Raises:
      PeopleError: no set has these names in this order.
    """
    plain = [_plain(name) for name in names]
    body = {133: 17, 136: 26}.get(len(plain), len(plain))
    for known, expected in joints.SETS.items():
        if len(expected) == body and all(a in _spellings(b) for a, b in zip(plain[:body], expected, strict=True)):
            return known
    raise PeopleError(
        f"{where} are {len(plain)} names ({people_json.short(', '.join(map(str, names)))}) of no known set in its order; "
        f"known are {', '.join(joints.SETS)} (names in joints.py)"
    )


def joint_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    """The joints that names stand for: of a known set in its order (`joint_set`), or each by its own name in any order.

    Returns:
      Names of `geometry.joints`, "" for keypoints that are not known; the last may be left out.

    Raises:
      PeopleError: fewer than two are joints of J24.
    """
    try:
        return joints.SETS[joint_set(names, where)]
    except PeopleError as error:
        plain = [_plain(name) for name in names]
        h36m = {"jaw", "spine"} & set(plain)  # Where "head" is Human3.6M's; elsewhere it may be the top of it.
        found = [_BY_NAME.get(name, "") if name != "head" or h36m else "" for name in plain]
        if np.count_nonzero(joints.index_map(found, joints.J24) >= 0) < _FEWEST_JOINTS:
            raise error
        return tuple(found)


def _plain(name: Any) -> str:
    return str(name).strip().lower().replace(" ", "").replace("-", "").replace("_", "").replace(".", "")


def _spellings(joint: str) -> set[str]:
    side, _, rest = joint.partition("_")
    if side in ("left", "right"):
        plain = rest.replace("_", "")
        return {side + plain, side[0] + plain, plain + side}
    others = {"mid_shoulders": {"neck"}, "mid_hips": {"midhip"}, "pelvis": {"hip"}, "head_top": {"head"}}
    return {joint.replace("_", "")} | others.get(joint, set())


# Spelling -> joint, for names in an order of their own. Of a spelling of two joints the first one counts.
_BY_NAME = {
    spelling: joint
    for known in reversed(list(joints.SETS.values()))
    for joint in known
    for spelling in _spellings(joint)
}


def _j24(
    table: Float[np.ndarray, "K 3"], names: Sequence[str], largest: float, where: str
) -> Float[np.ndarray, "24 3"]:
    """x, y and confidence of named keypoints, possibly followed by more, as J24; NaN stands for what was not found."""
    table = table[: len(names)].copy()
    table[np.isnan(table[:, 2]), 2] = 0
    if (lost := np.flatnonzero(np.isnan(table[:, :2]).any(axis=1) & (table[:, 2] > 0))).size:
        x, y, confidence = table[lost[0]]
        raise PeopleError(
            f"{where}: {names[lost[0]] or f'keypoint {lost[0]}'} is at ({x:g}, {y:g}) with confidence {confidence:g}; expected "
            "are finite numbers, in pixels, or confidence 0"
        )
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
    index = _j24_from(tuple(names))
    found = table[index].astype(np.float32)
    found[(index < 0) | (found[:, 2] == 0)] = 0
    return found


@functools.cache
def _j24_from(names: tuple[str, ...]) -> joints.IndexMap:
    return joints.index_map(names, joints.J24)


def _nested(value: list, scores: Any, where: str) -> Float[np.ndarray, "K 3"]:
    """[[x, y, confidence], ...], or [[x, y], ...] with their confidences beside."""
    confidences = None if scores is None else people_json.numbers(scores, f"{where} scores", missing=True)
    if confidences is not None and len(confidences) != len(value):
        raise PeopleError(f"{where} has {len(value)} keypoints and {len(confidences)} scores, expected one for each")
    length = 3 if confidences is None else 2
    table = []
    for place, point in enumerate(value):
        row = people_json.numbers(point, f"{where}[{place}]", missing=True)
        if len(row) != length:
            wanted = "[x, y, confidence]" if confidences is None else "[x, y]"
            raise PeopleError(f"{where}[{place}] has {len(row)} numbers, expected {wanted}")
        table.append(row if confidences is None else [*row, confidences[place]])
    return np.array(table)


def _of_objects(value: list, where: str) -> tuple[Float[np.ndarray, "K 3"], list[Any] | None]:
    """[{"x", "y", "score"}, ...] as a table, and the names of the keypoints where all have one."""
    table, names = [], []
    for place, point in enumerate(value):
        here = f"{where}[{place}]"
        if not isinstance(point, dict):
            raise PeopleError(f"{here} has to be an object, got {people_json.short(point)}")
        score = next((point[key] for key in _SCORES if key in point), None)
        if score is None and not any(key in point for key in _SCORES):
            raise PeopleError(f"{here} has no {', '.join(_SCORES[:-1])} or {_SCORES[-1]}")
        table.append(people_json.numbers([point.get("x"), point.get("y"), score], here, missing=True))
        names.append(point.get("name", point.get("part")))
    return np.array(table), names if all(isinstance(name, str) for name in names) else None


def _set_name(names: Sequence[str]) -> str:
    return next((known for known, of in joints.SETS.items() if of == names), "the names in the file")
