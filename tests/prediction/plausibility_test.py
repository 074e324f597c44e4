"""What is implausible of a prediction is said of the right bodies, and nothing is said of the others."""

import numpy as np
import pytest

from multibodies_jax.geometry import cameras
from multibodies_jax.prediction import plausibility


def _record(**changed):
    """Two bodies of half the height of a crop of 200 pixels, in an image of 640 x 480; the first four joints are known."""
    joints24 = np.zeros((2, 24, 3), np.float32)
    joints24[:, :, 1] = np.linspace(-0.5, 0.5, 24)
    joints24[:, :, 2] = 2 * cameras.FOCAL  # In a crop of scale 0.5.
    keypoints = np.zeros((24, 3), np.float32)
    keypoints[:4] = [[300, 200, 1], [310, 220, 1], [320, 230, 1], [330, 240, 1]]
    record = {
        "joints24_camera": joints24,
        "cam": np.tile(np.array([0.5, 0, 0], np.float32), (2, 1)),
        "intrinsics": np.diag([100 * cameras.FOCAL, 100 * cameras.FOCAL, 1]),
        "box_center": np.array([320, 220], np.float32),
        "box_scale": np.float32(1),
        "image_size": np.array([640, 480]),
        "keypoints": keypoints,
    }
    return record | {name: np.asarray(value) for name, value in changed.items()}


def test_nothing_is_said_of_what_is_plausible():
    assert plausibility.warnings(_record()) == []
    assert plausibility.warnings(_record(keypoints=np.zeros((24, 3), np.float32))) == []


@pytest.mark.parametrize("scale", [0.0, -0.7])
def test_a_camera_without_a_positive_scale_is_named(scale):
    (told,) = plausibility.warnings(_record(cam=np.array([[0.5, 0, 0], [scale, 0, 0]], np.float32)))
    assert told.startswith("Of the 2 bodies, 1 have a camera whose scale is not positive")


def test_a_person_wholly_outside_the_image_is_named():
    keypoints = np.zeros((24, 3), np.float32)
    keypoints[:2] = [[650, 200, 1], [660, 220, 1]]
    assert plausibility.warnings(_record(keypoints=keypoints)) == [
        "The person is wholly outside the image of 640 x 480 pixels."
    ]
    keypoints[0, 0] = 630
    assert plausibility.warnings(_record(keypoints=keypoints)) == []
    nothing = np.zeros((24, 3), np.float32)
    for center, count in (([-99.0, 220.0], 0), ([-101.0, 220.0], 1), ([320.0, 581.0], 1)):
        assert len(plausibility.warnings(_record(keypoints=nothing, box_center=np.array(center, np.float32)))) == count


def test_a_body_much_larger_than_its_box_is_named_by_the_joints_that_are_known():
    larger = _record()["joints24_camera"] * np.array([[[1, 14, 1]], [[1, 1, 1]]], np.float32)
    nothing = np.zeros((24, 3), np.float32)
    (told,) = plausibility.warnings(_record(joints24_camera=larger, keypoints=nothing))
    assert told == "Of the 2 bodies, 0 are several times larger than the box of the person."
    one = _record()["keypoints"] * (np.arange(24) == 0)[:, None]  # One joint spans nothing.
    assert plausibility.warnings(_record(joints24_camera=larger, keypoints=one)) == [told]
    # A portrait: the body is far larger than its crop, its four known joints are not.
    assert plausibility.warnings(_record(joints24_camera=larger)) == []


def test_known_joints_in_one_place_are_named():
    keypoints = np.zeros((24, 3), np.float32)
    keypoints[:3] = [12, 7, 1]
    assert plausibility.warnings(_record(keypoints=keypoints)) == [
        "All 3 known joints lie in one place, (12, 7), as where none was found."
    ]
    keypoints[0, 0] = 14
    assert plausibility.warnings(_record(keypoints=keypoints)) == []
