"""Rendered people: annotations that fit the picture, cameras, clothes, backgrounds, determinism."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import body_files, smpl
from multibodies_jax.embedded.mannequin import skeleton
from multibodies_jax.embedded.synthetic import appearance, backgrounds, bodies, families, poses, scene
from multibodies_jax.geometry import boxes, joints, rotations, rotations_np
from multibodies_jax.vis import render

NUM_SCENES = 26


@pytest.fixture(scope="module")
def files():
    return body_files.load()


@pytest.fixture(scope="module")
def body(files):
    return bodies.from_files(files)


@pytest.fixture(scope="module")
def people():
    """Two of every family, with their shapes."""
    got, family = poses.sample_poses(600, np.random.default_rng([0, 0]))
    first = np.concatenate([np.flatnonzero(family == k)[:2] for k in range(len(families.NAMES))])
    assert len(first) == NUM_SCENES
    return got[first], poses.sample_betas(NUM_SCENES, np.random.default_rng(0))


@pytest.fixture(scope="module")
def scenes(body, people):
    return [
        scene.render_person(body, pose, betas, np.random.default_rng([1, i]), image_size=64)
        for i, (pose, betas) in enumerate(zip(*people, strict=True))
    ]


@pytest.fixture(scope="module")
def reference_mesh(files):
    """The JAX model: all poses and shapes at once, compiled once."""
    compiled = jax.jit(lambda pose, betas: smpl.mesh(files.smpl, rotations.axis_angle_to_matrix(pose), betas))
    return lambda pose, betas: np.asarray(compiled(jnp.asarray(pose), jnp.asarray(betas)), np.float64)


# Bodies


@pytest.mark.slow
def test_posed_bodies_equal_the_jax_model(reference_mesh, body, people):
    pose, betas = people
    expected = reference_mesh(pose, betas)
    for i in range(NUM_SCENES):
        np.testing.assert_allclose(bodies.pose_body(body, pose[i], betas[i]), expected[i], atol=2e-6)


def test_fewer_betas_are_zero_betas(body, people):
    pose, betas = people[0][0], people[1][0].copy()
    betas[4:] = 0
    np.testing.assert_allclose(bodies.pose_body(body, pose, betas[:4]), bodies.pose_body(body, pose, betas), atol=1e-6)


def test_the_clothes_frame_has_the_mannequins_height(files, body):
    template = body.template
    shift = body.clothes_frame - template
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=2e-3)  # It is the mannequin.
    np.testing.assert_allclose((body.joint_regressor @ body.clothes_frame)[0], skeleton.rest_joints()[0], atol=1e-3)
    assert abs(body.clothes_frame[:, 1].min()) < 0.01 and body.clothes_frame[:, 1].max() == pytest.approx(1.7, abs=0.01)
    other = np.asarray(template) * (1.1, 1.25, 1.0) + (0, 0.3, -0.1)
    m = files.smpl
    tall = bodies.from_arrays(
        other, m.shapedirs, m.posedirs, m.weights, m.J_regressor, files.j24_regressor, m.faces
    ).clothes_frame
    np.testing.assert_allclose(tall[:, 1:], body.clothes_frame[:, 1:], atol=2e-3)


# Scenes


@pytest.mark.slow
def test_keypoints_are_the_projected_joints_of_the_annotated_body(files, reference_mesh, scenes):
    """From pose, betas, translation and intrinsics alone, by the reference model and the pinhole formula."""
    meshes = reference_mesh(np.stack([s.pose for s in scenes]), np.stack([s.betas for s in scenes]))
    for s, mesh in zip(scenes, meshes, strict=True):
        joints24 = np.asarray(files.j24_regressor, np.float64) @ (mesh + s.translation)
        np.testing.assert_allclose(s.joints24_cam, joints24, atol=2e-5)
        for kp, (x, y, z) in zip(s.kp2d, joints24, strict=True):
            f = s.intrinsics[0, 0]
            np.testing.assert_allclose(kp, [f * x / z + 32, f * y / z + 32], atol=0.01)


def test_all_of_the_person_is_in_the_image_and_fills_it(scenes):
    middles = []
    for s in scenes:
        xy = render.project(s.verts_cam, s.intrinsics)
        assert xy.min() > 0.5 and xy.max() < 63.5 and s.verts_cam[:, 2].min() > 0.5
        assert 0.735 < max(np.ptp(xy, axis=0)) / 64 < 0.825
        middles.append((xy.min(0) + xy.max(0)) / 2)
    assert np.std(middles, axis=0).min() > 1  # Not all in the middle.


@pytest.mark.parametrize("root_deg", [0, 80, -80])
def test_placing_has_converged(body, people, root_deg):
    """Also for people who lie along the line of sight, for whom each step corrects least."""
    intrinsics = np.array([[160, 0, 32], [0, 160, 32], [0, 0, 1]], np.float32)
    for pose, betas in zip(people[0][::2], people[1][::2], strict=True):
        turned = pose.copy()
        turned[0] = np.radians([root_deg, 0, 0])
        verts = bodies.pose_body(body, turned, betas)
        xy = render.project(verts + scene.place(verts, intrinsics, 64, np.random.default_rng(0)), intrinsics)
        wanted_side = np.random.default_rng(0).uniform(*scene.FILL) * 64
        assert max(np.ptp(xy, axis=0)) == pytest.approx(wanted_side, abs=0.02)


def test_the_largest_people_at_the_edge_are_inside(body, people):
    class Extreme(np.random.Generator):
        def uniform(self, low, high, size=None):
            return high if size is None else np.full(size, high)

    intrinsics = np.array([[160, 0, 32], [0, 160, 32], [0, 0, 1]], np.float32)
    for pose, betas in zip(*people, strict=True):
        verts = bodies.pose_body(body, pose, betas)
        xy = render.project(verts + scene.place(verts, intrinsics, 64, Extreme(np.random.PCG64(0))), intrinsics)
        assert xy.min() > 0.93 and xy.max() < 63.07


def test_the_box_is_that_of_all_keypoints(scenes):
    for s in scenes:
        center, scale = boxes.visible_box(s.kp2d, np.ones(24, np.float32))
        np.testing.assert_array_equal(s.box_center, center)
        assert s.box_scale == scale


def test_cameras_look_from_all_sides_at_upright_people(people, scenes):
    standing = [k for k in range(NUM_SCENES) if k // 2 < 4]
    for k in standing:
        kp = scenes[k].kp2d
        assert kp[joints.J24.index("head_top"), 1] < kp[joints.J24.index("left_ankle"), 1] - 20
    sides = []
    for pose, s in zip(people[0], scenes, strict=True):
        np.testing.assert_array_equal(s.pose[1:], pose[1:])
        # What turns the given root into the one in the camera's frame is the camera: its own axes in the upright world.
        T = rotations_np.axis_angle_to_matrix(s.pose[0]) @ rotations_np.axis_angle_to_matrix(pose[0]).T
        forward, down = T[2], T[1]
        assert -0.75 < forward[1] < 0.6 and down[1] < -0.6
        sides.append(np.degrees(np.arctan2(forward[0], forward[2])))
    assert np.histogram(sides, 4, (-180, 180))[0].min() >= 2


def test_zero_angles_of_the_camera_show_a_person_from_the_front():
    class Zero(np.random.Generator):
        def uniform(self, *_):
            return 0.0

        def normal(self, *_):
            return 0.0

    rotation = scene.camera_rotation(Zero(np.random.PCG64(0)))
    np.testing.assert_allclose(rotation, render.UPRIGHT_TO_CAMERA, atol=1e-12)


def test_a_positive_pitch_looks_down():
    class Down(np.random.Generator):
        def uniform(self, *_):
            return 0.0

        def normal(self, mean, _):
            return 30.0 if mean == 5 else 0.0

    up_in_camera = scene.camera_rotation(Down(np.random.PCG64(0))) @ [0, 1, 0]
    assert up_in_camera[2] == pytest.approx(-0.5)  # The head is nearer than the feet.


@pytest.mark.slow
def test_scenes_depend_on_their_arguments_only(body, people, scenes):
    backgrounds.bank.cache_clear()  # As in another process.
    for i in (5, 2):
        again = scene.render_person(body, people[0][i], people[1][i], np.random.default_rng([1, i]), image_size=64)
        for field in dataclasses.fields(scene.Scene):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(scenes[i], field.name))
    other = scene.render_person(body, people[0][5], people[1][5], np.random.default_rng([1, 6]), image_size=64)
    assert (other.image != scenes[5].image).mean() > 0.5


def test_the_picture_shows_the_person_where_the_mesh_is(body, people):
    """The same generator with and without the person: the pictures differ on the mesh, and only by noise elsewhere."""
    nobody = dataclasses.replace(body, faces=body.faces[:1])
    for i in range(4):
        with_person, without = (
            scene.render_person(b, people[0][i], people[1][i], np.random.default_rng([3, i])) for b in (body, nobody)
        )
        xy = render.project(with_person.verts_cam, with_person.intrinsics)
        on_mesh = render.rasterize(xy, with_person.verts_cam[:, 2], body.faces, 128, 128)[0] >= 0
        differs = np.abs(with_person.image.astype(int) - without.image).max(-1) > 8
        assert differs[on_mesh].mean() > 0.75
        near = np.zeros_like(on_mesh)
        ys, xs = np.nonzero(on_mesh)
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                near[np.clip(ys + dy, 0, 127), np.clip(xs + dx, 0, 127)] = True
        assert not differs[~near].any()


def test_pictures_are_neither_flat_nor_burnt_out(scenes):
    for s in scenes:
        assert s.image.shape == (64, 64, 3) and s.image.dtype == np.uint8
        assert s.image.std() > 8 and (s.image < 255).mean() > 0.5


# Clothes and light


def outfit(**changes):
    fixed = dict(bald=False, barefoot=False, gloves=False, sleeve_end=0.3, hem=0.95, leg_end=0.3, neck_radius=0.08,
                 neck_depth=0.0, hairline=0.0, nape=0.0)  # fmt: skip
    drawn = appearance.Outfit.draw(np.random.default_rng(0))
    plain = {
        name: dataclasses.replace(
            getattr(drawn, name), pattern="plain", first=np.array(color, np.float32), second=np.zeros(3, np.float32)
        )
        for name, color in {"top": (0.8, 0.1, 0.1), "bottom": (0.1, 0.1, 0.8)}.items()
    }
    colors = {
        k: np.array(v, np.float32)
        for k, v in {"skin": (0.8, 0.6, 0.5), "hair": (0.1, 0.05, 0.0), "shoes": (0.0, 0.3, 0.0)}.items()
    }
    return dataclasses.replace(drawn, **plain, **colors, **(fixed | changes))


PLACES = {
    "chest": (0, 1.25, 0.1), "upper_arm": (0.27, 1.39, 0.0), "forearm": (0.6, 1.39, 0.0), "thigh": (0.1, 0.7, 0.05),
    "shin": (0.1, 0.2, 0.03), "instep": (0.12, 0.06, 0.05), "sole": (0.12, 0.01, 0.05), "throat": (0, 1.44, 0.03),
    "cheek": (0.04, 1.55, 0.07), "crown": (0, 1.69, 0.0), "nape": (0, 1.57, -0.09), "lips": (0, 1.525, 0.1),
    "fringe": (0, 1.665, 0.10),
    "pupil": (0.031, 1.579, 0.09), "hand": (-0.75, 1.39, 0.0),
}  # fmt: skip


@pytest.mark.parametrize(
    "changes, place, expected",
    [
        ({}, "chest", "top"), ({}, "upper_arm", "top"), ({}, "forearm", "skin"), ({}, "thigh", "bottom"),
        ({}, "shin", "skin"), ({}, "instep", "shoes"), ({}, "throat", "skin"), ({}, "cheek", "skin"),
        ({}, "crown", "hair"), ({}, "nape", "hair"), ({}, "fringe", "hair"), ({}, "hand", "skin"),
        ({"bald": True}, "crown", "skin"), ({"barefoot": True}, "instep", "skin"), ({"gloves": True}, "hand", "shoes"),
        ({"sleeve_end": 0.65}, "forearm", "top"), ({"leg_end": 0.09}, "shin", "bottom"),
    ],
)  # fmt: skip
def test_clothes_are_where_they_belong(changes, place, expected):
    wears = outfit(**changes)
    value = {"top": wears.top.first, "bottom": wears.bottom.first}.get(expected)
    value = getattr(wears, expected) if value is None else value
    got = appearance.colors(np.array([PLACES[place]], np.float32), wears)[0]
    np.testing.assert_allclose(got, value, atol=0.06)


def test_faces_have_lips_and_pupils():
    lips, pupil = appearance.colors(np.array([PLACES["lips"], PLACES["pupil"]], np.float32), outfit())
    assert lips[1] < 0.45 and (pupil < 0.2).all()


@pytest.mark.parametrize("pattern", appearance.PATTERNS)
def test_patterns_mix_the_two_colors(pattern):
    rng = np.random.default_rng(0)
    cloth = dataclasses.replace(appearance.Cloth.draw(rng), pattern=pattern)
    points = (rng.random((4000, 3)) * (0.4, 0.6, 0.2) + (-0.2, 0.9, -0.1)).astype(np.float32)
    share = (cloth(points, 1.45 - points[:, 1]) - cloth.first) / (cloth.second - cloth.first)
    np.testing.assert_allclose(share[:, 0], share[:, 1], atol=1e-3)
    assert -1e-5 <= share.min() < 0.1 and share.max() <= 1 + 1e-5
    assert (share.max() > 0.9) == (pattern != "plain")


def test_light_falls_from_the_lamp():
    light = dataclasses.replace(
        appearance.Light.draw(np.random.default_rng(0)), direction=np.array([1, 0, 0], np.float32), shine=0.0
    )
    normals = np.array([[1, 0, 0], [-1, 0, 0], [0, -1, 0], [0, 1, 0]], np.float32)
    view = np.tile(np.array([0, 0, -1], np.float32), (4, 1))
    towards, away, up, down = appearance.shade(np.ones((4, 3), np.float32), normals, view, light).mean(1)
    assert towards == pytest.approx(away + light.power, rel=0.01)
    assert up == pytest.approx(light.sky, rel=0.01) and down == pytest.approx(light.ground, rel=0.01)


# Backgrounds


def test_backgrounds_are_pictures_and_differ():
    drawn = [backgrounds.draw(np.random.default_rng(i), 32) for i in range(12)]
    for picture in drawn:
        assert picture.shape == (32, 32, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.005
    assert np.std([picture.mean() for picture in drawn]) > 0.05
    np.testing.assert_array_equal(drawn[3], backgrounds.draw(np.random.default_rng(3), 32))


def test_all_of_the_bank_is_drawn_from(monkeypatch):
    asked = []

    class Bank:
        def __getitem__(self, i):
            asked.append(int(i))
            return np.zeros((256, 256, 3), np.float32)

    monkeypatch.setattr(backgrounds, "bank", Bank)
    rng = np.random.default_rng(0)
    for _ in range(1000):
        backgrounds.draw(rng, 4)
    assert set(asked) == set(range(backgrounds.BANK_SIZE))
    pictures = backgrounds.compose(np.random.default_rng(0)), backgrounds.compose(np.random.default_rng(1))
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.02
