"""Joints that the user places: the set follows them, keeps what was seen, and comes back exactly."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import multibodies_jax
from multibodies_jax import io
from multibodies_jax.export import scene
from multibodies_jax.geometry import cameras, joints
from multibodies_jax.hypotheses import weights
from multibodies_jax.hypotheses.hypotheses import zero_root_joints
from multibodies_jax.prediction import people, prediction, prediction_file, session
from multibodies_jax.prediction.evidence import evidence
from tests.helpers import made_predictions, tiny
from tests.helpers import trained as shared_run

pytestmark = pytest.mark.slow

HIDDEN = ("left_elbow", "left_wrist", "right_ankle")
WRIST = joints.J24.index("left_wrist")
IMAGE = np.zeros((480, 400, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("session") / "w"
    shutil.copytree(shared_run.workdir(), workdir)
    config = tiny.config(quantizer__temperature=0.5, fitting__steps=10, fitting__prior=0.01, fitting__anchor=1.0)
    io.write_json(workdir / "config.json", json.loads(config.to_json_best_effort()))
    return multibodies_jax.load(workdir)


@pytest.fixture(scope="module")
def person(model):
    """A standing person, as a body of the model shows it, with hidden joints."""
    found = model.hypotheses(keypoints=_line())
    points = np.asarray(found.joints24[0, 0])
    shown = np.column_stack([points[:, :2] * 180 + (200, 240), np.ones(24)]).astype(np.float32)
    shown[[joints.J24.index(name) for name in HIDDEN]] = 0
    return people.Person(shown, annotation="7")


def _line():
    return np.column_stack([np.linspace(150, 250, 24), np.linspace(60, 420, 24), np.ones(24)]).astype(np.float32)


@pytest.fixture(scope="module")
def opened(model, person):
    (found,) = model.predict(IMAGE, [person], n=2)
    return found


def pixels(record, k):
    """Where the crop's camera shows joint k of all hypotheses, (M, 2)."""
    found = prediction_file.hypotheses_of(record)
    crop = cameras.project_crop(
        found.joints24 + found.midhip[..., None, :], found.cam, prediction_file.crop_focal(record)
    )
    return np.asarray(crop[0, :, k]) * 100 * float(record["box_scale"]) + record["box_center"]


def place_of(record, k, shift):
    return pixels(record, k).mean(axis=0) + np.array(shift, np.float32)


def test_all_hypotheses_follow_a_hidden_joint_and_keep_what_is_seen(model, opened):
    its = session.Session(opened, model)
    assert its.blocked == its.note == "" and its.placed == ()
    wanted = place_of(opened.record, WRIST, (50, -40))
    its.place("left_wrist", wanted)
    now = its.prediction.record
    before, after = (np.linalg.norm(pixels(record, WRIST) - wanted, axis=1) for record in (opened.record, now))
    assert before.min() > 20 and after.max() < 6, (before, after)
    known = opened.keypoints[:, 2] > 0
    seen = [
        np.mean([np.linalg.norm(pixels(r, k) - opened.keypoints[k, :2], axis=1) for k in np.flatnonzero(known)])
        for r in (opened.record, now)
    ]
    assert seen[1] < seen[0] + 2, seen
    assert its.placed == ("left_wrist",) and its.n == 2
    np.testing.assert_allclose(now["keypoints"][WRIST], [*wanted, 1])
    np.testing.assert_array_equal(np.delete(now["keypoints"], WRIST, 0), np.delete(opened.keypoints, WRIST, 0))
    assert its.prediction.spread[WRIST] < opened.spread[WRIST]


def test_the_answer_is_scored_by_the_prior_and_weighted_by_eq_2(model, opened):
    its = session.Session(opened, model)
    its.place("left_wrist", place_of(opened.record, WRIST, (30, 10)))
    record = its.prediction.record
    found = prediction_file.hypotheses_of(record)
    scores = model.density.log_prob(zero_root_joints(found).reshape(-1, 72))
    np.testing.assert_allclose(record["all_log_prior"], scores, rtol=1e-4, atol=1e-3)
    every = its.prediction.requantize(6)
    expected = weights.posterior_weights(jnp.asarray(record["all_log_prior"])[None], 0.5)[0]
    np.testing.assert_allclose(every.probabilities, expected[every.record["index"]], rtol=1e-4)
    assert np.abs(record["all_log_prior"] - opened.record["all_log_prior"]).max() > 1e-3


def test_learned_scores_are_those_of_all_keypoints(model, person, opened):
    known = dataclasses.replace(opened, record=opened.record | {"sharpness": np.array('{"scores": 0.3}')})
    its = session.Session(known.requantize(2, "scores"), model)
    temperatures = opened.record["temperatures"]
    wanted = place_of(opened.record, WRIST, (30, 10))
    its.place("left_wrist", wanted)
    assert its.prediction.record["temperatures"] == temperatures != "{}"
    assert its.prediction.record["sharpness"] == '{"scores": 0.3}'
    assert json.loads(str(its.prediction.record["quantizer"]))["sharpness"] == 0.3
    plain = dataclasses.replace(known, record=known.record | {"refined": np.array(False)})
    other = session.Session(plain.requantize(2, "scores"), model)
    other.place("left_wrist", wanted)
    changed = other.prediction.record
    assert json.loads(str(changed["quantizer"]))["sharpness"] == 1 and changed["sharpness"] == "{}"
    keypoints = person.keypoints.copy()
    keypoints[WRIST] = (*wanted, 1)
    box = opened.record["box_center"], float(opened.record["box_scale"])
    inputs = evidence(np.zeros((1, 1, 3), np.uint8), people.Person(keypoints), box, "image/0", 0)
    found, before = its.prediction.record["all_log_scores"], opened.record["all_log_scores"]
    np.testing.assert_allclose(found, model.infer(inputs).log_scores[0], atol=1e-4)
    assert np.abs(found - before).max() > 1e-3
    every = its.prediction.requantize(6)
    powers = np.exp(0.3 * found)[every.record["index"]]
    np.testing.assert_allclose(every.probabilities, powers / powers.sum(), rtol=1e-3)


def test_a_far_joint_is_followed_where_a_detected_one_would_count_as_an_error(model, opened):
    far = place_of(opened.record, WRIST, (0, -110))
    its = session.Session(opened, model)
    its.place("left_wrist", far)
    keypoints = opened.keypoints.copy()
    keypoints[WRIST] = (*far, 1)
    (detected,) = model.predict(IMAGE, [people.Person(keypoints)], n=2)
    placed, plain = (np.linalg.norm(pixels(p.record, WRIST) - far, axis=1).mean() for p in (its.prediction, detected))
    assert placed < 0.5 * plain, (placed, plain)


def test_a_detected_keypoint_that_the_robust_term_let_go_stays_so(model, person):
    wrong = person.keypoints.copy()
    ankle = joints.J24.index("left_ankle")
    wrong[ankle, :2] += (170, -200)
    (opened,) = model.predict(IMAGE, [people.Person(wrong)], n=2)
    its = session.Session(opened, model)
    its.place("left_wrist", place_of(opened.record, WRIST, (15, 0)))
    moved = np.linalg.norm(pixels(its.prediction.record, ankle) - pixels(opened.record, ankle), axis=1)
    missed = np.linalg.norm(pixels(opened.record, ankle) - wrong[ankle, :2], axis=1)
    assert np.median(moved) < 0.25 * np.median(missed), (moved, missed)


def test_the_order_of_placing_does_not_matter(model, opened):
    elbow = joints.J24.index("left_elbow")
    marks = {
        "left_wrist": place_of(opened.record, WRIST, (30, 0)),
        "left_elbow": place_of(opened.record, elbow, (9, 9)),
    }
    found = []
    for names in (list(marks), list(marks)[::-1]):
        its = session.Session(opened, model)
        for name in names:
            its.place(name, marks[name])
        found.append(its.prediction.record)
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_undo_gives_back_what_was_there_at_the_n_of_now(model, opened):
    its = session.Session(opened, model)
    its.place("left_wrist", place_of(opened.record, WRIST, (40, 0)))
    one = its.prediction
    its.place("left_elbow", (150.0, 200.0))
    its.set_n(3)
    assert its.steps_back == 2
    its.undo()
    assert its.n == 3 and its.placed == ("left_wrist",)
    np.testing.assert_array_equal(its.prediction.record["all_rotmats"], one.record["all_rotmats"])
    its.set_n(2)
    its.undo()
    for name, value in opened.record.items():
        np.testing.assert_array_equal(its.prediction.record[name], value)
    with pytest.raises(session.SessionError, match="nothing to undo"):
        its.undo()


def test_another_n_is_that_of_the_prediction(opened):
    its = session.Session(opened, None)
    its.set_n(4)
    np.testing.assert_array_equal(its.prediction.record["index"], opened.requantize(4).record["index"])
    assert its.steps_back == 0
    with pytest.raises(ValueError, match="choose 1 to 6"):
        its.set_n(7)
    assert its.n == 4


def test_the_evidence_is_kept_in_the_file(model, opened, tmp_path):
    its = session.Session(opened, model)
    its.place("right_ankle", (210.0, 400.0))
    its.save(tmp_path / "one.npz")
    assert prediction_file.load(tmp_path / "one.npz")["annotation"] == "7"
    again = prediction.load(tmp_path / "one.npz")
    ankle = joints.J24.index("right_ankle")
    assert np.flatnonzero(again.record["placed"]).tolist() == [ankle]
    np.testing.assert_allclose(again.keypoints[ankle], [210, 400, 1])
    np.testing.assert_array_equal(again.joints, its.prediction.joints)
    more = session.Session(again, model)
    assert more.placed == ("right_ankle",)
    more.place("left_wrist", place_of(again.record, WRIST, (10, 0)))
    assert more.placed == ("right_ankle", "left_wrist")


def test_files_without_the_mark_have_no_placed_joints_and_a_damaged_mark_is_refused(opened, tmp_path):
    older = {name: value for name, value in opened.record.items() if name != "placed"}
    prediction_file.save(tmp_path / "older.npz", older)
    np.testing.assert_array_equal(prediction_file.load(tmp_path / "older.npz")["placed"], np.zeros(24))
    for wrong in (np.zeros(23), np.full(24, np.nan), np.array(["yes"] * 24)):
        prediction_file.save(tmp_path / "wrong.npz", older | {"placed": wrong})
        with pytest.raises(prediction_file.PredictionError, match="placed"):
            prediction_file.load(tmp_path / "wrong.npz")


def test_the_photographs_camera_says_which_pixel_a_dragged_point_is(opened):
    its = session.Session(opened, None)
    made = scene.build([opened.record], opened.body.smpl)
    center = opened.record["principal_point"]
    np.testing.assert_allclose(its.pixel_of((0.0, 0.0, 3.0)), center)
    np.testing.assert_allclose(
        its.pixel_of((0.3, -0.6, 3.0)), center + made.focal_px * np.array([0.1, -0.2]), rtol=1e-5
    )
    for point in ((0.0, 0.0, 0.0), (0.0, 0.0, -1.0), (np.nan, 0.0, 1.0)):
        with pytest.raises(session.SessionError, match="not in front of the camera"):
            its.pixel_of(point)


@pytest.mark.parametrize(
    ("joint", "pixel", "message"),
    [
        ("tail", (1.0, 2.0), "no joint 'tail'; the joints are right_ankle"),
        ("nose", (np.nan, 2.0), "expected x and y in pixels of the photograph, which has 400 x 480"),
        ("nose", (801.0, 2.0), "next to it by its own size"),
        ("nose", (1.0, -481.0), "next to it by its own size"),
    ],
)
def test_what_cannot_be_placed_is_said_and_changes_nothing(joint, pixel, message, model, opened):
    its = session.Session(opened, model)
    with pytest.raises(session.SessionError, match=message):
        its.place(joint, pixel)
    assert its.prediction is opened and its.steps_back == 0


def test_without_a_model_of_the_same_body_nothing_is_placed(model, opened):
    with pytest.raises(session.SessionError, match=r"cannot be placed without a model\. No weights\."):
        session.Session(opened, None, "No weights.").place("nose", (1.0, 2.0))
    record = made_predictions.record()
    other = dataclasses.replace(opened, record=record, body=dataclasses.replace(opened.body, fingerprint="1" * 64))
    with pytest.raises(session.SessionError, match="Give the model's folder with --workdir=DIR"):
        session.Session(other, model).place("nose", (1.0, 2.0))


def test_a_prediction_of_another_model_is_noticed_by_its_scores(model, opened):
    record = opened.record | {"all_log_prior": opened.record["all_log_prior"] + np.float32(2)}
    its = session.Session(dataclasses.replace(opened, record=record), model)
    assert "Another model made this prediction" in its.note and "2.0 nats" in its.note and not its.blocked


def test_preparing_changes_nothing(model, opened):
    its = session.Session(opened, model)
    its.prepare((1, 2, 99))
    assert its.prediction is opened and jax.tree.all(
        jax.tree.map(lambda mark: mark == 0, opened.record["placed"].tolist())
    )
