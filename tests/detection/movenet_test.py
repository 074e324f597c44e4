"""MoveNet: decoding against loops, people of made-up networks, and the photographs with the published weights."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax import detection
from multibodies_jax.data import crops, images
from multibodies_jax.detection import graph_files, layers, movenet, weights
from multibodies_jax.embedded import photographs
from multibodies_jax.geometry import boxes, joints

CELLS = 12


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def _outputs(seed, **channels):
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=(1, CELLS, CELLS, count)).astype(np.float32) * 2 for name, count in channels.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_boxes_equal_a_loop_over_cells(seed):
    outputs = _outputs(seed, centre=1, joints=34, size=2, offset=2)
    found = np.asarray(movenet.find_boxes({name: jnp.asarray(value) for name, value in outputs.items()}))
    score = _sigmoid(outputs["centre"][0, :, :, 0])
    expected = []
    for row in range(CELLS):
        for column in range(CELLS):
            around = score[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            if score[row, column] < around.max():
                continue
            offset, size = outputs["offset"][0, row, column], np.maximum(outputs["size"][0, row, column], 0)
            y, x = row + offset[0], column + offset[1]
            torso = [
                outputs["joints"][0, row, column].reshape(17, 2)[joints.COCO17.index(name)]
                for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
            ]
            middle = np.mean(torso, axis=0)
            box = [x - size[1] / 2, y - size[0] / 2, x + size[1] / 2, y + size[0] / 2]
            box += [column + middle[1], row + middle[0]]
            expected.append([*(4 * np.array(box)), score[row, column]])
    expected = sorted(expected, key=lambda row: -row[-1])[:6]
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-4, atol=1e-4)
    assert len(expected) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_joints_equal_a_loop_over_cells(seed):
    outputs = _outputs(seed, heatmap=17, centre=1, joints=34, offset=34)
    expected_place = np.array([20.0, 30.0], np.float32)
    found = movenet.find_joints({k: jnp.asarray(v) for k, v in outputs.items()}, jnp.asarray(expected_place))
    heat, centre = _sigmoid(outputs["heatmap"][0]), _sigmoid(outputs["centre"][0, :, :, 0])
    cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]

    def farther(cell, row, column):
        return np.hypot(cell[0] - row, cell[1] - column) + 1.8

    person = max(cells, key=lambda cell: centre[cell] / farther(cell, expected_place[1] / 4, expected_place[0] / 4))
    rows = []
    for joint in range(17):
        rough = outputs["joints"][0][person][2 * joint : 2 * joint + 2] + np.array(person)
        peak = max(cells, key=lambda cell: heat[cell][joint] / farther(cell, *rough))
        y, x = outputs["offset"][0][peak][2 * joint : 2 * joint + 2] + np.array(peak)
        rows.append([4 * x, 4 * y, heat[peak][joint]])
    rows.append([4 * person[1], 4 * person[0], centre[person]])
    np.testing.assert_allclose(found, rows, rtol=1e-4, atol=1e-4)


def _network(constants, **heads):
    """One layer for each output, which sees 4 x 4 pixels: `heads` gives the channels and the weight of white."""
    steps, arrays = {}, {}
    for name, (channels, white) in heads.items():
        arrays[f"{name}_kernel"] = np.full((4, 4, 3, channels), white / 48, np.float32)
        arrays[f"{name}_bias"] = np.broadcast_to(np.float32(constants.get(name, 0)), channels).copy()
        steps[name] = graph_files.Layer("convolution", ("",), f"{name}_kernel", f"{name}_bias", 4, "VALID")
    return graph_files.Network(steps, {name: name for name in heads}, arrays)


def _detector(side_cells=16.0, seen=True):
    """Finds white squares: a person of `side_cells` cells around each, all joints in its middle or none seen."""
    boxes = _network(
        {"size": side_cells, "offset": 0.5}, centre=(1, 9.0), joints=(34, 0.0), size=(2, 0.0), offset=(2, 0.0)
    )
    single = _network(
        {"offset": 0.5, "heatmap": 4.0 if seen else -30.0},
        heatmap=(17, 9.0),
        centre=(1, 9.0),
        joints=(34, 0.0),
        offset=(34, 0.0),
    )
    return movenet.MoveNet(boxes, single)


def _squares(*corners, size=(256, 256)):
    image = np.zeros((*size, 3), np.uint8)
    for x, y in corners:
        image[y : y + 4, x : x + 4] = 255
    return image


def test_people_come_from_left_to_right_with_their_boxes_and_joints():
    people = _detector()(_squares((180, 120), (60, 100)))
    assert [person.unusable for person in people] == ["", ""]
    for person, middle in zip(people, ((62, 102), (182, 122)), strict=True):
        np.testing.assert_allclose(person.box, (middle[0] - 32, middle[1] - 32, 64, 64), atol=1e-3)
        assert person.visible.all() and person.score > 0.9
        np.testing.assert_allclose(person.keypoints, np.tile(middle, (17, 1)), atol=2)


def test_the_same_image_gives_the_same_people_in_larger_pixels():
    image = _squares((180, 120), (60, 100))
    small, large = _detector()(image), _detector()(image.repeat(3, axis=0).repeat(3, axis=1))
    for one, other in zip(small, large, strict=True):
        np.testing.assert_allclose(np.multiply(one.box, 3), other.box, atol=0.1)
        np.testing.assert_allclose(one.keypoints * 3, other.keypoints, atol=6)


def test_boxes_end_at_the_frame():
    (person,) = _detector()(_squares((4, 120)))
    np.testing.assert_allclose(person.box, (0, 90, 38, 64), atol=1e-3)


@pytest.mark.parametrize(("x", "seen"), [(0, False), (20, True)])
def test_joints_at_the_edge_of_the_frame_are_not_seen(x, seen):
    (person,) = _detector(side_cells=60.0)(_squares((x, 120)))
    assert np.all(person.visible == seen) and np.all((person.confidence > 0) == seen)


def test_two_boxes_of_one_person_are_one_person():
    people = _detector(side_cells=60.0)(_squares((124, 100), (124, 124)))
    assert len(people) == 1


def test_who_is_too_small_is_reported_and_not_used():
    (person,) = _detector(side_cells=7.0)(_squares((120, 120)))
    assert person.unusable == "too small: 28 x 28 pixels, and 32 are needed" and not person.visible.any()


def test_of_whom_too_little_is_seen_is_reported_and_not_used():
    (person,) = _detector(seen=False)(_squares((120, 120)))
    assert person.unusable == "0 joints are seen, and 4 are needed"


def test_an_image_without_people_has_none():
    for size in ((1, 1), (40, 300)):
        assert _detector()(np.zeros((*size, 3), np.uint8)) == []


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8)]
)
def test_other_arrays_are_refused(image):
    with pytest.raises(Exception, match=r"8-bit RGB|Float|type"):
        _detector()(image)


@pytest.fixture(scope="module")
def detector():
    try:
        return detection.load()
    except detection.DetectorMissing:
        pytest.skip(f"the detector's files are not in {weights.folder()}: type `{weights.COMMAND}`")


def _photographs():
    content = json.loads(photographs.PEOPLE.read_text(encoding="utf-8"))
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        yield image["file_name"], np.reshape(np.array(annotation["keypoints"], np.float64), (17, 3)), annotation["bbox"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skier", "astronaut"])
def test_the_networks_equal_those_run_by_tensorflow_js(detector, name):
    """`tensorflow_js.json` has the published graphs' own outputs for the photographs in 256 x 256 pixels, black added.

    Made with @tensorflow/tfjs 4.22.0 on node: box left, top, right, bottom of the best person, and x, y, confidence.
    """
    expected = json.loads((pathlib.Path(__file__).parent / "tensorflow_js.json").read_text(encoding="utf-8"))[name]
    image = images.load_image(photographs.FOLDER / f"{name}.jpg")
    side = max(image.shape[:2])
    crop = crops.warp(image, boxes.affine(np.array([side / 2, side / 2]), side / boxes.SIDE, 256), 256)[None]

    def outputs(network):
        return layers.run(network, network.weights, movenet.normalized(crop))

    best = movenet.find_boxes(outputs(movenet.read_network(weights.folder(), "multipose")))[0]
    middle = jnp.asarray([128.0, 128.0])
    found = movenet.find_joints(outputs(movenet.read_network(weights.folder(), "thunder")), middle)
    np.testing.assert_allclose(np.clip(best[:4], 0, 256), expected["box"], atol=0.01)
    np.testing.assert_allclose(found[:17, :2], np.array(expected["joints"])[:, :2], atol=0.01)
    np.testing.assert_allclose(found[:17, 2], np.array(expected["joints"])[:, 2], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "keypoints", "box"), list(_photographs()))
def test_the_people_of_the_photographs_are_found_within_ten_pixels(detector, name, keypoints, box):
    (person,) = detector(images.load_image(photographs.FOLDER / name))
    known = keypoints[:, 2] > 0
    error = np.linalg.norm(person.keypoints - keypoints[:, :2], axis=1)[known]
    assert person.unusable == "" and error.mean() < 10 and error.max() < 30
    assert person.visible[known].all()
    low, high = np.array(person.box[:2]), np.sum(np.reshape(person.box, (2, 2)), axis=0)
    x, y, width, height = box
    assert np.abs(low - (x, y)).max() < 12 and np.abs(high - (x + width, y + height)).max() < 120


@pytest.mark.slow
def test_what_the_astronaut_hides_or_has_outside_the_frame_is_hidden(detector):
    (person,) = detector(images.load_image(photographs.ASTRONAUT))
    hidden = {name for name, visible in zip(joints.COCO17, person.visible, strict=True) if not visible}
    sides = [f"{side}_{name}" for name in ("hip", "knee", "ankle") for side in ("left", "right")]
    assert hidden == {"left_elbow", "left_wrist", *sides}


@pytest.mark.parametrize(("height", "cut_off"), [(200, "hip"), (270, "knee"), (340, "ankle")])
def test_a_cut_photograph_hides_what_was_cut_off(detector, height, cut_off):
    (person,) = detector(images.load_image(photographs.SKIER)[:height])  # A hand's breadth above those joints.
    seen = {name for name, visible in zip(joints.COCO17, person.visible, strict=True) if visible}
    assert not any(name.endswith(cut_off) for name in seen)
    assert {"nose", "left_shoulder", "right_shoulder", "right_elbow", "right_wrist"} <= seen
