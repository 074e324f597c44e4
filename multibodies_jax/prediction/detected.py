"""What a detector finds, as the people of a prediction."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from multibodies_jax import detection
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people


def detector_for(needed: bool, given: detection.Detector | None = None) -> detection.Detector | None:
    """Who finds the people where no file lists them: the detector that is given, or else MoveNet.

    Args:
      needed: `Predictor.needs_detector`; if not, None is returned without `given`.
      given: a detector.

    Raises:
      DetectorMissing: MoveNet's files are not there; the message says the command that gets them.
    """
    return detection.load() if given is None and needed else given


def find(
    image: UInt8[np.ndarray, "H W 3"], detector: detection.Detector | None
) -> tuple[people.ImagePeople, tuple[str, ...]]:
    """The people of an image whom no file lists: `people_of`, or without a detector one, whose box is the image."""
    if detector is None:
        return people.whole_image(), ()
    return people_of(detector(image), image.shape[1::-1])


def to_person(found: detection.Detection, image_size: Sequence[int]) -> people.Person:
    """A detected person with the joints that are seen as J24.

    Args:
      found: by a detector; a joint whose confidence is below `detection.MIN_CONFIDENCE`, or that is outside the image,
        counts as unknown.
      image_size: width, height in pixels.

    Returns:
      The person; COCO-17 has no head top, neck or spine, so these are unknown.

    Raises:
      people.PeopleError: the person cannot be used; the message says why.
    """
    if found.unusable:
        raise people.PeopleError(f"The person in the box {np.round(found.box).tolist()} is not used: {found.unusable}.")
    inside = np.all((found.keypoints >= 0) & (found.keypoints <= np.asarray(image_size)), axis=1)
    table = np.concatenate([found.keypoints, (found.visible & inside)[:, None]], axis=1)
    x, y, width, height = found.box
    box = (x, y, width, height) if width > 0 and height > 0 else None
    return people.Person(joints.to_j24(table.astype(np.float32), "coco17"), box)


def people_of(
    found: Sequence[detection.Detection], image_size: Sequence[int]
) -> tuple[people.ImagePeople, tuple[str, ...]]:
    """The people of an image who can be used, in the detector's order, and a sentence on everyone else.

    Args:
      found: by a detector.
      image_size: width, height in pixels.

    Returns:
      The people (there may be none), and what was seen but is not used; where nothing was seen, a sentence says so.
    """
    used, notes = [], []
    for person in found:
        try:
            used.append(to_person(person, image_size))
        except people.PeopleError as error:
            notes.append(str(error))
    if not found:
        notes.append(f"The detector found no person in this image of {image_size[0]} x {image_size[1]} pixels.")
    return people.ImagePeople(tuple(used)), tuple(notes)
