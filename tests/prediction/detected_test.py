"""Detected people as J24 with what is seen, and a message for those who cannot be used."""

import dataclasses

import numpy as np
import pytest

from multibodies_jax import detection
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import detected, people


@pytest.fixture
def found():
    keypoints = np.stack([np.arange(17) + 10.0, np.arange(17) + 20.0], axis=1).astype(np.float32)
    return detection.Detection(keypoints, np.full(17, 0.9, np.float32), (5.0, 6.0, 70.0, 80.0), 0.9)


def test_the_joints_are_those_of_the_same_name(found):
    person = detected.to_person(found, (100, 100))
    assert person.bbox == (5.0, 6.0, 70.0, 80.0)
    for name, (x, y, known) in zip(joints.J24, person.keypoints, strict=True):
        if name in joints.COCO17:
            index = joints.COCO17.index(name)
            assert (x, y, known) == (10 + index, 20 + index, 1)
        else:
            assert (x, y, known) == (0, 0, 0)


def test_what_is_not_seen_or_outside_the_image_is_unknown(found):
    confidence = np.full(17, detection.MIN_CONFIDENCE, np.float32)
    confidence[joints.COCO17.index("nose")] -= 0.01
    keypoints = found.keypoints.copy()
    keypoints[joints.COCO17.index("left_knee")] = (100.5, 50)
    keypoints[joints.COCO17.index("right_knee")] = (50, -0.5)
    person = detected.to_person(dataclasses.replace(found, keypoints=keypoints, confidence=confidence), (100, 90))
    unknown = {name for name, row in zip(joints.J24, person.keypoints, strict=True) if not row.any()}
    assert unknown & set(joints.COCO17) == {"nose", "left_knee", "right_knee"}


def test_the_crop_is_around_what_is_seen(found):
    center, scale = people.box(detected.to_person(found, (100, 100)), (100, 100))
    assert np.allclose(center, (18, 28)) and scale == pytest.approx(16 * 1.1 / 200)


def test_a_box_without_an_area_is_none(found):
    assert detected.to_person(dataclasses.replace(found, box=(5.0, 6.0, 0.0, 8.0)), (100, 100)).bbox is None


def test_an_unusable_person_is_refused_with_the_reason(found):
    with pytest.raises(people.PeopleError, match=r"\[5.0, 6.0, 70.0, 80.0\] is not used: too small"):
        detected.to_person(dataclasses.replace(found, unusable="too small"), (100, 100))


def test_without_a_detector_a_network_of_pixels_takes_the_image_for_one_person(found, monkeypatch):
    monkeypatch.setattr(detection, "load", lambda: lambda image: [found])
    image = np.zeros((100, 120, 3), np.uint8)
    assert detected.detector_for(needed=False) is None
    whole, notes = detected.find(image, None)
    assert [person.bbox for person in whole.people] == [None] and not whole.people[0].keypoints.any() and not notes
    for detector in (
        detected.detector_for(needed=True),
        detected.detector_for(False, lambda image: [found, dataclasses.replace(found, unusable="too small")]),
    ):
        assert detector is not None
        seen, notes = detected.find(image, detector)
        assert len(seen.people) == 1 and seen.people[0].bbox == found.box
        assert len(notes) == len(detector(image)) - 1
