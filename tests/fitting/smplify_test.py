"""SMPLify against loops in float64; what has no influence, what is recovered, and degenerate evidence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy.spatial.transform import Rotation

from multibodies_jax.body import body_files, smpl
from multibodies_jax.fitting import pose_mixture, smplify
from multibodies_jax.geometry import cameras, joints, rotations
from tests.helpers import fitting_reference
from tests.helpers import smplify_reference as reference

N, STEPS = 3, 2
SETTINGS = smplify.Settings(steps=STEPS)
fit = jax.jit(smplify.fit, static_argnames="settings")


@functools.cache
def case():
    """Starts (rotmats, betas, cam), keypoints in [-1, 1] of other bodies, and confidences, of which some are 0."""
    rng = np.random.default_rng(0)
    rotmats, betas, cam = fitting_reference.random_bodies(1, N)
    near = Rotation.from_rotvec(0.1 * rng.normal(size=(24 * N, 3))).as_matrix().reshape(N, 24, 3, 3)
    truth = smpl.joints(reference.joint_model(), jnp.asarray(rotmats @ near, jnp.float32), jnp.asarray(betas))
    points = np.asarray(cameras.project_crop(truth, jnp.asarray(cam))) + 0.05 * rng.normal(size=(N, 49, 2))
    confidence = rng.uniform(size=(N, 49)) * (rng.uniform(size=(N, 49)) < 0.8)
    return (rotmats, betas, cam), points.astype(np.float32), confidence.astype(np.float32)


def run(points=None, confidence=None, rows=(0, 1, 2), settings=SETTINGS):
    rows = np.array(rows)
    start, given, sure = case()
    body = smplify.start_from(*(jnp.asarray(x[rows]) for x in start))
    points, confidence = given if points is None else points, sure if confidence is None else confidence
    keypoints = smplify.crop_keypoints(jnp.asarray(points[rows]), jnp.asarray(confidence[rows]))
    return fit(body, keypoints, reference.joint_model(), reference.mixture(), settings)


def numbers(n=0):
    """Pose, betas, translation, pixels and confidence of one start, in float64."""
    (rotmats, betas, cam), points, confidence = case()
    translation = np.array([cam[n, 1], cam[n, 2], 2 * 5000 / (224 * cam[n, 0])], np.float64)
    pose = Rotation.from_matrix(rotmats[n]).as_rotvec().ravel()
    return pose, betas[n].astype(float), translation, 112 * (points[n] + 1.0), confidence[n].astype(float)


@pytest.mark.slow
def test_both_stages_equal_a_loop_in_float64():
    found = run()
    pose, betas, translation, points_px, confidence = numbers(1)
    pose, betas, translation = reference.fit(pose, betas, translation, points_px, confidence, STEPS)
    np.testing.assert_allclose(found.body.translation[1], translation, atol=1e-4)
    np.testing.assert_allclose(found.body.pose[1].ravel(), pose, atol=2e-4)
    np.testing.assert_allclose(found.body.betas[1], betas, atol=2e-4)
    errors = reference.errors(pose, betas, translation, points_px, confidence)
    np.testing.assert_allclose(found.errors_px2[1], errors, atol=1e-2 * errors.max())
    assert float(found.loss_px2[1]) == pytest.approx(errors.sum() / 49, rel=1e-3)


@pytest.mark.slow
def test_the_objective_of_the_body_equals_a_loop_in_float64():
    (rotmats, betas, cam), points, confidence = case()
    body = smplify.start_from(*map(jnp.asarray, (rotmats, betas, cam)))
    keypoints = smplify.crop_keypoints(jnp.asarray(points), jnp.asarray(confidence))
    found = smplify.body_objective(body, keypoints, reference.joint_model(), reference.mixture())
    expected = [reference.body_objective(*numbers(n)) for n in range(N)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_no_result_depends_on_the_batch():
    together, order = run(), np.array([2, 1, 1])
    alone = run(rows=order)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[order], rtol=1e-5, atol=1e-6), alone, together)


@pytest.mark.slow
def test_stages_move_what_is_theirs_alone():
    only_torso = np.zeros((N, 49), np.float32)
    points = case()[1]
    fitted = run(confidence=only_torso)  # Nothing to follow in stage 2 but the priors.
    elsewhere = run(points=points + 0.2, confidence=only_torso)
    assert np.abs(fitted.body.translation - elsewhere.body.translation).max() > 1e-3
    np.testing.assert_array_equal(fitted.body.betas, elsewhere.body.betas)
    np.testing.assert_array_equal(fitted.body.pose[:, 1:], elsewhere.body.pose[:, 1:])
    assert np.isinf(fitted.loss_px2).all()


@pytest.mark.slow
@pytest.mark.parametrize("torso, free", [("visible", True), ("annotated", False)])
def test_hidden_keypoints_have_no_influence_except_on_the_annotated_torso(torso, free):
    _, points, confidence = case()
    confidence = confidence.copy()
    confidence[:, [27, 40]] = 0  # The right hip of J24, and no joint of the torso.
    settings = smplify.Settings(STEPS, torso)
    found = run(confidence=confidence, settings=settings)
    for place, same in ((40, True), (27, free)):
        elsewhere = points.copy()
        elsewhere[:, place] = 7.0
        other = run(elsewhere, confidence, settings=settings)
        equal = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (found, other)), strict=True)]
        assert all(equal) == same


@pytest.mark.slow
def test_ignored_keypoints_move_no_body_and_count_in_no_loss():
    _, points, confidence = case()
    confidence = np.ones_like(confidence)
    elsewhere = points.copy()
    elsewhere[:, [1, 9, 12]] += 0.3  # OpenPose's neck and hips; those of J24 are the torso of stage 1.
    jax.tree.map(np.testing.assert_array_equal, run(points, confidence), run(elsewhere, confidence))
    assert (np.asarray(run(points, confidence).errors_px2) > 0).sum() == N * 44


@pytest.mark.parametrize("n, name", [(1, "mid_shoulders"), (9, "right_hip"), (12, "left_hip")])
def test_ignored_keypoints_of_openpose_are_those_that_smpl_has_elsewhere(n, name):
    assert n in smplify.IGNORED and joints.OPENPOSE25[n] == name


def test_the_torso_is_chosen_by_its_rule():
    confidence = np.full((4, 49), 0.5, np.float32)
    confidence[1, 9] = 0  # A hip of OpenPose.
    confidence[2, [27, 28]] = 0  # The hips of J24.
    confidence[3, [27, 28, 33]] = 0
    annotated, openpose = np.zeros(49), np.zeros(49)
    annotated[[27, 28, 33, 34]] = 1
    openpose[[9, 12, 2, 5]] = 1
    weights = {torso: smplify.torso_weights(jnp.asarray(confidence), torso) for torso in smplify.TORSOS}
    np.testing.assert_array_equal(weights["annotated"], np.tile(annotated, (4, 1)))
    np.testing.assert_array_equal(weights["openpose_if_valid"], [openpose, annotated, openpose, openpose])
    visible = [0.25 * annotated, 0.25 * annotated, 0.25 * annotated, confidence[3] ** 2]
    visible[2][[27, 28]] = 0
    np.testing.assert_array_equal(weights["visible"], visible)
    np.testing.assert_array_equal(
        smplify.torso_weights(jnp.asarray(confidence[:, 25:]), "openpose_if_valid")[0], annotated[25:]
    )


def test_the_angle_prior_is_4_at_rest_falls_with_bending_and_is_the_same_for_the_mirror_image():
    poses = np.zeros((5, 24, 3), np.float32)
    assert float(smplify.angle_energy(jnp.zeros(69))) == 4
    for pose, (joint, axis, bend) in zip(
        poses, (("left_elbow", 1, -1), ("right_elbow", 1, 1), ("left_knee", 0, 1), ("right_knee", 0, 1)), strict=False
    ):
        pose[joints.SMPL24.index(joint), axis] = bend
    poses[4] = np.random.default_rng(0).normal(size=(24, 3))
    energies = smplify.angle_energy(jnp.asarray(poses[:, 1:].reshape(5, 69)))
    np.testing.assert_allclose(energies[:4], 3 + np.exp(-2), rtol=1e-6)
    mirrored = poses[:, joints.SMPL_FLIP] * np.array([1, -1, -1], np.float32)
    np.testing.assert_allclose(smplify.angle_energy(jnp.asarray(mirrored[:, 1:].reshape(5, 69))), energies, rtol=1e-6)


@pytest.mark.slow
def test_j24_alone_counts_as_49_of_which_the_others_are_not_seen():
    (rotmats, betas, cam), points, confidence = case()
    confidence = np.where(np.arange(49) < 25, 0, confidence).astype(np.float32)
    body = smplify.start_from(*map(jnp.asarray, (rotmats, betas, cam)))
    every = smplify.crop_keypoints(jnp.asarray(points), jnp.asarray(confidence))
    j24 = smplify.crop_keypoints(jnp.asarray(points[:, 25:]), jnp.asarray(confidence[:, 25:]))
    of_j24 = smpl.contract(smpl.build(**fitting_reference.body_arrays()), reference.regressor()[25:])
    np.testing.assert_allclose(
        smplify.loss_px2(body, j24, of_j24), smplify.loss_px2(body, every, reference.joint_model()), rtol=1e-4
    )


@pytest.mark.slow
def test_a_stored_body_is_placed_by_least_squares():
    (rotmats, betas, cam), _, confidence = case()
    rotmats, betas = jnp.asarray(rotmats), jnp.asarray(betas)
    exact = cameras.project_crop(smpl.joints(reference.joint_model(), rotmats, betas), jnp.asarray(cam))
    confidence = confidence.copy()
    confidence[1] = 0
    confidence[2, 30:] = 0
    confidence[2, 25:30] = [0, 0, 0, 1, 0]  # One keypoint has no depth.
    keypoints = smplify.crop_keypoints(exact, jnp.asarray(confidence))
    exact_loss, *lost = smplify.stored_loss_px2(rotmats, betas, keypoints, reference.joint_model())
    assert exact_loss < 1e-4
    assert np.isinf(lost).all()


def test_keypoints_without_coordinates_are_not_seen():
    points = np.zeros((1, 24, 2), np.float32)
    points[0, 3, 1], points[0, 4, 0] = np.nan, np.inf
    keypoints = smplify.crop_keypoints(jnp.asarray(points), jnp.ones((1, 24)))
    assert np.isfinite(keypoints.points_px).all()
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(keypoints.confidence[0]) == 0), [3, 4])


def test_a_camera_that_looks_backwards_starts_before_the_body():
    start = smplify.start_from(
        *map(jnp.asarray, (np.eye(3)[None, None].repeat(24, 1), np.zeros((1, 10)), [[-0.3, 0, 0]]))
    )
    assert start.translation[0, 2] == pytest.approx(100 * 2 * 5000 / 224, rel=1e-5)


@pytest.mark.slow
def test_other_keypoints_and_rules_are_refused():
    (rotmats, betas, cam), points, confidence = case()
    body = smplify.start_from(*map(jnp.asarray, (rotmats, betas, cam)))
    few = smplify.crop_keypoints(jnp.asarray(points[:, :17]), jnp.asarray(confidence[:, :17]))
    every = smplify.crop_keypoints(jnp.asarray(points), jnp.asarray(confidence))
    with pytest.raises(ValueError, match="J24 or SPIN's 49 keypoints, got 17"):
        smplify.fit(body, few, reference.joint_model(), reference.mixture())
    with pytest.raises(ValueError, match=r"one of annotated, openpose_if_valid, visible, got 'hips'"):
        smplify.fit(body, every, reference.joint_model(), reference.mixture(), smplify.Settings(torso="hips"))
    with pytest.raises(ValueError, match=r"one of adam, second_order, got 'newton'"):
        smplify.fit(body, every, reference.joint_model(), reference.mixture(), smplify.Settings(solver="newton"))


@pytest.mark.slow
def test_the_curvature_is_that_of_the_objective_where_the_residuals_vanish():
    """With exact keypoints the Gauss-Newton form is the Hessian, here without pose correctives."""
    arrays = fitting_reference.body_arrays()
    arrays["posedirs"] = 0 * arrays["posedirs"]
    joint_model = smpl.contract(smpl.build(**arrays), reference.regressor())
    (rotmats, betas, cam), _, confidence = case()
    body = smplify.start_from(*(jnp.asarray(x[:1]) for x in (rotmats, betas, cam)))
    exact = cameras.project_crop(smpl.joints(joint_model, jnp.asarray(rotmats[:1]), body.betas), jnp.asarray(cam[:1]))
    keypoints = smplify.crop_keypoints(exact, jnp.asarray(confidence[:1]))

    def value(x):
        moved = smplify.Body(x[:72].reshape(1, 24, 3), x[None, 72:], body.translation)
        return smplify.body_objective(moved, keypoints, joint_model, reference.mixture())[0]

    x = jnp.concatenate([body.pose.ravel(), body.betas.ravel()])
    expected = jax.jit(jax.hessian(value))(x)
    found = smplify.body_curvature(body, keypoints, joint_model, reference.mixture())[0]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_few_steps_of_second_order_are_near_the_optimum_of_scipy_in_float64():
    found = run(settings=smplify.Settings(15, solver="second_order"))
    pose, betas, _, points_px, confidence = numbers(1)
    translation = np.asarray(found.body.translation[1], np.float64)

    def value(x):
        return reference.body_objective(x[:72], x[72:], translation, points_px, confidence)

    begun = value(np.concatenate([pose, betas]))
    ours = np.concatenate([np.ravel(found.body.pose[1]), found.body.betas[1]]).astype(np.float64)
    further = optimize.minimize(value, ours, method="L-BFGS-B", options={"maxiter": 10, "maxfun": 1500})
    assert further.fun > value(ours) - 0.01 * (begun - value(ours))


@functools.cache
def mannequin():
    files = body_files.load()
    return files, smpl.contract(files.smpl, files.j24_regressor)


def fit_mannequin(points, confidence, steps=40):
    files, joint_model = mannequin()
    mean = np.concatenate([files.mean_rot6d, files.mean_betas, files.mean_cam])
    settings = smplify.Settings(steps, "visible")
    return smplify.fit_from_mean_pose(points, confidence, mean, joint_model, pose_mixture.load(), settings)


@pytest.mark.slow
def test_a_person_is_found_from_the_mean_pose():
    files, joint_model = mannequin()
    rng = np.random.default_rng(0)
    rotmats = np.asarray(rotations.rot6d_to_matrix(jnp.asarray(files.mean_rot6d.reshape(24, 6))))
    bent = Rotation.from_rotvec(0.2 * rng.normal(size=(4 * 24, 3))).as_matrix().reshape(4, 24, 3, 3)
    truth = smpl.joints(joint_model, jnp.asarray(rotmats @ bent, jnp.float32), jnp.zeros((4, 10)))
    points = np.array(cameras.project_crop(truth, jnp.tile(jnp.array([[0.8, 0.05, -0.05]]), (4, 1))))
    sure = np.ones((4, 24), np.float32)
    fitted = fit_mannequin(points, sure)
    keypoints = smplify.crop_keypoints(jnp.asarray(points), jnp.asarray(sure))
    mean = jnp.tile(jnp.asarray(rotmats)[None], (4, 1, 1, 1))
    before = smplify.stored_loss_px2(mean, jnp.zeros((4, 10)), keypoints, joint_model)
    assert (fitted.loss_px2 < 0.2 * np.asarray(before)).all()
    alone = fit_mannequin(points[2:], sure[2:])
    np.testing.assert_allclose(alone.body.pose, fitted.body.pose[2:], atol=1e-5)


@pytest.mark.slow
def test_people_that_cannot_be_fitted_are_named():
    points, sure = np.zeros((3, 24, 2), np.float32), np.ones((3, 24), np.float32)
    sure[1] = 0
    with pytest.raises(ValueError, match=r"All keypoints of 1 of 3 people are hidden \(the first is person 1"):
        fit_mannequin(points, sure)
    only_hips = np.zeros((3, 24), np.float32)
    only_hips[:, joints.MIDHIP_J24] = 1
    with pytest.raises(ValueError, match="3 of 3 people"):
        fit_mannequin(points, only_hips)
    points[2, 0] = 1e30
    with pytest.raises(ValueError, match=r"fits of 1 of 3 people are not finite \(the first is person 2"):
        fit_mannequin(points, np.ones((3, 24), np.float32))
