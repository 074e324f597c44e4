"""People files: what is right is read exactly, and no wrong entry passes."""

import copy
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people, people_layouts


def _content(**annotation):
    return {
        "images": [{"id": 7, "file_name": "val/a.jpg", "width": 640, "height": 480}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 100, 300], **annotation}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(joints.COCO17)}],
    }


def _read(tmp_path, content):
    path = tmp_path / "people.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return people.read_people(path)


def _flat(names, confidence=2):
    """Keypoint i stands at (10 i + 1, 5 i + 2)."""
    return [value for i in range(len(names)) for value in (10 * i + 1, 5 * i + 2, confidence)]


def test_coco_keypoints_become_j24(tmp_path):
    numbers = _flat(joints.COCO17)
    numbers[2] = 0  # The nose is unknown,
    numbers[5] = 1  # and the left eye labelled but not visible.
    found = _read(tmp_path, _content(keypoints=numbers))
    assert list(found) == ["a.jpg"] and found["a.jpg"].size == (640, 480)
    (person,) = found["a.jpg"].people
    assert person.bbox == (10, 20, 100, 300)
    expected = np.zeros((24, 3), np.float32)
    for i, name in enumerate(joints.COCO17):
        if name != "nose":
            expected[joints.J24.index(name)] = (10 * i + 1, 5 * i + 2, 1)
    np.testing.assert_array_equal(person.keypoints, expected)


@pytest.mark.parametrize("joint_set", ["j24", "openpose25", "h36m17"])
def test_the_names_tell_the_joint_set(tmp_path, joint_set):
    names = joints.SETS[joint_set]
    content = _content(keypoints=_flat(names))
    content["categories"][0]["keypoints"] = list(names)
    (person,) = _read(tmp_path, content)["a.jpg"].people
    table = np.array(_flat(names, 1), np.float32).reshape(-1, 3)
    np.testing.assert_array_equal(person.keypoints, joints.to_j24(table, joint_set))


def test_openpose_own_names_are_known(tmp_path):
    sides = {"right_": "R", "left_": "L", "mid_shoulders": "Neck", "mid_hips": "MidHip", "_": ""}
    names = [name.title() for name in joints.OPENPOSE25]
    for old, new in sides.items():
        names = [name.replace(old.title(), new) for name in names]
    assert names[:3] == ["Nose", "Neck", "RShoulder"]
    content = _content(keypoints=_flat(names))
    content["categories"][0]["keypoints"] = names
    (person,) = _read(tmp_path, content)["a.jpg"].people
    elbow = joints.OPENPOSE25.index("left_elbow")
    np.testing.assert_array_equal(person.keypoints[joints.J24.index("left_elbow")], [10 * elbow + 1, 5 * elbow + 2, 1])


def test_without_categories_seventeen_are_coco(tmp_path):
    content = _content(keypoints=_flat(joints.COCO17))
    named = _read(tmp_path, content)["a.jpg"].people[0]
    del content["categories"]
    np.testing.assert_array_equal(_read(tmp_path, content)["a.jpg"].people[0].keypoints, named.keypoints)
    content["annotations"][0]["keypoints"] = _flat(joints.OPENPOSE25)
    with pytest.raises(people.PeopleError, match=r"has 75 numbers, expected 3 x 17.*names of their keypoints"):
        _read(tmp_path, content)


@pytest.mark.parametrize(("confidence", "known"), [(0.1, 0), (0.2, 1), (0.9, 1), (-1, 0), (0, 0), (1, 1), (2, 1)])
def test_unsure_keypoints_are_unknown(tmp_path, confidence, known):
    (person,) = _read(tmp_path, _content(keypoints=_flat(joints.COCO17, confidence)))["a.jpg"].people
    assert set(person.keypoints[joints.J24_FROM_COCO17 >= 0, 2]) == {known}


@pytest.mark.parametrize("confidence", [0.3, 1, 2])
def test_a_joint_at_nought_is_unknown_whatever_its_confidence(tmp_path, confidence):
    """Some detectors write (0, 0) with a confidence for what they did not find; a corner of the image is no joint."""
    numbers = _flat(joints.COCO17)
    numbers[:3], numbers[3:5] = [0, 0, confidence], [0, 7]  # The left eye is at the edge of the image.
    (person,) = _read(tmp_path, _content(keypoints=numbers))["a.jpg"].people
    known = person.keypoints[:, 2] > 0
    assert not known[joints.J24.index("nose")] and known[joints.J24.index("left_eye")]
    assert people.box(person, (640, 480))[0][0] > 80  # Around what is known, from x = 0 on.
    numbers[3:5] = [11, 7]
    (person,) = _read(tmp_path, _content(keypoints=numbers))["a.jpg"].people
    points = np.array(numbers).reshape(-1, 3)[1:, :2]
    np.testing.assert_allclose(people.box(person, (640, 480))[0], (points.min(0) + points.max(0)) / 2)


def test_crowds_and_other_things_are_no_people(tmp_path):
    content = _content()
    content["categories"].append({"id": 2, "name": "bicycle"})
    first = content["annotations"][0]
    content["annotations"] += [first | {"category_id": 2}, first | {"iscrowd": 1}, first | {"bbox": [1, 2, 3, 4]}]
    content["images"].append({"id": "x", "file_name": "empty.png"})
    found = _read(tmp_path, content)
    assert [person.bbox for person in found["a.jpg"].people] == [(10, 20, 100, 300), (1, 2, 3, 4)]
    assert found["empty.png"] == people.ImagePeople((), None)


def test_the_place_of_a_person_counts_crowds_and_what_cannot_be_used(tmp_path):
    content = _content()
    content["categories"].append({"id": 2, "name": "bicycle"})
    first = content["annotations"][0]
    others = [{"iscrowd": 1}, {"category_id": 2}, {"bbox": [1]}, {"id": "b"}, {"id": 5.0}]
    content["annotations"] += [first | other for other in others]
    (entry,) = _read(tmp_path, content).values()
    assert [(person.index, person.annotation) for person in entry.people] == [(0, "1"), (3, "b"), (4, "5.0")]
    assert len(entry.problems) == 1 and "annotations[3].bbox" in entry.problems[0]


@pytest.mark.parametrize(
    ("image", "annotation"), [(7, 7.0), (7, "7"), ("7", 7), ("a", "a"), (7.0, 7), (10**20, 10**20)]
)
def test_ids_are_the_same_as_numbers_and_as_text(tmp_path, image, annotation):
    content = _content(image_id=annotation, category_id=1.0)
    content["images"][0]["id"] = image
    assert len(_read(tmp_path, content)["a.jpg"].people) == 1


@pytest.mark.parametrize("name", ["person", "Human", "people", "pedestrian"])
def test_people_go_by_several_names(tmp_path, name):
    content = _content()
    content["categories"][0]["name"] = name
    assert len(_read(tmp_path, content)["a.jpg"].people) == 1


@pytest.mark.parametrize("box", [[10, 20, 0, 300], [10, 20, 100, -1], [], None])
def test_a_box_without_area_is_none(tmp_path, box):
    (person,) = _read(tmp_path, _content(bbox=box, keypoints=[]))["a.jpg"].people
    assert person.bbox is None and not person.keypoints.any()


def test_images_of_one_id_are_left_out_and_the_others_are_read(tmp_path):
    content = _content()
    content["images"] += [{"id": 8, "file_name": "b.jpg"}, {"id": 8, "file_name": "c.jpg"}, {"id": 9, "file_name": ""}]
    content["annotations"].append(content["annotations"][0] | {"image_id": 8})
    found = _read(tmp_path, content)
    assert list(found) == ["a.jpg"] and len(found["a.jpg"].people) == 1
    assert [problem.split(": ")[1].split(" ")[0] for problem in found.problems] == [
        "images[2]", "images[3]", "annotations[1]"
    ]  # fmt: skip


def test_the_largest_public_set_of_people_is_read():
    assert people_layouts.MOST_PEOPLE > 262_465  # Annotations of COCO train2017.


def _told(read, *arguments):
    """What is said of a file that is refused, or of its entries that are skipped."""
    try:
        found = read(*arguments)
    except people.PeopleError as error:
        return str(error)
    return "\n".join([*found.problems, *(problem for entry in found.values() for problem in entry.problems)])


def _broken(change):
    content = copy.deepcopy(_content(keypoints=_flat(joints.COCO17)))
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "images has to be a list"),
        (lambda c: c.update(annotations={}), "annotations has to be a list"),
        (lambda c: c["images"].append(3), r"images\[1\] has to be an object"),
        (lambda c: c["images"][0].pop("file_name"), r"images\[0\].file_name has to be str, got None"),
        (lambda c: c["images"].append({"id": 7, "file_name": "b"}), r"images\[1\].*twice"),
        (lambda c: c["images"].append({"id": 8, "file_name": "other/a.jpg"}), r"images\[1\].*twice"),
        (lambda c: c["images"][0].update(width="wide"), r"images\[0\].width has to be int, got 'wide'"),
        (lambda c: c["images"][0].update(width=0), r"images\[0\].width has to be 1 to 1000000 pixels, got 0"),
        (lambda c: c["images"][0].update(id=True), r"images\[0\].id has to be int or str, got True"),
        (lambda c: c["annotations"][0].update(image_id=8), "image_id 8, which is not among the images"),
        (lambda c: c["annotations"][0].update(image_id=[]), "image_id has to be int or str"),
        (lambda c: c["annotations"][0].update(category_id=9), "category_id 9 is not among"),
        (lambda c: c["annotations"][0].update(category_id=[]), "category_id has to be int or str"),
        (lambda c: c["annotations"].append("x"), r"annotations\[1\] has to be an object"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "bbox has to be"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, float("inf"), 3]), "finite numbers"),
        (lambda c: c["annotations"][0]["keypoints"].pop(), "has 50 numbers, expected 3 x 17"),
        (
            lambda c: c["annotations"][0]["keypoints"].__setitem__(0, float("nan")),
            r"nose is at \(nan, 2\) with confidence 2; expected are finite",
        ),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(1, None), r"nose is at \(1, nan\) with confidence 2"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, "1"), "finite numbers"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, 10**300), "finite numbers"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, True), "finite numbers"),
        (
            lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 3),
            r"annotations\[0\].*confidence of nose is 3; .*2",
        ),
        (
            lambda c: c["annotations"][0]["keypoints"].__setitem__(0, 721),
            r"annotations\[0\] has known keypoints outside the image of 640 x 480 pixels: nose at \(721, 2\)",
        ),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(1, -81), r"nose at \(1, -81\)"),
        (lambda c: c["categories"][0].update(keypoints=["tail", "nose"]), "no known set in its order"),
        (lambda c: c["categories"][0].update(name="dog"), "no category is a person: they are called 'dog'; known are"),
        (lambda c: c["categories"][0].update(keypoints="nose"), r"categories\[0\].keypoints has to be list"),
    ],
)
def test_wrong_entries_are_named(tmp_path, change, message):
    _read(tmp_path, _broken(lambda content: None))
    assert re.search(f"people.json: .*{message}", _told(_read, tmp_path, _broken(change)))


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\x00"])
def test_what_is_no_people_file_is_refused(tmp_path, text):
    with pytest.raises(people.PeopleError, match=r"people\.json"):
        _read(tmp_path, text)
    with pytest.raises(people.PeopleError, match="cannot be read"):
        people.read_people(tmp_path / "absent.json")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_SPOTS = [("images", 0, k) for k in ("id", "file_name", "width", "height")]
_SPOTS += [("annotations", 0, k) for k in ("image_id", "category_id", "bbox", "keypoints", "iscrowd")]
_SPOTS += [("categories", 0, k) for k in ("id", "name", "keypoints")] + [("images", 0), ("annotations", 0)]
_SPOTS += [("categories", 0), ("images",), ("annotations",), ("categories",)]


@given(value=_JSON, spot=st.sampled_from(_SPOTS))
def test_any_json_is_read_or_refused(tmp_path_factory, value, spot):
    content = node = _content(keypoints=_flat(joints.COCO17))
    for key in spot[:-1]:
        node = node[key]
    node[spot[-1]] = value
    try:
        found = _read(tmp_path_factory.mktemp("any"), content)
    except people.PeopleError:
        return
    for entry in found.values():
        assert all(np.isfinite(person.keypoints).all() for person in entry.people)


def test_the_box_comes_from_keypoints_then_bbox_then_image():
    keypoints = np.zeros((24, 3), np.float32)
    keypoints[3] = (100, 50, 1)
    keypoints[9] = (140, 250, 1)
    person = people.Person(keypoints, (10.0, 20.0, 100.0, 300.0))
    center, scale = people.box(person, (640, 480))
    np.testing.assert_allclose(center, [120, 150])
    assert scale == pytest.approx(200 * 1.1 / 200)
    one = np.zeros(24, np.float32)
    one[3] = 1
    center, scale = people.box(person, (640, 480), one)  # One keypoint has no extent.
    np.testing.assert_allclose(center, [60, 170])
    assert scale == pytest.approx(300 * 1.1 / 200)
    (nobody,) = people.whole_image().people
    center, scale = people.box(nobody, (640, 480))
    np.testing.assert_allclose(center, [320, 240])
    assert scale == pytest.approx(3.2)


def test_joints_slightly_outside_of_the_image_are_used():
    keypoints = np.zeros((24, 3), np.float32)
    keypoints[3] = (-79, 559, 1)  # An eighth of 640 is 80.
    keypoints[4] = (5000, 5000, 0)  # Unknown, so its place says nothing.
    people.check_inside(people.Person(keypoints), (640, 480))
    keypoints[9] = (721, 100, 1)
    with pytest.raises(people.PeopleError, match=r"Anna has .* left_shoulder at \(721, 100\); they .* confidence 0"):
        people.check_inside(people.Person(keypoints), (640, 480), "Anna")


@pytest.mark.parametrize(("largest", "refused"), [(1.0, True), (1.9, True), (2.1, False)])
def test_fractions_of_a_large_image_are_refused(largest, refused):
    keypoints = np.zeros((24, 3), np.float32)
    keypoints[:3] = [[0.1, 0.3, 1], [largest, 0.5, 1], [700.0, 90.0, 0]]
    boxed = people.Person(np.zeros((24, 3), np.float32), (0.1, 0.2, 0.4, largest))
    for person in (people.Person(keypoints), boxed):
        people.check_inside(person, (20, 20))  # Of such an image these may be pixels.
        if refused:
            with pytest.raises(
                people.PeopleError, match=r"Anna: all .* so they are fractions of the image; expected are pix"
            ):
                people.check_inside(person, (640, 480), "Anna")
        else:
            people.check_inside(person, (640, 480), "Anna")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: k[:17], r"an array \(17, 3\); expected are \(24, 3\)"),
        (lambda k: k[:, :2], r"an array \(24, 2\)"),
        (lambda k: k * np.array([1, 1, np.nan]), "The confidence of right_ankle is nan; unknown joints have 0"),
        (lambda k: k * np.array([1, np.nan, 1]), r"right_ankle is at \(100, nan\); expected are pixels"),
        (lambda k: k * np.array([1e20, 1, 1]), r"right_ankle is at \(1e\+22, 100\)"),
    ],
)
def test_keypoints_from_python_are_checked(change, message):
    keypoints = np.tile(np.array([100, 100, 1], np.float32), (24, 1))
    hidden = keypoints * np.array([np.nan, np.nan, 0])
    assert people.check_keypoints(keypoints.tolist()).shape == people.check_keypoints(hidden).shape == (24, 3)
    with pytest.raises(people.PeopleError, match=message):
        people.check_keypoints(change(keypoints))
    np.testing.assert_array_equal(people.check_keypoints(hidden), 0)


def test_a_known_joint_that_is_not_finite_is_outside():
    keypoints = np.zeros((24, 3), np.float32)
    keypoints[:2] = [[100, 200, 1], [np.nan, 200, 1]]
    with pytest.raises(people.PeopleError, match=r"outside the image .* at \(nan, 200\)"):
        people.check_inside(people.Person(keypoints), (640, 480))
