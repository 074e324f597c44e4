"""Motions at uneven times become motions at a constant rate. Whole files are read back in `video_test`."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.prediction import video_files


def _turning(seconds):
    """Every joint turns evenly, and the body moves evenly."""
    turns = Rotation.from_rotvec(np.outer(seconds, (0, 0, 2.0))).as_matrix()
    return np.repeat(turns[:, None], 24, axis=1), np.outer(seconds, (1.0, 0.5, 0.0)) + np.array([0, 0, 4.0])


def test_an_even_motion_at_uneven_times_is_even_at_a_constant_rate():
    seconds = 1.0 + np.array([0, 0.04, 0.08, 0.2, 0.24, 0.36, 0.4])
    motion = video_files.resample(seconds, *_turning(seconds), rate=25.0)
    expected = _turning(1.0 + np.arange(11) / 25)
    np.testing.assert_allclose(motion.rotations, expected[0], atol=1e-6)
    np.testing.assert_allclose(motion.translation, expected[1], atol=1e-6)


@pytest.mark.parametrize("frames", [1, 6])
def test_a_motion_at_the_rate_stays_as_it_is(frames):
    seconds = 2.0 + np.arange(frames) / 30
    rotations, translation = _turning(seconds)
    motion = video_files.resample(seconds, rotations, translation, rate=30.0)
    np.testing.assert_array_equal(motion.rotations, rotations)
    np.testing.assert_array_equal(motion.translation, translation)
