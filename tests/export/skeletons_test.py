"""BVH read back by forward kinematics, and the table of joints."""

import csv

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.export import scene, skeletons
from multibodies_jax.geometry import joints, rotations_np
from tests.helpers import made_predictions

FLIP = np.array([1.0, -1.0, -1.0])


def read_bvh(text):
    """Names, parents and world positions (frames, bones, 3) of a BVH file, and its frame time."""
    words = iter(text.split())
    names, parents, offsets, channels, stack = [], [], [], [], []
    for word in words:
        if word in ("ROOT", "JOINT", "End"):
            name = next(words)
            parents.append(stack[-1] if stack else -1)
            names.append("" if word == "End" else name)
            channels.append([])
            offsets.append(None)
        elif word == "{":
            stack.append(len(names) - 1)
        elif word == "}":
            stack.pop()
        elif word == "OFFSET":
            offsets[-1] = [float(next(words)) for _ in range(3)]
        elif word == "CHANNELS":
            channels[-1] = [next(words) for _ in range(int(next(words)))]
        elif word == "Frames:":
            frames = int(next(words))
        elif word == "Time:":
            frame_time = float(next(words))
            break
    values = np.array([float(word) for word in words]).reshape(frames, -1)
    places = np.zeros((frames, len(names), 3))
    for frame in range(frames):
        row, turned = iter(values[frame]), []
        for bone, parent in enumerate(parents):
            shift, turn = np.array(offsets[bone]), np.eye(3)
            for channel in channels[bone]:
                value = next(row)
                if channel.endswith("position"):
                    shift["XYZ".index(channel[0])] += value
                else:
                    turn = turn @ Rotation.from_euler(channel[0].lower(), value, degrees=True).as_matrix()
            before = turned[parent] if parent >= 0 else (np.eye(3), np.zeros(3))
            turned.append((before[0] @ turn, before[0] @ shift + before[1]))
        places[frame] = [place for _, place in turned]
    return names, parents, places, frame_time


def expected_places(body, rotations, translation):
    _, p = rotations_np.forward_kinematics(rotations, body.rest_joints)
    return (p + translation) * FLIP


def test_a_still_has_one_frame(tmp_path):
    body = made_predictions.made().people[0].bodies[0]
    skeletons.write_bvh(body, tmp_path / "body.bvh")
    names, parents, places, _ = read_bvh((tmp_path / "body.bvh").read_text(encoding="utf-8"))
    bones = [names.index(name) for name in joints.SMPL24]
    assert [names[parents[k]] for k in bones[1:]] == [joints.SMPL24[k] for k in joints.SMPL_PARENTS[1:]]
    assert len(places) == 1
    np.testing.assert_allclose(places[0, bones], expected_places(body, body.rotations, body.translation), atol=1e-5)
    ends = [k for k, name in enumerate(names) if not name]
    assert [names[parents[k]] for k in ends] == ["left_foot", "right_foot", "head", "left_hand", "right_hand"]


def test_a_motion_has_its_frames():
    body = made_predictions.made(motion=9).people[0].bodies[0]
    text = skeletons.encode_bvh(body, frames_per_second=25)
    names, _, places, frame_time = read_bvh(text)
    bones = [names.index(name) for name in joints.SMPL24]
    assert body.motion is not None and len(places) == 9 and frame_time == pytest.approx(0.04)
    for frame in range(9):
        its = expected_places(body, body.motion.rotations[frame], body.motion.translation[frame])
        np.testing.assert_allclose(places[frame, bones], its, atol=1e-5)
    values = np.array([row.split() for row in text.splitlines()[-9:]], float)
    assert np.abs(np.diff(values[:, 3:], axis=0)).max() < 180  # No jumps of a full turn between frames.


def test_the_table_of_joints(tmp_path):
    made = made_predictions.made()
    skeletons.write_csv(made, tmp_path / "set.csv")
    with open(tmp_path / "set.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 24 and tuple(rows[0]) == skeletons.COLUMNS
    (_, person, body, probability) = made.weighted()[1]
    wrist = joints.J24.index("right_wrist")
    row = rows[24 + wrist]
    assert (row["body"], row["joint"], row["known"], row["hypothesis"]) == ("1", "right_wrist", "0", str(body.index))
    assert rows[24]["known"] == "1" and float(row["probability"]) == pytest.approx(probability, abs=1e-6)
    place = [float(row[name]) for name in ("x_m", "y_m", "z_m")]
    np.testing.assert_allclose(place, body.joints24[wrist], atol=1e-6)
    u, v = made.focal_px * body.joints24[wrist, :2] / body.joints24[wrist, 2] + made.principal_point
    assert (float(row["u_px"]), float(row["v_px"])) == pytest.approx((u, v), abs=1e-3)
    assert float(row["spread_m"]) == pytest.approx(person.joint_spread[wrist], abs=1e-6)


def test_bodies_look_into_the_world_of_the_files():
    """A person who faces the camera faces +z of the files, upright."""
    facing = scene.TO_Y_UP[None] @ np.eye(3)  # The root of an upright body before the camera.
    rotations, _ = scene.y_up_pose(np.tile(facing, (1, 24, 1, 1)), np.zeros((1, 3)))
    np.testing.assert_array_equal(rotations[0, 0], np.eye(3))
