"""The keypoints of one person: their names tell the set, and every form of them gives the same J24.

The orders of joints below are typed from the documentation of the programs, not taken from the library's own tables.
"""

import numpy as np
import pytest

from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people_json, people_keypoints

COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_NAMES = {
    "openpose18": "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle REye LEye "
    "REar LEar",
    "halpe26": "Nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee Rknee LAnkle "
    "RAnkle Head Neck Hip LBigToe RBigToe LSmallToe RSmallToe LHeel RHeel",
    "coco17": " ".join(COCO),
}


@pytest.mark.parametrize("joint_set", _NAMES)
def test_published_names_tell_the_set(joint_set):
    names = _NAMES[joint_set].split()
    assert people_keypoints.joint_set(names, "x") == joint_set
    swapped = [name.replace("R", "#").replace("L", "R").replace("#", "L") for name in names]
    swapped = [name.replace("right", "#").replace("left", "right").replace("#", "left") for name in swapped]
    with pytest.raises(people_json.PeopleError, match="no known set in its order"):
        people_keypoints.joint_set(swapped, "x")


def test_every_form_of_keypoints_gives_the_same_joints():
    places = [[10.0 + 3 * k, 200.0 - 5 * k] for k in range(17)]
    names = [{"name": name, "x": x, "y": y, "score": 0.7} for name, (x, y) in zip(COCO, places, strict=True)]
    forms = {
        "flat": ([number for x, y in places for number in (x, y, 0.7)], None),
        "nested": ([[x, y, 0.7] for x, y in places], None),
        "scores beside": (places, [0.7] * 17),
        "objects": ([{"x": x, "y": y, "visibility": 0.7} for x, y in places], None),
        "names in another order": (names[::-1], None),
    }
    expected = np.zeros((24, 3), np.float32)
    for name, (x, y) in zip(COCO, places, strict=True):
        expected[joints.J24.index(name)] = x, y, 1
    for form, (value, scores) in forms.items():
        found = people_keypoints.read(value, {17: joints.COCO17}, 1.0, "entry", scores)
        np.testing.assert_array_equal(found, expected, err_msg=form)
    with pytest.raises(people_json.PeopleError, match=r"entry has 16 keypoints, expected 17 \(coco17\)"):
        people_keypoints.read(places[:16], {17: joints.COCO17}, 1.0, "entry", [0.7] * 16)
