"""The bodies of one person over time: one shape, an even distance, and a window that does not grow."""

import dataclasses
import gc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import smpl
from multibodies_jax.geometry import joints
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.prediction import people, prediction_file, sequences
from multibodies_jax.tracking import linking
from tests.helpers import garbage, random_body

M, N = 6, 2
SETTINGS = {"reading": "paper", "weights": "prior", "temperature": 1.0, "starts": 2, "iterations": 5}


@pytest.fixture(scope="module")
def body():
    """A random body whose first shape coefficient makes all of it 10 % larger for each unit, and its J24."""
    arrays = random_body.arrays()
    arrays["shapedirs"][:, :, 0] = 0.1 * arrays["v_template"]
    model = smpl.build(**arrays)
    return model, smpl.contract(model, random_body.make()[1])


def _record(body, size=0.0, seed=0):
    """A prediction of somebody in the middle of the picture; the bodies fill the same part of it, whatever their size."""
    rng = np.random.default_rng(seed)
    state = np.concatenate([np.tile([1.0, 0, 0, 1, 0, 0], 24), [size], np.zeros(9), [0.9 / (1 + 0.1 * size), 0.0, 0.0]])
    state = np.tile(state, (M, 1)).astype(np.float32)
    state[:, 6:60] += rng.normal(0, 0.02, (M, 54))
    found = hypotheses.decode(jnp.asarray(state), body[1])
    found = dataclasses.replace(found, log_prior=jnp.linspace(-2, 0, M))
    about = {
        **{"image": "clip.mp4", "image_size": np.array([320, 240]), "person": np.array(0), "body": "a random body"},
        **{"body_fingerprint": "0" * 64, "trained_on": "nothing", "commit": "abc", "refined": np.array(False)},
    }
    person = people.Person(np.zeros((24, 3), np.float32))
    record = prediction_file.describe(found, person, (np.array([160, 120], np.float32), 1.0), about)
    return prediction_file.choose(record, N, SETTINGS)


def _follow(body, folder, records):
    follower = sequences.Follower(3, N, body[0], folder)
    for frame, record in enumerate(records):
        follower.push(frame, frame / 25, record)
    return follower.finish()


@pytest.mark.slow
def test_a_shape_that_flickers_becomes_one_shape_at_an_even_distance(body, tmp_path):
    records = [_record(body, size=1.0 if k % 2 else -1.0) for k in range(20)]
    depths = np.array([record["photo_translation"][:, 2].mean() for record in records])
    assert depths[1] > 1.15 * depths[0]  # The larger body stands further away.
    found = _follow(body, tmp_path, records)
    np.testing.assert_allclose(found.betas[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(found.rows["betas"], np.broadcast_to(found.betas, (20, N, 10)), atol=1e-6)
    far = found.rows["root"][:, :, 2]
    np.testing.assert_allclose(far, np.broadcast_to(far.mean(axis=0), far.shape), rtol=0.01)
    assert found.number == 3 and found.taken_over == 0


@pytest.mark.slow
def test_probabilities_are_as_sharp_as_those_of_one_photograph(body, tmp_path):
    record = _record(body)
    level = prediction_file.choose(record, N, SETTINGS | {"sharpness": 0.0})
    plain, found = (_follow(body, tmp_path, [one] * 3).rows["probabilities"] for one in (record, level))
    assert np.ptp(plain, axis=1).min() > 0.05
    np.testing.assert_allclose(found, 1 / N, rtol=1e-6)


@pytest.mark.slow
def test_gaps_lie_between_their_ends_and_nothing_follows_the_last_prediction(body, tmp_path):
    record = _record(body)
    found = _follow(body, tmp_path, [record, record, None, None, record, record, None, None, None])
    assert found.rows["frame"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.rows["observed"].tolist() == [True, True, False, False, True, True]
    assert (found.rows["index"][2:4] == -1).all()
    np.testing.assert_allclose(
        found.rows["rotations"], np.broadcast_to(found.rows["rotations"][0], (6, N, 24, 3, 3)), atol=1e-5
    )
    np.testing.assert_allclose(found.rows["root"], np.broadcast_to(found.rows["root"][0], (6, N, 3)), atol=1e-4)
    np.testing.assert_allclose(found.rows["probabilities"].sum(axis=1), 1, atol=1e-6)
    assert (found.rows["probabilities"][:, 0] >= found.rows["probabilities"][:, 1]).all()


@pytest.mark.slow
def test_the_memory_is_that_of_a_window(body, tmp_path):
    follower, alive = sequences.Follower(0, N, body[0], tmp_path), []
    with garbage.only_new():
        for frame in range(30):
            record = _record(body, seed=frame)
            alive.append(weakref.ref(record["all_rotmats"]))
            follower.push(frame, frame / 25, record)
            del record
            gc.collect()
            assert sum(one() is not None for one in alive) <= linking.LAG + 1
    assert follower.observed == 30 and len(follower.finish().rows) == 30


@pytest.mark.slow
def test_the_size_of_a_skeleton_is_the_sum_of_its_bones(body):
    betas = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    for size, its in zip(sequences.skeleton_size(body[0], betas), betas, strict=True):
        rest = np.asarray(smpl.shape(body[0], jnp.asarray(its))[1], np.float64)
        total = sum(np.linalg.norm(rest[k] - rest[p]) for k, p in enumerate(joints.SMPL_PARENTS) if p >= 0)
        assert size == pytest.approx(total, rel=1e-5)
