"""The scene: bodies before the photograph's camera, their sets, and how far the hypotheses spread."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import smpl
from multibodies_jax.export import scene
from tests.helpers import made_predictions


def test_bodies_stand_where_the_prediction_says():
    record = made_predictions.record()
    made = made_predictions.made([record])
    mesh = np.asarray(
        smpl.mesh(made_predictions.body()[0], jnp.asarray(record["rotmats"]), jnp.asarray(record["betas"]))
    )
    expected = mesh @ record["photo_rotation"].T + record["photo_translation"][:, None]
    joints24 = (record["joints24"] + record["midhip"][:, None]) @ record["photo_rotation"].T
    for k, (name, body, probability) in enumerate(made.people[0].weighted()):
        assert name == f"person_0_body_{k}" and body.index == record["index"][k]
        assert probability == pytest.approx(record["probabilities"][k])
        np.testing.assert_allclose(made.vertices(body), expected[k], atol=2e-5)
        np.testing.assert_allclose(body.joints24, joints24[k] + record["photo_translation"][k], atol=2e-5)


def test_skinning_equals_a_loop_over_vertices_and_bones():
    made = made_predictions.made()
    body = made.people[0].bodies[1]
    R, p = np.zeros((24, 3, 3)), np.zeros((24, 3))
    for k, parent in enumerate(scene.PARENTS):
        local = body.rotations[k]
        R[k] = local if parent < 0 else R[parent] @ local
        bone = body.rest_joints[k] - body.rest_joints[parent]
        p[k] = body.rest_joints[0] if parent < 0 else p[parent] + R[parent] @ bone
    for correctives in (True, False):
        found = made.vertices(body, correctives)
        for v in range(0, 60, 7):
            rest = body.rest_vertices[v] + correctives * body.correctives[v]
            moved = sum(made.skinning[v, k] * (R[k] @ (rest - body.rest_joints[k]) + p[k]) for k in range(24))
            np.testing.assert_allclose(found[v], moved + body.translation, atol=1e-9)
    assert np.abs(body.correctives).max() > 1e-3


def test_the_crops_camera_shows_the_joints_where_the_model_saw_them():
    record = made_predictions.record()
    seen = record["joints24_camera"].astype(np.float64) @ record["intrinsics"].T
    person = made_predictions.made([record]).people[0]
    for k, (_, body, _) in enumerate(person.weighted()):
        pixels = np.column_stack([body.joints24, np.ones(24)]) @ (person.crop_intrinsics @ body.crop_view).T
        np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], seen[k, :, :2] / seen[k, :, 2:], atol=5e-3)


def test_every_set_of_a_person_refers_to_its_bodies():
    record = made_predictions.record(n=3)
    choices = {n: made_predictions.choice(record, n) for n in (1, 2, 5)}
    person = made_predictions.made([record], choices=[choices]).people[0]
    assert list(person.choices) == [1, 2, 3, 5] and person.chosen == 3
    for n, choice in choices.items():
        assert [person.bodies[k].index for k in person.choices[n].bodies] == list(choice.bodies)
        assert person.choices[n].probabilities == choice.probabilities
    needed = {k for choice in choices.values() for k in choice.bodies} | set(record["index"].tolist())
    assert [body.index for body in person.bodies] == sorted(needed)


def test_spread_equals_a_loop_over_hypotheses():
    record = made_predictions.record()
    model, settings = made_predictions.body()[0], {**made_predictions.SETTINGS, "temperature": 0.5}
    tempered = record | {"quantizer": np.array(json.dumps(settings))}
    person = made_predictions.made([tempered], vertex_spread=True).people[0]
    weight = np.exp(0.5 * record["all_log_prior"].astype(np.float64))
    weight /= weight.sum()
    rotmats, betas = jnp.asarray(record["all_rotmats"]), jnp.asarray(record["all_betas"])
    mesh = np.asarray(smpl.mesh(model, rotmats, betas)) - record["all_midhip"][:, None]
    for k in (0, 17):
        mean = sum(w * body[k] for w, body in zip(weight, mesh, strict=True))
        far = sum(w * np.linalg.norm(body[k] - mean) for w, body in zip(weight, mesh, strict=True))
        assert person.vertex_spread is not None and person.vertex_spread[k] == pytest.approx(far, rel=1e-4)
        points = record["all_joints24"][:, k].astype(np.float64)
        expected = weight @ np.linalg.norm(points - weight @ points, axis=1)
        assert person.joint_spread[k] == pytest.approx(expected, rel=1e-5)
    root = np.asarray(smpl.shape(model, betas)[1])[:, 0] - record["all_midhip"]
    assert person.bone_spread[0] == pytest.approx(weight @ np.linalg.norm(root - weight @ root, axis=1), rel=1e-4)
    uniform = {**settings, "weights": "uniform"}
    person = made_predictions.made([record | {"quantizer": np.array(json.dumps(uniform))}]).people[0]
    points = record["all_joints24"][:, 5].astype(np.float64)
    assert person.joint_spread[5] == pytest.approx(np.linalg.norm(points - points.mean(0), axis=1).mean(), rel=1e-5)
    assert person.vertex_spread is None


def test_colours_of_the_spread_go_from_pale_to_dark():
    person = made_predictions.made(vertex_spread=True).people[0]
    colors = scene.spread_colors(person)
    order = np.argsort(np.asarray(person.vertex_spread))
    assert (np.diff(colors[order].sum(1)) < 1e-9).all() and colors.min() >= 0 and colors.max() <= 1
    with pytest.raises(scene.SceneError, match="vertex_spread=True"):
        scene.spread_colors(made_predictions.made().people[0])


def test_people_of_one_photograph_make_one_scene_in_their_order():
    both = [made_predictions.record(seed=1, person=1, center=(420.0, 220.0)), made_predictions.record()]
    made = made_predictions.made(both)
    assert [person.number for person in made.people] == [0, 1]
    assert [name for name, *_ in made.weighted()][::3] == ["person_0_body_0", "person_1_body_0"]


def test_four_bones_of_a_vertex_are_all_of_them_and_of_more_the_strongest():
    made = made_predictions.made()
    bones, share = made.bone_influences()
    back = np.zeros_like(made.skinning)
    np.add.at(back, (np.arange(60)[:, None], bones), share)
    np.testing.assert_allclose(back, made.skinning, atol=1e-6)
    weights = np.zeros((1, 24))
    weights[0, [3, 5, 8, 13, 20]] = [0.1, 0.3, 0.2, 0.25, 0.15]
    bones, share = dataclasses.replace(made, skinning=weights).bone_influences()
    assert bones.tolist() == [[5, 13, 8, 20]]
    np.testing.assert_allclose(share[0], np.array([0.3, 0.25, 0.2, 0.15]) / 0.9, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.array("other.png"), "person": np.array(1)}, r"differ in image .*other\.png"),
        ({"focal_px": np.array(99.0), "person": np.array(1)}, "differ in focal_px"),
        ({}, r"people \[0, 0\] of photo\.png: one is there twice"),
    ],
)
def test_predictions_that_do_not_belong_together_are_refused(changes, message):
    record = made_predictions.record()
    with pytest.raises(scene.SceneError, match=message):
        made_predictions.made([record, record | changes])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": np.array([0, 99, 1])}, "Hypothesis 99 of person 0 was chosen; there are 12"),
        ({"index": np.array([0.0, 1.0, 2.0])}, "are damaged"),
        ({"probabilities": np.array([0.5, np.nan, 0.5])}, "are damaged"),
        ({"probabilities": np.zeros(2)}, "has no representatives"),
        ({"quantizer": np.array("{")}, "quantizer settings of person 0 are damaged"),
        ({"all_betas": np.zeros((12, 4), np.float32)}, "has 4 shape coefficients, the body 10"),
    ],
)
def test_damaged_predictions_are_refused(changes, message):
    with pytest.raises(scene.SceneError, match=message):
        made_predictions.made([made_predictions.record() | changes])
    with pytest.raises(scene.SceneError, match="no predictions"):
        made_predictions.made([])
