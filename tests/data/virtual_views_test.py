"""Virtual views: a stick figure stands in for the body, NumPy in float64 for the camera."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.body import smpl
from multibodies_jax.data import augment, virtual_views
from multibodies_jax.geometry import boxes, joints

# Half of a T-pose, metres, y up, facing +z; the left is +x.
_REST = {
    "pelvis": (0, 0, 0), "hip": (0.07, -0.08, 0), "spine1": (0, 0.1, 0), "knee": (0.09, -0.47, 0),
    "spine2": (0, 0.24, 0), "ankle": (0.09, -0.87, -0.03), "spine3": (0, 0.3, 0), "foot": (0.1, -0.93, 0.12),
    "neck": (0, 0.5, 0), "collar": (0.08, 0.41, 0), "head": (0, 0.6, 0.05), "shoulder": (0.18, 0.44, 0),
    "elbow": (0.44, 0.43, 0), "wrist": (0.69, 0.44, 0), "hand": (0.78, 0.43, 0),
}  # fmt: skip
_NEAREST = {"head_top": "head", "thorax": "spine3", "spine": "spine2", "jaw": "head", "nose": "head"} | {
    f"{side}_{part}": "head" for side in ("left", "right") for part in ("eye", "ear")
}


def _place(name):
    side, _, part = name.partition("_")
    x, y, z = _REST[part if side in ("left", "right") else name]
    return (-x if side == "right" else x, y, z)


@pytest.fixture(scope="module")
def joint_model():
    """A body of 24 vertices, one on each joint; the first shape coefficient makes it taller."""
    rest = np.array([_place(name) for name in joints.SMPL24])
    shapedirs = np.zeros((24, 3, 10))
    shapedirs[:, 1, 0] = 0.05 * rest[:, 1]
    body = smpl.build(
        v_template=rest,
        shapedirs=shapedirs,
        posedirs=np.zeros((24, 3, 207)),
        weights=np.eye(24),
        J_regressor=np.eye(24),
        faces=np.zeros((1, 3), int),
        parents=joints.SMPL_PARENTS,
    )
    regressor = np.zeros((24, 24))
    for row, name in enumerate(joints.J24):
        regressor[row, joints.SMPL24.index(_NEAREST.get(name, name))] = 1
    return smpl.contract(body, regressor)


_COUNT = 500  # Everywhere, so that few programs are compiled.


def _people(seed=0):
    rng = np.random.default_rng(seed)
    pose = 0.3 * rng.normal(size=(_COUNT, 24, 3))
    pose[:, 0] = 0
    return pose, rng.normal(size=(_COUNT, 10))


def _synthesize(pose, betas, joint_model, keys=None, **options):
    keys = jax.random.split(jax.random.key(0), _COUNT) if keys is None else keys
    pose, betas = jnp.asarray(pose, jnp.float32), jnp.asarray(betas, jnp.float32)
    found = virtual_views.synthesize(pose, betas, keys, joint_model, **options)
    every = vars(found.inputs) | vars(found.target) | {"valid": found.valid}
    return {name: np.asarray(values) for name, values in every.items() if values is not None}


@pytest.fixture(scope="module")
def views(joint_model):
    return _synthesize(*_people(), joint_model)


@pytest.mark.slow
def test_a_batch_has_the_keys_and_shapes_of_the_interface(views):
    shapes = {key: value.shape[1:] for key, value in views.items()}
    assert shapes == {
        "kp2d": (24, 2), "kp2d_valid": (24,), "kp2d_input": (24,), "evidence": (24, 2), "joints3d": (24, 3),
        "joints3d_valid": (24,), "rotmats": (24, 3, 3), "betas": (10,), "smpl_valid": (), "example_hash": (),
        "valid": (),
    }  # fmt: skip
    assert views["example_hash"].dtype == np.uint32 and len(np.unique(views["example_hash"])) == _COUNT
    assert all(np.isfinite(value).all() for value in views.values())
    assert all(value.dtype == np.float32 for key, value in views.items() if key != "example_hash")


@pytest.mark.slow
def test_the_joints_are_those_of_the_rotations_and_shape(joint_model, views):
    expected = smpl.joints(joint_model, jnp.asarray(views["rotmats"]), jnp.asarray(views["betas"]))
    expected = np.asarray(expected) - np.asarray(expected)[:, list(joints.MIDHIP_J24)].mean(1, keepdims=True)
    np.testing.assert_allclose(views["joints3d"], expected, atol=1e-6)


def _camera(joints3d, kp2d):
    """The camera that maps joints to keypoints: (a_u, a_v, b, e_u, e_v, d), its greatest error; by least squares.

    u = a_u + b (X + t_u) / (Z + d), v alike, is linear in these with e = b t + a d. Float64.
    """
    (X, Y, Z), (u, v) = joints3d.T.astype(np.float64), kp2d.T.astype(np.float64)
    one, zero = np.ones(24), np.zeros(24)
    rows_u = np.stack([Z, zero, X, one, zero, -u], axis=1)
    rows_v = np.stack([zero, Z, Y, zero, one, -v], axis=1)
    A, target = np.concatenate([rows_u, rows_v]), np.concatenate([u * Z, v * Z])
    solution, *_ = np.linalg.lstsq(A, target, rcond=None)
    error = (A @ solution - target) / (np.concatenate([Z, Z]) + solution[5])
    return solution, np.abs(error).max()


def test_one_perspective_camera_explains_the_keypoints(views):
    for i in range(50):
        solution, error = _camera(views["joints3d"][i], views["kp2d"][i])
        assert solution[2] > 0 and error < 1e-3  # Not mirrored.
        assert solution[5] > 2  # Metres, to a body of 1.5 m or more through a lens of 2.5 image widths or more.


@pytest.mark.slow
def test_an_upright_body_is_upright_faces_the_camera_at_yaw_zero_and_is_seen_from_all_sides():
    draws = np.asarray(jax.vmap(virtual_views.camera_rotation)(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(draws @ draws.transpose(0, 2, 1), np.tile(np.eye(3), (4000, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(draws), 1, atol=1e-5)
    up, front, left = draws[:, :, 1], draws[:, :, 2], draws[:, :, 0]
    assert np.quantile(up[:, 1], 0.9) < -0.85  # y points down in a camera.
    yaw = np.arctan2(left[:, 2], left[:, 0])
    assert np.allclose(np.histogram(yaw, bins=8, range=(-np.pi, np.pi))[0] / 4000, 1 / 8, atol=0.03)
    facing = front[:, 2] < -0.9
    assert np.all(left[facing, 0] > 0)  # The left of somebody facing us is on our right.
    # Pitch: looking down brings the head nearer.
    pitch = np.rad2deg(np.arcsin(-up[:, 2]))
    assert 4 < np.median(pitch) < 6 and 8 < np.quantile(pitch, 0.84) - np.median(pitch) < 14
    roll = np.rad2deg(np.arctan2(up[:, 0], -up[:, 1]))
    assert 2 < np.quantile(roll, 0.84) < 4 and abs(np.median(roll)) < 0.3


@pytest.mark.slow
def test_visible_joints_fill_the_box_up_to_its_jitter(joint_model):
    extent = np.abs(_synthesize(*_people(), joint_model, hide="none", redraw_betas=False)["kp2d"]).max(axis=(1, 2))
    bound = (1 / boxes.PADDING + 2 * virtual_views.STANDARD.box_shift) / (1 - 2 * virtual_views.STANDARD.box_scale)
    assert extent.max() <= bound + 1e-5
    assert 0.85 < np.median(extent) < 1.0
    assert extent.std() > 0.02


def test_strategies_hide_with_the_papers_probabilities_and_the_crop_follows(joint_model, views):
    legs, head, wrists = views["kp2d_input"][:, :6], views["kp2d_input"][:, 12:14], views["kp2d_input"][:, 6:12]
    no_legs, no_head = legs.max(1) == 0, (head.max(1) == 0) & (views["kp2d_input"][:, 19:].max(1) == 0)
    no_arms = wrists.max(1) == 0
    assert 0.22 < no_legs.mean() < 0.38 and 0.5 < no_head.mean() < 0.72 and 0.22 < no_arms.mean() < 0.38
    assert views["kp2d_input"].max(axis=1).min() == 1 and np.all(views["kp2d_valid"] == 1)
    feet = np.abs(views["kp2d"][:, [0, 5]]).max(axis=(1, 2))
    assert np.median(feet[no_legs]) > 1.3 > np.median(feet[~no_legs])


def test_evidence_is_noisy_by_one_percent_of_the_crop_and_sometimes_lacks_what_detectors_lack(views):
    noise = views["evidence"] - views["kp2d"]
    assert abs(noise.std() / augment.EVIDENCE_NOISE - 1) < 0.03 and abs(noise.mean()) < 1e-3
    pelvis, spine = views["kp2d_input"][:, 14], views["kp2d_input"][:, 16]  # Never hidden by a strategy.
    assert 0.4 < spine.mean() < 0.6  # J24 only.
    assert 0.6 < pelvis.mean() < 0.85  # OpenPose has it too.


def test_an_example_depends_on_its_own_key_and_person_only(joint_model, views):
    (pose, betas), (other_pose, other_betas) = _people(), _people(1)
    keys = jax.random.split(jax.random.key(0), _COUNT)
    other_keys = jax.random.split(jax.random.key(1), _COUNT)
    moved = _synthesize(
        np.concatenate([other_pose[:7], pose[:-7]]),
        np.concatenate([other_betas[:7], betas[:-7]]),
        joint_model,
        jnp.concatenate([other_keys[:7], keys[:-7]]),
    )
    for key, value in moved.items():
        np.testing.assert_allclose(value[7:], views[key][:-7], atol=1e-5)
    assert not np.allclose(moved["evidence"][0], views["evidence"][0], atol=0.1)


def test_half_of_the_bodies_are_mirrored(joint_model):
    turn = np.array([0.2, 1.0, 0.5])
    pose = np.zeros((_COUNT, 24, 3))
    pose[:, joints.SMPL24.index("left_elbow")] = turn
    rotmats = _synthesize(pose, np.zeros((_COUNT, 10)), joint_model)["rotmats"]
    body = Rotation.from_matrix(rotmats.reshape(-1, 3, 3)).as_rotvec().reshape(_COUNT, 24, 3)
    left, right = (body[:, joints.SMPL24.index(f"{side}_elbow")] for side in ("left", "right"))
    mirrored = np.abs(right).max(1) > 0.1
    assert 0.42 < mirrored.mean() < 0.58
    np.testing.assert_allclose(right[mirrored], np.tile(turn * [1, -1, -1], (mirrored.sum(), 1)), atol=1e-5)
    np.testing.assert_allclose(left[~mirrored], np.tile(turn, (np.sum(~mirrored), 1)), atol=1e-5)
    np.testing.assert_allclose(left[mirrored], 0, atol=1e-5)


def test_shapes_are_drawn_or_kept(joint_model, views):
    pose, betas = _people()
    kept = _synthesize(pose, betas, joint_model, hide="none", redraw_betas=False)["betas"]
    np.testing.assert_array_equal(kept, betas.astype(np.float32))
    drawn = views["betas"]
    assert np.abs(drawn).max() == virtual_views.MAX_BETA and 0.85 < drawn.std() < 1 and abs(drawn.mean()) < 0.05


def test_a_lying_body_lies_and_is_never_nearer_than_the_least_depth(joint_model):
    pose = np.zeros((_COUNT, 24, 3))
    pose[:, 0, 0] = np.pi / 2
    for side, angle in (("left", 1.5), ("right", -1.5)):  # Arms along the head: long and thin, seen end on.
        pose[:, joints.SMPL24.index(f"{side}_shoulder"), 2] = angle
    batch = _synthesize(pose, np.zeros((_COUNT, 10)), joint_model, hide="none", redraw_betas=False)
    head = batch["rotmats"][:, 0, :, 1]
    assert np.median(np.abs(head[:, 1])) < 0.3 and np.abs(head[:, 0]).max() > 0.95 and np.abs(head[:, 2]).max() > 0.95
    nearest = [
        _camera(points, kp2d)[0][5] + points[:, 2].min()
        for points, kp2d in zip(batch["joints3d"], batch["kp2d"], strict=True)
    ]
    assert virtual_views.MIN_DEPTH - 0.02 < min(nearest) < virtual_views.MIN_DEPTH + 0.2


def test_an_unknown_occlusion_is_refused(joint_model):
    with pytest.raises(ValueError, match="'paper' or 'none', got 'legs'"):
        _synthesize(*_people(), joint_model, hide="legs")


@pytest.fixture(scope="module")
def wide(joint_model):
    """Wide views of upright T-poses, whose other pose has bent elbows and knees."""
    pose, other = np.zeros((_COUNT, 24, 3)), np.zeros((_COUNT, 24, 3))
    for side in ("left", "right"):
        other[:, [joints.SMPL24.index(f"{side}_{part}") for part in ("elbow", "knee")], 0] = 1.0
    return _synthesize(
        pose, np.zeros((_COUNT, 10)), joint_model, variety=virtual_views.WIDE, other_pose=jnp.float32(other)
    )


@pytest.mark.slow
def test_wide_views_crop_around_what_the_detector_found(wide):
    found = np.where(wide["kp2d_input"][..., None] > 0, wide["kp2d"], 0)
    variety = virtual_views.WIDE
    bound = (1 / boxes.PADDING + 2 * variety.box_shift) / (1 - 2 * variety.box_scale)
    many = wide["kp2d_input"].sum(1) >= 4  # A box of fewer may have the least size.
    extent = np.abs(found[many]).max(axis=(1, 2))
    assert extent.max() <= bound + 1e-4
    assert extent.min() > (1 / boxes.PADDING - 2 * variety.box_shift) / (1 + 2 * variety.box_scale) - 1e-4
    assert wide["kp2d_input"].max(axis=1).min() == 1


@pytest.mark.slow
def test_wide_views_are_cut_by_the_edge_of_the_image(joint_model):
    pose, betas = _people()
    variety = virtual_views.Variety(truncated=1.0)
    cut = _synthesize(pose, betas, joint_model, variety=variety)
    feet = cut["kp2d_input"][:, [0, 5]].max(axis=1)
    assert 0.3 < np.mean(feet == 0) < 0.8  # The lower edge cuts most often, and may leave the lower one of the feet.
    for row in np.flatnonzero(feet == 0)[:20]:
        assert np.any(cut["kp2d_input"][row] > 0)


@pytest.mark.slow
def test_wide_views_exchange_and_bend_limbs(wide):
    turn = Rotation.from_matrix(wide["rotmats"].reshape(-1, 3, 3)).as_rotvec().reshape(_COUNT, 24, 3)
    angle = np.linalg.norm(turn, axis=-1)
    knees, elbows = (
        angle[:, [joints.SMPL24.index(f"{side}_{part}") for side in ("left", "right")]].min(axis=1) > 0.5
        for part in ("knee", "elbow")
    )
    assert not np.any(knees & elbows)  # The legs or the arms.
    assert 0.08 < knees.mean() < 0.18 and 0.08 < elbows.mean() < 0.18  # Half of a quarter each.
    spine = angle[:, joints.SMPL24.index("spine1")]
    assert 0.2 < np.mean(spine > 1e-3) < 0.4 and spine.max() < 0.12 * 5


@pytest.mark.slow
def test_wide_views_have_the_errors_of_detectors(wide):
    error = wide["evidence"] - wide["kp2d"]
    typical = np.median(np.linalg.norm(error, axis=-1), axis=1)
    assert np.quantile(typical, 0.1) < 0.015 and np.quantile(typical, 0.9) > 0.03  # Each example has its own noise.
    swapped = wide["evidence"] - wide["kp2d"][:, joints.J24_FLIP]
    elbows = [joints.J24.index("left_elbow"), joints.J24.index("right_elbow")]
    apart = np.linalg.norm(wide["kp2d"][:, elbows[0]] - wide["kp2d"][:, elbows[1]], axis=-1) > 0.5
    confused = np.linalg.norm(swapped[:, elbows], axis=-1).max(1) < np.linalg.norm(error[:, elbows], axis=-1).max(1)
    assert apart.sum() > 100 and 0.0 < np.mean(confused[apart]) < 0.06
    assert 0.005 < np.mean(np.linalg.norm(error, axis=-1) > 0.2) < 0.06  # Strays and confused sides.


def test_wide_views_have_near_lenses_and_rolled_cameras(wide):
    up = wide["rotmats"][:, 0, :, 1]
    roll = np.rad2deg(np.arctan2(up[:, 0], -up[:, 1]))
    assert 8 < np.quantile(roll, 0.84) - np.median(roll) < 17
    depths = [_camera(wide["joints3d"][i], wide["kp2d"][i])[0][5] for i in range(100)]
    assert min(depths) < 2.5 and max(depths) > 6.0  # Metres.


def test_limbs_are_exchanged_with_a_given_pose_only(joint_model):
    with pytest.raises(ValueError, match="give other_pose"):
        _synthesize(*_people(), joint_model, variety=virtual_views.WIDE)
