"""Motions at uneven times become motions at a constant rate. Whole files are read back in `video_test`."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.prediction import video_files
from multibodies_jax.tracking import frames
from tests.helpers import made_videos, moving_people


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


@pytest.mark.parametrize("count", [1, 6])
def test_a_motion_at_the_rate_stays_as_it_is(count):
    seconds = 2.0 + np.arange(count) / 30
    rotations, translation = _turning(seconds)
    motion = video_files.resample(seconds, rotations, translation, rate=30.0)
    np.testing.assert_array_equal(motion.rotations, rotations)
    np.testing.assert_array_equal(motion.translation, translation)


@pytest.mark.parametrize("rate", [29.97003, 59.94006, 65.5349, 65.5351, 119.987, 239.7606, 655.36, 6553.49, 9999.5])
def test_every_rate_becomes_one_that_opencv_can_write(tmp_path, rate):
    written = video_files.writable_rate(rate)
    assert written == pytest.approx(rate, abs=5e-4 if rate < 65.5 else 5e-3 if rate < 655 else 0.5)
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), written, (64, 48))
    assert writer.isOpened()
    writer.release()


@pytest.mark.slow
def test_the_overlay_of_a_fast_video_is_written(tmp_path):
    clip = made_videos.write(tmp_path / "clip.mp4", made_videos.counted(8, (320, 240)), fps=120)
    overlay, source = tmp_path / "overlay.mp4", frames.inspect(clip)
    nobody = {"betas": np.zeros((1, 10)), "focal_px": np.array(400.0), "frames": np.array([100])}
    video_files.write_overlay(overlay, source, [(nobody, 0)], moving_people.files()[0], 119.987)
    assert frames.inspect(overlay).frames_per_second == pytest.approx(119.99)
    assert sum(1 for _ in frames.frames(frames.inspect(overlay))) == 8
    with pytest.raises(frames.VideoError, match=r"pixels with 1e\+06 frames per second here"):
        video_files.write_overlay(overlay, source, [(nobody, 0)], moving_people.files()[0], 1e6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "overlay.mp4"]
