"""Filters take noise away, keep the motion at its time, and never leave the rotations."""

import numpy as np
import pytest
from scipy.spatial import transform

from multibodies_jax.tracking import smoothing

SECONDS = np.arange(90) / 30


def _swing(seconds):
    """Rotations (T, 2, 3, 3): a joint that swings by 0.8 rad at 1 Hz about a tilted axis, and one that turns round."""
    axis = np.array([0.6, 0.0, 0.8])
    swing = transform.Rotation.from_rotvec(0.8 * np.sin(2 * np.pi * seconds)[:, None] * axis).as_matrix()
    round_ = transform.Rotation.from_rotvec(3.0 * seconds[:, None] * np.array([0.0, 1.0, 0.0])).as_matrix()
    return np.stack([swing, round_], axis=1)


def _angle(first, second):
    return (
        transform.Rotation.from_matrix((np.swapaxes(first, -1, -2) @ second).reshape(-1, 3, 3))
        .magnitude()
        .reshape(first.shape[:-2])
    )


def _smooth(seconds, rotations):
    found = []
    for at in range(len(seconds)):
        part = smoothing.window(seconds, at)
        found.append(smoothing.smooth_rotations(seconds[part], rotations[part], at - part.start))
    return np.array(found)


def test_rotations_lose_their_jitter_and_do_not_lag():
    rng, truth = np.random.default_rng(0), _swing(SECONDS)
    noise = transform.Rotation.from_rotvec(rng.normal(0, 0.06, (180, 3))).as_matrix().reshape(90, 2, 3, 3)
    noisy = truth @ noise
    found = _smooth(SECONDS, noisy)
    np.testing.assert_allclose(found @ np.swapaxes(found, -1, -2), np.broadcast_to(np.eye(3), found.shape), atol=1e-6)
    inner = slice(10, -10)
    before, after = (_angle(x, truth)[inner].mean() for x in (noisy, found))
    assert after < 0.55 * before

    def jitter(x):  # Change of the angular velocity from frame to frame, beyond that of the motion.
        steps = np.swapaxes(x[:-1], -1, -2) @ x[1:]
        own = np.swapaxes(truth[:-1], -1, -2) @ truth[1:]
        return _angle(own, steps)[inner].mean()

    assert jitter(found) < 0.2 * jitter(noisy)
    # The lag, in frames: the shift of the truth that fits best.
    errors = {shift: _angle(found[15:-15, 0], truth[15 + shift : 75 + shift, 0]).mean() for shift in range(-3, 4)}
    assert min(errors, key=errors.__getitem__) == 0


def test_a_clean_motion_stays_as_it_is():
    truth = _swing(SECONDS)
    assert _angle(_smooth(SECONDS, truth), truth)[10:-10].max() < 0.02


@pytest.mark.parametrize("axis", [(0.0, 1.0, 0.0), (0.6, 0.0, 0.8)])
@pytest.mark.parametrize("angle", [2.5, 3.1])
def test_one_wrong_frame_is_overruled(axis, angle):
    """Such as a body that faces backwards in one frame."""
    rotations = _swing(SECONDS)
    rotations[40, 0] = rotations[40, 0] @ transform.Rotation.from_rotvec(angle * np.array(axis)).as_matrix()
    error = _angle(_smooth(SECONDS, rotations), _swing(SECONDS))
    assert error[40, 0] < 0.05 and error[10:-10].max() < 0.1


def test_a_kick_is_not_taken_for_a_wrong_frame():
    angle = 2.5 / (1 + np.exp(-(SECONDS - 1.5) / 0.03))  # Radians; most of it within 0.15 s.
    truth = transform.Rotation.from_rotvec(np.outer(angle, [0, 0, 1])).as_matrix()[:, None]
    assert _angle(_smooth(SECONDS, truth), truth).max() < 0.3


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("at", [0.0, 0.31, 0.6])
def test_a_kernel_reproduces_polynomials_at_uneven_times(degree, at):
    seconds = np.array([0.0, 0.03, 0.1, 0.12, 0.2, 0.31, 0.33, 0.4, 0.52, 0.6])
    factors = smoothing.kernel(seconds, at, degree=degree)
    for power in range(degree + 1):
        assert factors @ seconds**power == pytest.approx(at**power, abs=1e-9)


@pytest.mark.parametrize("seconds", [[0.0], [0.0, 0.04], [0.0, 5.0, 10.0]])
def test_few_or_lonely_samples_stay_as_they_are(seconds):
    values = np.arange(len(seconds), dtype=float)[:, None] ** 2 + 1
    np.testing.assert_allclose(smoothing.smooth_values(np.array(seconds), values), values, atol=1e-6)


def test_values_lose_noise_at_uneven_times_and_weights_stay_positive():
    rng = np.random.default_rng(1)
    seconds = np.cumsum(rng.uniform(0.01, 0.06, 120))
    truth = np.sin(2 * np.pi * seconds)
    found = smoothing.smooth_values(seconds, truth + rng.normal(0, 0.1, 120))
    assert np.abs(found - truth)[10:-10].mean() < 0.5 * 0.08
    weights = rng.dirichlet([0.2, 0.2], 120)
    smooth = smoothing.smooth_values(seconds, weights, smoothing.WEIGHT_WIDTH_S, degree=0)
    assert smooth.min() >= 0
    np.testing.assert_allclose(smooth.sum(1), 1)


def test_a_gap_is_bridged_on_the_shortest_way():
    first, second = _swing(np.array([0.0, 0.2]))
    middle = smoothing.between_rotations(first, second, 0.5)
    np.testing.assert_allclose(_angle(first, middle), _angle(middle, second), atol=1e-6)
    np.testing.assert_allclose(_angle(first, middle), _angle(first, second) / 2, atol=1e-6)
    np.testing.assert_allclose(smoothing.between_rotations(first, second, 0.0), first, atol=1e-9)
    np.testing.assert_allclose(smoothing.between_rotations(first, second, 1.0), second, atol=1e-9)


def test_neighbours_of_a_gap():
    observed = np.array([True, True, False, False, True])
    assert [smoothing.neighbours(observed, at) for at in range(5)] == [(0, 0), (1, 1), (1, 4), (1, 4), (4, 4)]
    with pytest.raises(ValueError, match="Sample 1 of 2"):
        smoothing.neighbours(np.array([True, False]), 1)
