"""The loop's rules: how fits are turned and mirrored, which are kept, and which become labels."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.baselines.spin import targets
from multibodies_jax.batch import Origin
from multibodies_jax.data import augment, fit_files, sources
from multibodies_jax.fitting import smplify
from multibodies_jax.geometry import cameras
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.training import training_data
from tests.helpers import batches, fitted_rows, random_body, smplify_reference, tiny

decode = jax.jit(hypotheses.decode)
N, B = 5, 4
MEAN = np.concatenate([np.tile([1, 0, 0, 1, 0, 0], 24), np.zeros(10), [0.9, 0, 0]]).astype(np.float32)


def random_rotations(*shape, seed=0):
    R = Rotation.random(int(np.prod(shape)), rng=np.random.default_rng(seed)).as_matrix()
    return jnp.asarray(R.reshape(*shape, 3, 3), jnp.float32)


def origin(place=(0, 1, 2, 3), angle=(0.0, 0.3, 0.0, -0.5), flip=(0.0, 0.0, 1.0, 1.0)):
    return Origin(jnp.asarray(place, jnp.int32), jnp.asarray(angle), jnp.asarray(flip))


def test_what_is_stored_comes_back_for_every_turn_and_mirror_image():
    R = random_rotations(4, 24)
    np.testing.assert_allclose(targets.as_stored(targets.augmented(R, origin()), origin()), R, atol=1e-6)
    np.testing.assert_allclose(targets.augmented(targets.as_stored(R, origin()), origin()), R, atol=1e-6)
    np.testing.assert_array_equal(targets.augmented(R, origin())[0], R[0])  # Neither turned nor mirrored.


def test_bodies_are_turned_and_mirrored_as_the_examples_are():
    R = np.asarray(random_rotations(24))
    turn = Rotation.from_rotvec([0, 0, 0.4]).as_matrix().astype(np.float32)
    example = augment.flip_example(
        {
            "rotmats": np.concatenate([(turn @ R[0])[None], R[1:]]),
            **{name: np.zeros((24, d)) for name, d in (("kp2d", 2), ("joints3d", 3))},
        }
    )
    one = origin((0,), (0.4,), (1.0,))
    np.testing.assert_allclose(targets.augmented(jnp.asarray(R)[None], one)[0], example["rotmats"], atol=1e-6)


def test_of_an_example_that_is_in_a_batch_several_times_the_best_fit_is_stored():
    place = jnp.asarray([3, 7, 3, 3, 7, 9, 7], jnp.int32)
    loss = jnp.asarray([2.0, 5.0, 1.0, 0.5, 5.0, 4.0, 9.0])
    better = jnp.asarray([True, True, True, False, True, True, True])
    np.testing.assert_array_equal(targets.winners(place, loss, better), [False, True, True, False, False, True, False])


@functools.cache
def body():
    return random_body.make(0)[2]


def loop(**fields):
    config = tiny.config(model__name="spin", model__num_hypotheses=1, data__sets=("synthetic_bodies/clean",))
    for name, value in fields.items():
        config.spin[name] = value
    return targets.Loop(config, body(), MEAN, pathlib.Path(), {"set": N}, smplify_reference.mixture())


def store():
    """Bodies near rest, facing the camera."""
    rng = np.random.default_rng(0)
    pose = 0.2 * rng.normal(size=(N, 24, 3))
    return targets.Store(
        jnp.asarray(pose, jnp.float32), jnp.asarray(0.1 * rng.normal(size=(N, 10)), jnp.float32), jnp.full(N, 50.0)
    )


def decoded(pose, betas):
    """One hypothesis of each example, at a camera."""
    R = Rotation.from_rotvec(np.reshape(pose, (-1, 3))).as_matrix().reshape(*np.shape(pose), 3)
    six = jnp.asarray(R[..., :2].reshape(len(pose), 1, 144), jnp.float32)
    cam = jnp.tile(jnp.asarray([0.8, 0.05, -0.05]), (len(pose), 1, 1))
    return decode(jnp.concatenate([six, jnp.asarray(betas)[:, None], cam], axis=-1), body())


def batch(where, shown, smpl_valid=(0.0, 0.0, 0.0, 1.0)):
    """Examples whose keypoints are those of some bodies, at some places of the store; the last one has SMPL parameters."""
    points = cameras.project_crop(shown.joints24 + shown.midhip[..., None, :], shown.cam)[:, 0]
    labels = {"kp2d": points, "kp2d_valid": jnp.ones((B, 24)), "smpl_valid": jnp.asarray(smpl_valid)}
    labels |= {"rotmats": random_rotations(B, 24, seed=1), "betas": jnp.full((B, 10), 2.0)}
    return dataclasses.replace(batches.batch(**labels), origin=where)


def still(place=(0, 1, 2, 3)):
    return origin(place, (0.0,) * 4, (0.0,) * 4)


def case(off=0.0):
    """A store, and a batch of the bodies in it, of which the first is seen `off` from where it is."""
    memory = store()
    seen = decoded(memory.pose[:B], memory.betas[:B])
    given = batch(still(), seen)
    kp2d = given.target.kp2d.at[0].add(off * jax.random.normal(jax.random.key(0), (24, 2)))
    return memory, dataclasses.replace(given, target=given.target.replace(kp2d=kp2d)), seen


@pytest.mark.slow
def test_a_stored_fit_near_the_keypoints_is_the_label_and_truth_comes_first():
    memory, given, hyps = case(off=1.0)
    after, labelled, metrics = loop(fit=False)(memory, hyps, given, body())
    jax.tree.map(np.testing.assert_array_equal, after, memory)
    np.testing.assert_array_equal(labelled.target.smpl_valid, [0, 1, 1, 1])  # The first is too far from its keypoints.
    R = Rotation.from_rotvec(np.asarray(memory.pose[1:3]).reshape(-1, 3)).as_matrix().reshape(2, 24, 3, 3)
    np.testing.assert_allclose(labelled.target.rotmats[1:3], R, atol=1e-5)
    np.testing.assert_allclose(labelled.target.betas[1:3], memory.betas[1:3], atol=1e-6)
    np.testing.assert_array_equal(labelled.target.rotmats[3], given.target.rotmats[3])
    np.testing.assert_array_equal(labelled.target.betas[3], given.target.betas[3])
    assert float(metrics["fits_valid"]) == pytest.approx(2 / 3)


@pytest.mark.slow
def test_a_fit_whose_distance_is_the_threshold_is_no_label():
    memory, given, hyps = case(off=0.02)
    keypoints = smplify.crop_keypoints(given.target.kp2d, given.target.kp2d_valid)
    rotmats = jnp.asarray(Rotation.from_rotvec(np.asarray(memory.pose[:B]).reshape(-1, 3)).as_matrix(), jnp.float32)
    loss = float(
        smplify.stored_loss_px2(rotmats.reshape(B, 24, 3, 3), jnp.asarray(memory.betas[:B]), keypoints, body())[0]
    )
    for threshold, valid in ((0.99 * loss, 0), (1.01 * loss, 1)):
        _, labelled, _ = loop(fit=False, threshold=threshold)(memory, hyps, given, body())
        assert labelled.target.smpl_valid[0] == valid
    _, labelled, _ = loop(fit=False, threshold=0.0)(memory, hyps, given, body())
    np.testing.assert_array_equal(labelled.target.smpl_valid, [0, 0, 0, 1])


def made_fits(monkeypatch, losses, betas=0.0):
    """Stands in for the fit: bodies at rest, with these losses."""

    def fit(start, keypoints, joint_model, prior, settings):
        made = smplify.Body(0 * start.pose, jnp.full_like(start.betas, betas), start.translation)
        return smplify.Fit(made, jnp.zeros((B, 24)), jnp.asarray(losses))

    monkeypatch.setattr(smplify, "fit", fit)


@pytest.mark.slow
def test_a_better_fit_is_kept_and_trains_at_once(monkeypatch):
    memory, given, hyps = case(off=1.0)
    made_fits(monkeypatch, [3.0, jnp.inf, 1e9, -1.0])
    after, labelled, metrics = loop()(memory, hyps, given, body())
    np.testing.assert_array_equal(after.loss_px2, [3.0, 50, 50, 50, 50])  # The last one of the batch has truth.
    np.testing.assert_allclose(after.pose[0], 0, atol=1e-6)
    np.testing.assert_array_equal(after.pose[1:], memory.pose[1:])
    np.testing.assert_array_equal(labelled.target.smpl_valid, [1, 1, 1, 1])
    np.testing.assert_allclose(labelled.target.rotmats[0], np.tile(np.eye(3), (24, 1, 1)), atol=1e-6)
    assert float(metrics["fits_replaced"]) == pytest.approx(1 / 3)


@pytest.mark.slow
def test_a_fit_that_is_not_better_is_not_kept(monkeypatch):
    memory, given, hyps = case()  # Stored fits on their keypoints, with a loss of 0 up to rounding.
    made_fits(monkeypatch, [1.0, 1.0, 1.0, 1.0])
    after, _, metrics = loop()(memory, hyps, given, body())
    jax.tree.map(np.testing.assert_array_equal, after, memory)
    assert metrics["fits_replaced"] == 0 and metrics["fits_px2"] < 1e-3


@pytest.mark.slow
def test_new_fits_are_stored_neither_turned_nor_mirrored(monkeypatch):
    memory, given, hyps = case(off=1.0)
    made_fits(monkeypatch, [3.0, 1.0, 1.0, 1.0])
    turned = dataclasses.replace(given, origin=origin((2, 1, 0, 3), (0.4, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)))
    after, _, _ = loop()(memory, hyps, turned, body())
    np.testing.assert_allclose(after.pose[2, 0], [0, 0, -0.4], atol=1e-6)
    np.testing.assert_allclose(after.pose[2, 1:], 0, atol=1e-6)


def test_an_extreme_shape_trains_as_the_mean_one_and_is_stored_as_it_is(monkeypatch):
    memory, given, hyps = case(off=1.0)
    for betas, trained in ((3.0, 3.0), (3.1, 0.0)):
        made_fits(monkeypatch, [3.0, 1e9, 1e9, 1e9], betas)
        after, labelled, _ = loop()(memory, hyps, given, body())
        np.testing.assert_allclose(after.betas[0], betas)
        np.testing.assert_allclose(labelled.target.betas[0], trained)


@pytest.mark.slow
def test_the_fit_starts_from_the_hypothesis_that_is_the_nearest_to_the_keypoints(monkeypatch):
    memory, given, near = case()
    far = decoded(np.asarray(memory.pose[:B]) + 0.5, memory.betas[:B])
    starts = []

    def fit(start, keypoints, joint_model, prior, settings):
        starts.append(start)
        return smplify.Fit(start, jnp.zeros((B, 24)), jnp.full(B, jnp.inf))

    monkeypatch.setattr(smplify, "fit", fit)
    loop()(memory, hypotheses.concatenate([far, near]), given, body())
    np.testing.assert_allclose(starts[0].pose, memory.pose[:B], atol=1e-5)


def test_a_batch_without_origin_is_refused():
    memory, given, hyps = case()
    with pytest.raises(ValueError, match="found by its origin"):
        loop()(memory, hyps, dataclasses.replace(given, origin=None), body())


def records():
    """Five stored examples of the body, of which the second has SMPL parameters and the last only hips that are seen."""
    memory = store()
    hyps = decoded(memory.pose, memory.betas)
    points = np.asarray(cameras.project_crop(hyps.joints24 + hyps.midhip[..., None, :], hyps.cam))[:, 0]
    made = []
    for i in range(N):
        seen = np.ones(24, np.float32) if i < 4 else np.isin(np.arange(24), (2, 3)).astype(np.float32)
        made.append(
            {
                "example_id": f"set/{i}".encode(),
                "kp2d": 100 * points[i] + 200,
                "kp2d_valid": seen,
                "kp2d_input": seen,
                "joints3d": np.zeros((24, 3), np.float32),
                "joints3d_valid": np.zeros(24, np.float32),
                "pose": np.full((24, 3), 0.1, np.float32),
                "betas": np.full(10, 0.3, np.float32),
                "smpl_valid": np.float32(i == 1),
                "gender": np.int32(-1),
                "occlusion": np.int64(0),
            }
            | {name: np.array([200.0, 200.0]) for name in ("box_center", "box_center_full")}
            | {name: 1.0 for name in ("box_scale", "box_scale_full")}
        )
    return made


def first_loop(tmp_path, monkeypatch, fits=None):
    monkeypatch.setattr(training_data, "open_each", lambda config: [records()])
    monkeypatch.setattr(sources, "open_source", lambda *_: records())
    own = loop(steps=2)
    own.config.data.fits = fits
    return dataclasses.replace(own, workdir=tmp_path, sizes={"mpii/spin": N})


@pytest.mark.slow
def test_the_first_fits_are_those_of_smplify_from_the_mean_pose(tmp_path, monkeypatch):
    own = first_loop(tmp_path, monkeypatch)
    first = own.first()
    assert jax.tree.map(np.shape, first) == jax.tree.map(np.shape, own.template())
    np.testing.assert_allclose(first.pose[1], 0.1, atol=1e-6)  # That of the data.
    np.testing.assert_allclose(first.betas[1], 0.3)
    assert first.loss_px2[1] == 0 and np.isfinite(first.loss_px2[:4]).all()
    some = [0, 2, 3]
    fitted = smplify.fit_from_mean_pose(
        np.stack([records()[i]["kp2d"] / 100 - 2 for i in some]),
        np.ones((3, 24), np.float32),
        MEAN,
        body(),
        smplify_reference.mixture(),
        own.settings,
    )
    np.testing.assert_allclose(first.pose[some], fitted.body.pose, atol=1e-4)
    np.testing.assert_allclose(first.pose[4], 0, atol=1e-6)  # The mean pose: hips alone are no evidence.
    assert np.isinf(first.loss_px2[4])


@pytest.mark.slow
def test_the_first_fits_are_those_of_files_where_there_are_some(tmp_path, monkeypatch):
    memory = jax.tree.map(np.asarray, store())
    fits = fit_files.Fits(memory.pose, memory.betas, np.ones(N, bool))
    fit_files.write(tmp_path / targets.FIRST_FOLDER, "mpii/spin", fits, plain=True)
    own = first_loop(tmp_path, monkeypatch)
    own.check()
    first = own.first()
    np.testing.assert_allclose(first.pose[[0, 2, 3, 4]], memory.pose[[0, 2, 3, 4]], atol=1e-6)
    np.testing.assert_allclose(first.pose[1], 0.1, atol=1e-6)
    assert (first.loss_px2[[0, 2, 3]] < 1e-2).all()
    elsewhere = tmp_path / "elsewhere"
    fit_files.write(elsewhere, "mpii/spin", fits)
    other = first_loop(tmp_path / "w", monkeypatch, str(elsewhere)).first()
    jax.tree.map(np.testing.assert_array_equal, other, first)


def test_first_fits_that_cannot_be_used_are_refused(tmp_path, monkeypatch):
    own = first_loop(tmp_path, monkeypatch)
    fits = fit_files.Fits(np.zeros((4, 24, 3)), np.zeros((4, 10)), np.ones(4, bool))
    folder = tmp_path / targets.FIRST_FOLDER
    path = fit_files.write(folder, "mpii/spin", fits)
    with pytest.raises(ValueError, match="has 4 fits and the set has 5 examples"):
        own.check()
    path.rename(folder / "coco_fits.npz")
    with pytest.raises(ValueError, match=r"coco_fits\.npz is of no training set.*called mpii_fits\.npy"):
        own.check()
    with pytest.raises(ValueError, match=r"has no mpii_fits\.npz or \.npy"):
        first_loop(tmp_path / "w", monkeypatch, str(folder)).check()


def test_the_fits_of_a_store_are_written_set_by_set_with_a_flag(tmp_path):
    memory = dataclasses.replace(store(), loss_px2=jnp.asarray([0.0, 99.0, 100.0, jnp.inf, 5.0]))
    own = dataclasses.replace(loop(), workdir=tmp_path, sizes={"mpii/spin": 3, "a/b": 2})
    own.finish(memory)
    first, second = (fit_files.read_set(tmp_path, name, count) for name, count in own.sizes.items())
    np.testing.assert_array_equal(np.concatenate([first.valid, second.valid]), [True, True, False, False, True])
    np.testing.assert_allclose(np.concatenate([first.pose, second.pose]), memory.pose)


def test_fits_are_made_with_the_settings_of_the_config(monkeypatch):
    memory, given, hyps = case()
    asked = []

    def fit(start, keypoints, joint_model, prior, settings):
        asked.append(settings)
        return smplify.Fit(start, jnp.zeros((B, 24)), jnp.full(B, jnp.inf))

    monkeypatch.setattr(smplify, "fit", fit)
    loop(solver="second_order", steps=3, torso="annotated")(memory, hyps, given, body())
    assert asked == [smplify.Settings(3, "annotated", "second_order")]


def test_fits_of_another_order_than_their_set_stop_the_training_before_it_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "open_source", lambda config, name, split: fitted_rows.records(body()))
    started = dataclasses.replace(loop(), workdir=tmp_path, sizes={"a/b": fitted_rows.N})
    fit_files.write(tmp_path / targets.FIRST_FOLDER, "a/b", fitted_rows.fits())
    started.check()
    fit_files.write(tmp_path / targets.FIRST_FOLDER, "a/b", fitted_rows.turned(1))
    with pytest.raises(fit_files.FitsError, match="The fits of a/b are of other rows"):
        started.check()
