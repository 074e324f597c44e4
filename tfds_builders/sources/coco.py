"""COCO's people with keypoints (Lin et al., 2014): `person_keypoints_train2014.json`."""

import pathlib
from typing import Any

import numpy as np

from multibodies_jax import untrusted
from multibodies_jax.geometry import boxes, joints
from tfds_builders.archives import Skip
from tfds_builders.sources import joint_sets, rows
from tfds_builders.sources.rows import SPIN_PADDING, Row

_LARGEST = 2**30  # Bytes; the file of 2017 has 240 MB.
_LIMBS = slice(5, 17)  # Shoulders, elbows, wrists, hips, knees, ankles.


def read(path: pathlib.Path, split: str = "train") -> list[Row | Skip]:
    """The people whose twelve limb joints are all labelled, in the order of the file (SPIN's choice).

    The box is the annotated one, padded. Hidden joints that are labelled count as annotated.

    Args:
      path: the JSON file.
      split: for the ids of the examples.

    Raises:
      ValueError: it is no COCO file of people with 17 keypoints; the message says where.
    """
    content = _load(path)
    _check_names(path, content["categories"])
    result = []
    try:
        images = {entry["id"]: entry for entry in content["images"]}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: an entry of images is no object with an id ({error!r}). Download it again."
        ) from error
    for annotation in content["annotations"]:
        try:
            result.append(_row(annotation, images[annotation["image_id"]], split))
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: annotation {annotation!r:.200} is not as COCO's are ({error!r}).") from error
    return result


def _load(path: pathlib.Path) -> dict[str, Any]:
    content = untrusted.read_json(path, dict, "Download it again.", largest=_LARGEST)
    wanted = ("images", "annotations", "categories")
    if not all(isinstance(content.get(key), list) for key in wanted):
        raise ValueError(f"{path} is not COCO's: it should be an object with the lists {', '.join(wanted)}.")
    return content


def _check_names(path: pathlib.Path, categories: list[dict[str, Any]]) -> None:
    people = (entry for entry in categories if isinstance(entry, dict) and entry.get("name") == "person")
    names = next((category.get("keypoints") for category in people), None)
    if names != list(joints.COCO17):
        raise ValueError(
            f"{path}: the category `person` has the keypoints {names}, expected {list(joints.COCO17)}. Is it "
            "`instances_...json` instead of `person_keypoints_...json`?"
        )


def _row(annotation: dict[str, Any], image: dict[str, Any], split: str) -> Row | Skip:
    name = f"coco2014/{split}/{annotation['image_id']:012d}/{annotation['id']}"
    if annotation["iscrowd"]:
        return Skip("a crowd", name)
    keypoints = np.asarray(annotation["keypoints"], np.float64).reshape(17, 3)
    if not np.all(keypoints[_LIMBS, 2] > 0):
        return Skip("a limb joint is not labelled", name)
    keypoints[:, 2] = keypoints[:, 2] > 0
    x, y, width, height = (float(number) for number in annotation["bbox"])
    j24, _ = joint_sets.to_j24(keypoints, joints.COCO17)
    box = (np.array([x + width / 2, y + height / 2]), SPIN_PADDING * max(width, height) / boxes.SIDE)
    size = (int(image["width"]), int(image["height"]))
    return rows.row(name, image["file_name"], j24[:, :2], j24[:, 2].astype(np.float32), box, size=size)
