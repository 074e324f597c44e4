"""The parametric poses: rotations against a scalar reference, limits, mirror images, collisions, determinism."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import minimize

from multibodies_jax.embedded import clinical_angles
from multibodies_jax.embedded.mannequin import skeleton
from multibodies_jax.embedded.synthetic import arm_styles, collisions, families, poses
from multibodies_jax.geometry import joints, rotations_np

REST = skeleton.rest_joints()


@pytest.fixture(scope="module")
def drawn():
    return poses.sample_poses(1500, np.random.default_rng([3, 0]))


def posed_joints(pose):
    return rotations_np.forward_kinematics(
        rotations_np.axis_angle_to_matrix(pose), np.broadcast_to(REST, (*pose.shape[:-2], 24, 3))
    )[1]


# Clinical angles


@given(angle=st.floats(-1000, 1000), name=st.sampled_from(sorted(clinical_angles.LIMITS)))
def test_limits_hold_and_leave_the_middle_of_the_range_alone(angle, name):
    low, high = clinical_angles.LIMITS[name]
    got = clinical_angles.limit(name, np.array([angle, angle + 1.0]))
    assert (low - 1e-9 <= got).all() and (got <= high + 1e-9).all()
    assert got[1] >= got[0]
    margin = 0.121 * (high - low)
    if low + margin < angle < high - margin:
        assert got[0] == pytest.approx(angle)


def neutral(**changes):
    """Everything at 0 (arms hang), for one person."""
    angles = {name: np.zeros((1, 2)) for name in clinical_angles.LIMBS}
    angles |= {name: np.zeros(1) for name in (*clinical_angles.TRUNK, "root_pitch", "root_roll")}
    return angles | {name: np.asarray(value, float) for name, value in changes.items()}


def bone(angles, start, end):
    """The direction of a bone in the world."""
    rotmats = clinical_angles.to_rotations(angles)
    p = rotations_np.forward_kinematics(rotmats, REST[None])[1][0]
    d = p[joints.SMPL24.index(end)] - p[joints.SMPL24.index(start)]
    return d / np.linalg.norm(d)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    "changes, start, end, direction",
    [
        ({"hip_flexion": 80}, "hip", "knee", (0, -0.17, 0.98)),
        ({"hip_abduction": 40}, "hip", "knee", (0.64, -0.77, 0)),
        ({"hip_flexion": 90, "hip_abduction": 35}, "hip", "knee", (0.57, 0, 0.82)),
        ({"knee_flexion": 90}, "knee", "ankle", (0, 0, -1)),
        ({"knee_flexion": 90, "hip_rotation": 30}, "knee", "ankle", (-0.5, 0, -0.87)),
        ({"shoulder_elevation": 20, "shoulder_plane": 90}, "shoulder", "elbow", (0, -0.94, 0.34)),
        ({"shoulder_elevation": 90}, "shoulder", "elbow", (1, 0, 0)),
        ({"shoulder_elevation": 90, "shoulder_plane": 90}, "shoulder", "elbow", (0, 0, 1)),
        ({"shoulder_elevation": 90, "elbow_flexion": 90}, "elbow", "wrist", (0, 0, 1)),
        ({"shoulder_elevation": 90, "elbow_flexion": 90, "shoulder_rotation": 50}, "elbow", "wrist", (0, -0.77, 0.64)),
    ],
)
def test_limbs_point_where_the_angles_say(side, changes, start, end, direction):
    """Directions are those of the left side; the rest pose is straight to within a few degrees."""
    prefix = ("left_", "right_")[side]
    both = {name: np.where(np.arange(2) == side, value, 0.0)[None] for name, value in changes.items()}
    expected = np.array(direction) * (1 if side == 0 else -1, 1, 1)
    angle = np.degrees(np.arccos(np.clip(bone(neutral(**both), prefix + start, prefix + end) @ expected, -1, 1)))
    assert angle < 9


@pytest.mark.parametrize(
    "changes, direction",
    [
        ({"spine_flexion": [50]}, (0, 0, 1)),
        ({"neck_flexion": [30]}, (0, 0, 1)),
        ({"spine_bend": [25]}, (1, 0, 0)),
        ({"neck_bend": [25]}, (1, 0, 0)),
        ({"root_pitch": [60]}, (0, 0, 1)),
        ({"root_roll": [-30]}, (1, 0, 0)),
    ],
)
def test_the_trunk_leans_where_the_angles_say(changes, direction):
    lean = bone(neutral(**changes), "neck", "head") - bone(neutral(), "neck", "head")
    horizontal = lean * (1, 0, 1)
    assert horizontal @ np.array(direction) > 0.15
    np.testing.assert_allclose(np.cross(horizontal, direction), 0, atol=0.02)


def test_a_positive_twist_turns_to_the_left():
    for name in ("spine_twist", "neck_twist"):
        rotmats = clinical_angles.to_rotations(neutral(**{name: [40.0]}))
        facing = rotations_np.forward_kinematics(rotmats, REST[None])[0][0, joints.SMPL24.index("head")] @ [0, 0, 1]
        np.testing.assert_allclose(facing, [np.sin(np.radians(40)), 0, np.cos(np.radians(40))], atol=0.02)


@pytest.mark.parametrize("name", families.NAMES)
def test_equal_sides_give_a_symmetric_body(name):
    rng = np.random.default_rng(0)
    angles = families.draw(rng, np.full(20, families.NAMES.index(name)))
    angles = {k: np.repeat(v[:, :1], 2, 1) if v.ndim == 2 else np.zeros(20) for k, v in angles.items()}
    R, p = rotations_np.forward_kinematics(clinical_angles.to_rotations(angles), np.broadcast_to(REST, (20, 24, 3)))
    np.testing.assert_allclose(p, p[:, joints.SMPL_FLIP] * [-1, 1, 1], atol=1e-9)
    np.testing.assert_allclose(R, R[:, joints.SMPL_FLIP] * np.outer([-1, 1, 1], [-1, 1, 1]), atol=1e-9)


# Families


@pytest.mark.parametrize("name", families.NAMES)
def test_every_family_draws_finite_angles_of_every_joint(name):
    angles = families.draw(np.random.default_rng(1), np.full(7, families.NAMES.index(name)))
    assert set(angles) == {*clinical_angles.TRUNK, *clinical_angles.LIMBS, "root_pitch", "root_roll"}
    for key, value in angles.items():
        assert value.shape == ((7, 2) if key in clinical_angles.LIMBS else (7,)) and np.isfinite(value).all()


def test_mixed_draws_keep_people_apart_from_each_other():
    """Person i must get the angles of its own family: those of constant families are easy to tell."""
    constant = [lambda rng, n, k=k: {"a": np.full((n, 2), k), "b": np.full(n, -k)} for k in range(3)]
    kind = np.array([2, 0, 1, 1, 2, 0, 2])
    angles = families.draw_mixed(np.random.default_rng(0), kind, tuple(constant))
    np.testing.assert_array_equal(angles["a"], np.stack([kind, kind], 1))
    np.testing.assert_array_equal(angles["b"], -kind)


def test_styles_follow_their_table():
    style = np.full(4000, arm_styles.NAMES.index("up"))
    angles = arm_styles.draw_styles(np.random.default_rng(0), style)
    assert angles["shoulder_elevation"].mean() == pytest.approx(145, abs=1)
    assert angles["shoulder_elevation"].std() == pytest.approx(18, abs=1)
    assert 0 <= angles["shoulder_plane"].min() < 2 and 78 < angles["shoulder_plane"].max() <= 80
    assert angles["elbow_flexion"].min() >= 25
    assert angles["wrist_flexion"].std() == pytest.approx(14, abs=1)


# Sampled poses


def test_families_have_their_shares(drawn):
    assert pytest.approx(1) == families.SHARES.sum()
    share = np.bincount(drawn[1], minlength=len(families.NAMES)) / len(drawn[1])
    np.testing.assert_allclose(share, families.SHARES, atol=4 * np.sqrt(0.15 * 0.85 / len(drawn[1])))


def test_hinges_bend_one_way_and_within_their_range(drawn):
    knees = drawn[0][:, [joints.SMPL24.index("left_knee"), joints.SMPL24.index("right_knee")]]
    assert knees[..., 0].min() > -1e-6 and np.degrees(knees[..., 0].max()) <= clinical_angles.LIMITS["knee_flexion"][1]
    np.testing.assert_allclose(knees[..., 1:], 0, atol=1e-6)
    for side, sign in (("left", -1), ("right", 1)):
        elbow = rotations_np.axis_angle_to_matrix(drawn[0][:, joints.SMPL24.index(f"{side}_elbow")])
        forearm = elbow @ [-sign, 0, 0]
        flexion = np.degrees(np.arctan2(forearm[:, 2], -sign * forearm[:, 0]))
        assert flexion.min() > -1e-3 and flexion.max() <= clinical_angles.LIMITS["elbow_flexion"][1]


def test_roots_are_upright_and_face_ahead(drawn):
    root = rotations_np.axis_angle_to_matrix(drawn[0][:, 0])
    lies = drawn[1] == families.NAMES.index("lie")
    assert (root[~lies][:, 1, 1] > 0.5).all() and (np.abs(root[lies][:, 1, 1]) < 0.6).all()
    facing = root[~lies] @ [0, 0, 1]
    assert np.degrees(np.abs(np.arctan2(facing[:, 0], facing[:, 2]))).max() < 15


def test_hardly_any_pose_cuts_into_itself(drawn):
    depth = collisions.penetration(rotations_np.axis_angle_to_matrix(drawn[0]))
    assert (depth > poses.MAX_PENETRATION + 1e-4).mean() < 0.005
    once = clinical_angles.to_rotations(families.draw(np.random.default_rng(0), drawn[1]))
    assert (collisions.penetration(once) > poses.MAX_PENETRATION).mean() > 0.02  # Without the rejection, many do.


def test_half_of_the_poses_are_mirrored(drawn):
    """Only left arms reach up before mirroring, so that the left hand would be the higher one on average."""
    reach = drawn[0][drawn[1] == families.NAMES.index("reach")]
    p = posed_joints(reach.astype(float))
    higher = p[:, joints.SMPL24.index("left_wrist"), 1] - p[:, joints.SMPL24.index("right_wrist"), 1]
    assert abs(higher.mean()) < 3 * higher.std() / np.sqrt(len(higher))
    assert (higher > 0.3).mean() > 0.15 and (higher < -0.3).mean() > 0.15


@given(seed=st.integers(0, 2**31 - 1))
def test_a_mirrored_pose_is_the_mirror_image(seed):
    pose = np.random.default_rng(seed).normal(size=(2, 24, 3))
    np.testing.assert_allclose(
        posed_joints(poses.mirror_pose(pose)), posed_joints(pose)[:, joints.SMPL_FLIP] * [-1, 1, 1], atol=1e-9
    )


def test_poses_depend_on_the_generator_only():
    first = poses.sample_poses(40, np.random.default_rng([5, 2]))
    poses.sample_poses(40, np.random.default_rng([5, 0]))
    again = poses.sample_poses(40, np.random.default_rng([5, 2]))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].dtype == np.float32 and first[0].shape == (40, 24, 3)
    for seed, block in ((5, 3), (6, 2), (2, 5)):
        assert np.abs(poses.sample_poses(40, np.random.default_rng([seed, block]))[0] - first[0]).max() > 0.1


def test_no_poses_can_be_asked_for():
    got, family = poses.sample_poses(0, np.random.default_rng(0))
    assert got.shape == (0, 24, 3) and family.shape == (0,)


def test_betas_are_normal_and_clipped():
    betas = poses.sample_betas(3000, np.random.default_rng(0))
    assert betas.shape == (3000, 10) and betas.dtype == np.float32
    assert np.abs(betas).max() == 2.0
    np.testing.assert_allclose(betas.mean(0), 0, atol=0.08)
    np.testing.assert_allclose(betas.std(0), 0.96, atol=0.06)


# Collisions


@given(seed=st.integers(0, 2**31 - 1), parallel=st.booleans())
def test_segment_distance_equals_a_numerical_minimum(seed, parallel):
    rng = np.random.default_rng(seed)
    a0, a1, b0, b1 = rng.normal(size=(4, 3))
    if parallel:
        b1 = b0 + rng.normal() * (a1 - a0)

    def squared(x):
        return (((a0 + x[0] * (a1 - a0)) - (b0 + x[1] * (b1 - b0))) ** 2).sum()

    best = minimize(squared, (0.5, 0.5), bounds=[(0, 1), (0, 1)], tol=1e-14).fun  # Convex: one start is enough.
    got = collisions.segment_distance(*(p[None] for p in (a0, a1, b0, b1)))[0]
    assert got == pytest.approx(np.sqrt(best), abs=1e-4)


def test_penetration_of_known_poses():
    straight = np.broadcast_to(np.eye(3), (1, 24, 3, 3))
    assert collisions.penetration(straight)[0] < 0
    through = clinical_angles.to_rotations(  # The left forearm in the belly.
        neutral(
            shoulder_elevation=[[10, 14]], shoulder_rotation=[[60, 0]], elbow_flexion=[[110, 0]], hip_abduction=[[6, 6]]
        )
    )
    crossed = clinical_angles.to_rotations(
        neutral(shoulder_elevation=[[12, 12]], hip_abduction=[[-20, -20]])  # One shank in the other.
    )
    hanging = clinical_angles.to_rotations(neutral(shoulder_elevation=[[14, 14]], hip_abduction=[[5, 5]]))
    depth = collisions.penetration(np.concatenate([through, crossed, hanging]))
    assert depth[0] > 0.02 and depth[1] > 0.05 and depth[2] < 0.02
