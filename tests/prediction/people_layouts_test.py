"""Files of pose estimators: each layout is read exactly, and no wrong entry passes.

The orders of joints below are typed from the documentation of the programs, not taken from the library's own tables.
"""

import copy
import json
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people, people_layouts

COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
HALPE = (*COCO, "head_top", "neck", "pelvis", *["foot"] * 6)
OPENPOSE = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "pelvis",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear",
    "left_ear", *["foot"] * 6,
)  # fmt: skip
OPENPOSE_18 = OPENPOSE[:8] + OPENPOSE[9:19]
NAN = float("nan")
PLACE = {name: (100 + 7 * i, 60 + 11 * i) for i, name in enumerate([*joints.J24, "foot", "face", "tail"])}


def _points(names):
    return [list(PLACE[name]) for name in names]


def _flat(names, confidence=0.9):
    return [value for name in names for value in (*PLACE[name], confidence)]


def _expected(names):
    table = np.zeros((24, 3), np.float32)
    for name in set(names) & set(joints.J24):
        table[joints.J24.index(name)] = (*PLACE[name], 1)
    return table


def _read(tmp_path, content, name="photo.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return people.read_people(path)


def _openpose(names=OPENPOSE, confidence=0.9):
    return {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": _flat(names, confidence)}]}


def _result(names: Sequence[str] = COCO, image: str | int = "photo.jpg", **more):
    return {"image_id": image, "category_id": 1, "keypoints": _flat(names), "score": 2.9, **more}


def _instance(names=COCO, **more):
    scores = [0.9] * len(names)
    return {
        "keypoints": _points(names),
        "keypoint_scores": scores,
        "bbox": [[90, 50, 300, 400]],
        "bbox_score": 1,
        **more,
    }


def _mmpose(names=COCO, keypoint_names=None):
    named = dict(enumerate(keypoint_names or names))
    return {"meta_info": {"dataset_name": "x", "keypoint_id2name": named}, "instance_info": [_instance(names)]}


def _alphapose_by_image(key):
    name = {"people": "pose_keypoints_2d", "bodies": "joints"}[key]
    return {"photo.jpg": {"version": "AlphaPose v0.3", key: [{name: _flat(OPENPOSE_18, 4.5)}]}}


WHOLE_BODY = [*COCO, *(["foot"] * 6), *(["face"] * 110)]
MMPOSE_HALPE = [*COCO, "head", "neck", "hip"] + [
    f"{side}_{part}" for part in ("big_toe", "small_toe", "heel") for side in ("left", "right")
]
FILES = {  # name -> (file name, content, joints)
    "OpenPose BODY_25": ("photo_keypoints.json", _openpose(), OPENPOSE),
    "OpenPose COCO": ("photo_keypoints.json", _openpose(OPENPOSE_18), OPENPOSE_18),
    "OpenPose, another name": ("photo.json", _openpose(), OPENPOSE),
    "OpenPose of old": (
        "photo.json",
        {"version": 0.1, "people": [{"pose_keypoints": _flat(OPENPOSE_18)}]},
        OPENPOSE_18,
    ),
    "COCO results by name": ("any.json", [_result()], COCO),
    "COCO results by stem": ("any.json", [_result(image="photo")], COCO),
    "COCO results with a folder": ("any.json", [_result(image="val/photo.jpg")], COCO),
    "AlphaPose COCO": ("any.json", [_result(box=[90, 50, 210, 350], idx=[0.0])], COCO),
    "AlphaPose Halpe-26": ("any.json", [_result(HALPE, box=[90, 50, 210, 350])], HALPE),
    "AlphaPose Halpe-136": ("any.json", [_result([*HALPE, *(["face"] * 110)])], HALPE),
    "AlphaPose open": ("any.json", _alphapose_by_image("people"), OPENPOSE_18),
    "AlphaPose cmu": ("any.json", _alphapose_by_image("bodies"), OPENPOSE_18),
    "AlphaPose cmu, one image": ("photo.json", _alphapose_by_image("bodies")["photo.jpg"], OPENPOSE_18),
    "MMPose": ("photo.json", [_instance()], COCO),
    "MMPose Halpe-26": ("photo.json", [_instance(HALPE)], HALPE),
    "MMPose whole body": ("photo.json", [_instance(WHOLE_BODY)], COCO),
    "MMPose with names": ("results_photo.json", _mmpose(), COCO),
    "MMPose with names, Halpe-26": ("results_photo.json", _mmpose(HALPE, MMPOSE_HALPE), HALPE),
    "MMPose with names, whole body": (
        "results_photo.json",
        _mmpose(WHOLE_BODY, [*COCO, *(f"p{i}" for i in range(116))]),
        COCO,
    ),
    "MMPose with one frame": ("photo.json", [{"frame_id": 0, "instances": [_instance()]}], COCO),
}


@pytest.mark.parametrize("name", FILES)
def test_every_layout_is_read(tmp_path, name):
    file, content, names = FILES[name]
    found = _read(tmp_path, content, file)
    assert "photo.jpg" in found and "other.jpg" not in found and len(found) == 1
    (person,) = found["photo.jpg"].people
    np.testing.assert_array_equal(person.keypoints, _expected(names))
    has_box = "MMPose" in name or name in ("AlphaPose COCO", "AlphaPose Halpe-26")
    assert person.bbox == ((90, 50, 210, 350) if has_box else None)


def test_left_is_left_in_every_layout(tmp_path):
    """The left wrist is joint 9 of COCO and Halpe, and joint 7 of both OpenPose sets; it counts from nought."""
    for index, key, count in ((9, "coco", 17), (9, "halpe", 26), (7, "openpose", 25), (7, "openpose", 18)):
        numbers = [0.0] * (3 * count)
        numbers[3 * index : 3 * index + 3] = [120.0, 130.0, 1.0]
        openpose = {"people": [{"pose_keypoints_2d": numbers}]}
        content = openpose if key == "openpose" else [{"image_id": "photo.jpg", "keypoints": numbers}]
        (person,) = _read(tmp_path, content)["photo.jpg"].people
        assert [joints.J24[j] for j in np.flatnonzero(person.keypoints[:, 2])] == ["left_wrist"]


def test_a_number_is_the_image_of_that_number(tmp_path):
    found = _read(tmp_path, [_result(image=785), _result(image=7), _result(image=785)])
    for name in ("000000000785.jpg", "785.png", "COCO_val2014_000000000785.jpg"):
        assert len(found[name].people) == 2 and found.get(name) is found[name] and name in found
    for name in ("frame_785.jpg", "0785b.jpg", "8.jpg"):
        assert found.get(name) is None and name not in found
        with pytest.raises(KeyError):
            found[name]
    named = _read(tmp_path, [_result(image="785")])
    assert "785.jpg" in named and "000785.jpg" not in named  # A name is no number.


def test_frames_of_a_video_are_numbered(tmp_path):
    frames = [{"frame_id": 3, "instances": [_instance(), _instance()]}, {"frame_id": 4, "instances": []}]
    for content in (frames, {"meta_info": {}, "instance_info": frames}):
        found = _read(tmp_path, content)
        assert len(found["000003.jpg"].people) == 2 and found["4.jpg"].people == () and "photo.jpg" not in found


@pytest.mark.parametrize(
    ("form", "first", "from_1"),
    [("list", 0, False), ("list", 1, False), ("demo", 1, True), ("demo", 4, True), ("demo", 0, False)],
)
def test_frames_of_mmposes_demos_are_counted_from_1(tmp_path, form, first, from_1):
    frames = [{"frame_id": first + k, "instances": [_instance()]} for k in range(3)]
    content = frames if form == "list" else {"meta_info": {}, "instance_info": frames}
    (tmp_path / "results_clip.json").write_text(json.dumps(content), encoding="utf-8")
    found = people.read_people(tmp_path / "results_clip.json")
    assert list(found) == [str(first + k) for k in range(3)]  # Of photographs the number is a part of the name.
    assert found.counted_from_1 == (set(found) if from_1 else set())


@pytest.mark.parametrize("content", [{"version": 1.3, "people": []}, [], {"meta_info": {}, "instance_info": []}])
def test_a_file_without_people_lists_its_image(tmp_path, content):
    assert _read(tmp_path, content)["photo.jpg"].people == ()


def test_a_folder_has_a_file_for_each_image(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}_keypoints.json").write_text(json.dumps(_openpose()), encoding="utf-8")
    (tmp_path / "c.json").write_text(json.dumps([_instance()]), encoding="utf-8")
    (tmp_path / "rendered.png").write_text("no people", encoding="utf-8")
    found = people.read_people(tmp_path)
    assert sorted(found) == ["a", "b", "c"] and all(len(found[f"{name}.png"].people) == 1 for name in "abc")
    (tmp_path / "a.json").write_text("[]", encoding="utf-8")
    with pytest.raises(people.PeopleError, match=r"a_keypoints.json and .*a.json both list the people of a; keep one"):
        people.read_people(tmp_path)


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(people.PeopleError, match="file in this folder"):
        people.read_people(tmp_path)


def test_a_broken_file_of_a_folder_is_named_and_the_others_are_read(tmp_path):
    (tmp_path / "a_keypoints.json").write_text(json.dumps(_openpose()), encoding="utf-8")
    (tmp_path / "b_keypoints.json").write_text(json.dumps(_openpose(COCO)), encoding="utf-8")
    (tmp_path / "c.json").write_text("{", encoding="utf-8")
    found = people.read_people(tmp_path)
    assert sorted(found) == ["a", "b"] and len(found["a.jpg"].people) == 1 and found["b.jpg"].people == ()
    (problem,) = found["b.jpg"].problems
    assert re.search(r"b_keypoints.json: people\[0\].pose_keypoints_2d has 51 numbers", problem)
    assert len(found.problems) == 1 and "c.json cannot be read as JSON" in found.problems[0]
    (tmp_path / "a_keypoints.json").unlink()
    with pytest.raises(people.PeopleError, match=r"c.json cannot be read as JSON.* None of the 2 entries can be used"):
        people.read_people(tmp_path)


def test_the_number_of_people_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(people_layouts, "MOST_PEOPLE", 2)
    assert len(_read(tmp_path, [_result()] * 2)["photo.jpg"].people) == 2
    many = {"results": [_result()] * 3, "instances": [_instance()] * 3, "openpose": {"people": [{}] * 3}}
    for content in many.values():
        with pytest.raises(people.PeopleError, match="3 entries; at most 2 people"):
            _read(tmp_path, content)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps([_instance()] * 2), encoding="utf-8")
    (tmp_path / "photo.json").unlink()
    with pytest.raises(people.PeopleError, match="more than 2 people"):
        people.read_people(tmp_path)


MEDIAPIPE = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer", "left_ear",
    "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
    "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index",
    "right_foot_index",
)  # fmt: skip
_LANDMARKS = [(name, PLACE.get(name, PLACE["foot"])) for name in MEDIAPIPE]
MORE = {  # What other programs write: name -> (file name, content, joints).
    "MediaPipe": (
        "photo.json",
        {"pose_landmarks": [[{"x": x, "y": y, "z": 0.1, "visibility": 0.9} for _, (x, y) in _LANDMARKS]]},
        MEDIAPIPE,
    ),
    "MediaPipe, one person": (
        "photo.json",
        {"pose_landmarks": [{"x": x, "y": y, "visibility": 0.9} for _, (x, y) in _LANDMARKS]},
        MEDIAPIPE,
    ),
    "TensorFlow.js": (
        "photo.json",
        [{"keypoints": [{"x": x, "y": y, "score": 0.9, "name": name} for name, (x, y) in reversed(_LANDMARKS)]}],
        MEDIAPIPE,
    ),
    "COCO results of MediaPipe": (
        "any.json",
        [{"image_id": "photo.jpg", "keypoints": [v for _, (x, y) in _LANDMARKS for v in (x, y, 0.9)]}],
        MEDIAPIPE,
    ),
    "COCO results, nested": ("any.json", [_result() | {"keypoints": [[*p, 0.9] for p in _points(COCO)]}], COCO),
    "ViTPose of transformers": ("photo.json", [{"keypoints": _points(COCO), "scores": [0.9] * 17, "bbox": None}], COCO),
    "RTMPose Halpe-26": ("photo.json", [_instance(HALPE)], HALPE),
    "COCO-WholeBody": ("any.json", [_result(WHOLE_BODY)], COCO),
    "a mark at the beginning": ("photo.json", "\ufeff" + json.dumps([_instance()]), COCO),
    "a broken entry first": ("any.json", [7, _result()], COCO),
    "names in another order": ("results_photo.json", _mmpose(COCO[::-1]), COCO),
    "names with others between": ("results_photo.json", _mmpose([*COCO[:9], "tail", *COCO[9:]]), COCO),
}


@pytest.mark.parametrize("name", MORE)
def test_what_other_programs_write_is_read(tmp_path, name):
    file, content, names = MORE[name]
    (person,) = _read(tmp_path, content, file)["photo.jpg"].people
    np.testing.assert_array_equal(person.keypoints, _expected(names))


@pytest.mark.parametrize("nothing", [None, NAN])
def test_what_was_not_found_may_be_null_or_nan(tmp_path, nothing):
    result, instance = _result(), _instance()
    result["keypoints"][:3] = [nothing, nothing, 0]  # The nose,
    result["keypoints"][5] = nothing  # and the confidence of the left eye.
    instance["keypoints"][0], instance["keypoint_scores"][:2] = [nothing, nothing], [0, nothing]
    for content in ([result], [instance]):
        (person,) = _read(tmp_path, content)["photo.jpg"].people
        np.testing.assert_array_equal(person.keypoints, _expected(COCO[2:]))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("confidence", "known"), [(0.0, False), (0.19, False), (0.2, True), (1.4, True)])
def test_unsure_keypoints_are_unknown(tmp_path, name, confidence, known):
    file, content, names = FILES[name]
    text = json.dumps(content).replace("0.9", str(confidence)).replace("4.5", str(confidence))
    (person,) = _read(tmp_path, text, file)["photo.jpg"].people
    np.testing.assert_array_equal(person.keypoints, _expected(names) * known)


@pytest.mark.parametrize(
    ("content", "largest"),
    [
        (_openpose(), 2.0),
        ([_result()], 10.0),
        ([_instance()], 10.0),
        ({"version": "AlphaPose v0.3"} | {"people": _openpose(OPENPOSE_18)["people"]}, 10.0),
    ],
)
def test_confidences_that_a_layout_cannot_have_are_refused(tmp_path, content, largest):
    text = json.dumps(content)
    assert len(_read(tmp_path, text.replace("0.9", str(largest)))["photo.jpg"].people) == 1
    with pytest.raises(people.PeopleError, match=rf"confidence of nose is 87; this layout has at most {largest:g}"):
        _read(tmp_path, text.replace("0.9", "87"))


def _told(read, *arguments):
    """What is said of a file that is refused, or of its entries that are skipped."""
    try:
        found = read(*arguments)
    except people.PeopleError as error:
        return str(error)
    return "\n".join([*found.problems, *(problem for entry in found.values() for problem in entry.problems)])


def _set(*keys):
    """Puts the last of `keys` at the place that the others say."""
    *path, last, value = keys

    def change(content):
        for key in path:
            content = content[key]
        content[last] = value

    return change


BAD = [
    ("OpenPose BODY_25", _set("people", {}), "people has to be a list"),
    ("OpenPose BODY_25", _set("people", 0, 3), r"people\[0\] has to be an object, got 3"),
    ("OpenPose BODY_25", _set("people", 0, {"hands": []}), r"people\[0\].pose_keypoints_2d has to be list, got None"),
    ("OpenPose BODY_25", _set("people", 0, "pose_keypoints_2d", [1.0] * 74), "has 74 numbers"),
    ("OpenPose BODY_25", _set("people", 0, "pose_keypoints_2d", [1.0] * 45), r"45 numbers, .* or 3 x 18"),
    (
        "OpenPose BODY_25",
        _set("people", 0, "pose_keypoints_2d", 4, NAN),
        r"people\[0\].pose_keypoints_2d: mid_shoulders is at \(\d+, nan\)",
    ),
    ("OpenPose BODY_25", _set("people", 0, "pose_keypoints_2d", 5, "0.9"), r"pose_keypoints_2d\[5\] is '0.9'"),
    ("OpenPose BODY_25", _set("people", 0, "pose_keypoints_2d", 3, 2e6), r"pose_keypoints_2d\[3\] is 2000000.0"),
    ("OpenPose BODY_25", _set("people", 0, "pose_keypoints_2d", [0.5] * 75), r"people\[0\].*fractions of the image"),
    (
        "COCO results by name",
        _set(0, "keypoints", [1.0] * 48),
        r"\[0\].keypoints has 48 numbers, expected 3 x 17 \(coco",
    ),
    ("COCO results by name", _set(0, "keypoints", None), r"\[0\].keypoints has to be a list, got None"),
    ("COCO results by name", _set(0, "keypoints", 2, True), r"\[0\].keypoints\[2\] is True"),
    ("COCO results by name", _set(0, "image_id", 1.5), r"\[0\].image_id has to be int or str, got 1.5"),
    ("COCO results by name", _set(0, "image_id", ""), r"\[0\].image_id is empty"),
    ("COCO results by name", _set(0, "category_id", 18), r"\[0\].category_id is 18; a person has 1"),
    ("COCO results by name", _set(0, "bbox", [1, 2, 3]), r"\[0\].bbox has to be \[x, y, width, height\]"),
    ("COCO results by name", lambda c: c.append("x"), r"\[1\] has to be an object, got 'x'"),
    (
        "COCO results by name",
        _set(0, "bboxes", [1, 2, 3, 4]),
        r"\[0\] has 'bboxes', and 'bbox', which it resembles, is absent",
    ),
    ("AlphaPose COCO", _set(0, "box", [1, 2, 0]), r"\[0\].box has to be \[x, y, width, height\]"),
    (
        "AlphaPose open",
        lambda c: c.update({"b/photo.jpg": c["photo.jpg"]}),
        "equal or empty names without their folders",
    ),
    (
        "AlphaPose cmu",
        _set("photo.jpg", "bodies", 0, "joints", 0, NAN),
        r"\['photo.jpg'\].bodies\[0\].joints: nose is at \(nan, \d+\)",
    ),
    ("MMPose", _set(0, "keypoint_scores", [0.9] * 16), r"\[0\].keypoints has 17 keypoints and 16 scores, expected one"),
    (
        "MMPose",
        lambda c: c[0].update(_instance(COCO[:16])),
        r"16 keypoints, expected 17 \(coco17\) or 26 \(halpe26\) or 33",
    ),
    ("MMPose", _set(0, "keypoint_scores", 0, "1"), r"\[0\].keypoints scores\[0\] is '1'"),
    ("MMPose", _set(0, "keypoints", 3, [1, 2, 3]), r"\[0\].keypoints\[3\] has 3 numbers, expected \[x, y\]"),
    ("MMPose", _set(0, "keypoints", 3, ["1", 2]), r"\[0\].keypoints\[3\]\[0\] is '1'"),
    ("MMPose", _set(0, "keypoints", 3, None), r"\[0\].keypoints\[3\] has to be a list, got None"),
    ("MMPose", _set(0, "bbox", [[1, 2, 1]]), r"\[0\].bbox has to be \[x1, y1, x2, y2\]"),
    ("MMPose", _set(0, "bbox", [5]), r"\[0\].bbox has to be a list, got 5"),
    ("MMPose", lambda c: c.append(7), r"\[1\] has to be an object, got 7"),
    (
        "MMPose with names",
        _set("meta_info", "keypoint_id2name", {"0": "tail"}),
        r"id2name are 1 names \('tail'\) of no known set",
    ),
    ("MMPose with names", _set("instance_info", "x"), "instance_info has to be a list, got 'x'"),
    ("MMPose with one frame", _set(0, "frame_id", "a"), r"\[0\].frame_id has to be int, got 'a'"),
    ("MMPose with one frame", _set(0, "instances", None), r"\[0\].instances has to be a list, got None"),
    ("MMPose with one frame", lambda c: c.append(c[0]), "frame_id 0 stands there twice"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_wrong_entries_are_named(tmp_path, name, change, message):
    file, content, _ = FILES[name]
    content = json.loads(json.dumps(content))
    _read(tmp_path, copy.deepcopy(content), file)
    change(content)
    assert re.search(f"{file}: .*{message}", _told(_read, tmp_path, content, file))


@pytest.mark.parametrize("content", [{}, {"a": 1}, [1], [[]], [{"x": 1}], 3, None, "text", {"keypoints": [{"0": []}]}])
def test_an_unknown_layout_lists_the_known_ones(tmp_path, content):
    with pytest.raises(people.PeopleError, match="no known layout of people") as caught:
        _read(tmp_path, json.dumps(content))
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(": ")[0].strip() for line in lines[:-1]] == [layout.name for layout in people_layouts.LAYOUTS]
    for word in ("OpenPose", "COCO", "MMPose", "AlphaPose", "ViTPose", "folder"):
        assert any(word in line for line in lines)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(content, path=()):
    """All places of a document, the root first; of lists the first two items."""
    yield path
    inside = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    for key, value in inside:
        yield from _places(value, (*path, key))


_SPOTS = [(name, path) for name, (_, content, _) in FILES.items() for path in _places(json.loads(json.dumps(content)))]


@given(value=_JSON, spot=st.sampled_from(_SPOTS))
def test_any_json_is_read_or_refused(tmp_path_factory, value, spot):
    name, path = spot
    file, content, _ = FILES[name]
    root = [json.loads(json.dumps(content))]
    node = root
    for key in (0, *path)[:-1]:
        node = node[key]
    node[(0, *path)[-1]] = value
    try:
        found = _read(tmp_path_factory.mktemp("any"), root[0], file)
    except people.PeopleError:
        return
    for entry in found.values():
        assert all(np.isfinite(person.keypoints).all() for person in entry.people)


@pytest.mark.parametrize("name", ["a.jpg", "train/a.jpg", "C:\\d\\a.jpg", "d\\e/a.jpg"])
def test_images_are_known_by_their_names_without_folders(tmp_path, name):
    """Also those that a program on Windows wrote."""
    image = {"id": 1, "file_name": name, "width": 100, "height": 100}
    (tmp_path / "p.json").write_text(
        json.dumps({"images": [image], "annotations": [], "categories": []}), encoding="utf-8"
    )
    assert list(people.read_people(tmp_path / "p.json")) == ["a.jpg"]
