"""Every frame of a video comes once, in order, upright and at its time, and what is wrong with a file is said."""

import gc
import weakref

import cv2
import numpy as np
import pytest

from multibodies_jax.tracking import frames
from tests.helpers import garbage, made_videos


def _read(path):
    notes = []
    return list(frames.frames(frames.inspect(path), notes)), notes


def test_frames_come_in_order_with_their_times(tmp_path):
    path = made_videos.write(tmp_path / "a.mp4", made_videos.counted(30), fps=25)
    video = frames.inspect(path)
    assert (video.size, video.frames_per_second, video.stated_frames) == (made_videos.SIZE, 25, 30)
    found, notes = _read(path)
    assert [made_videos.number(frame.image) for frame in found] == list(range(30))
    assert [frame.number for frame in found] == list(range(30))
    np.testing.assert_allclose([frame.seconds for frame in found], np.arange(30) / 25, atol=1e-6)
    np.testing.assert_allclose(found[0].image[4, 4], (220, 20, 20), atol=12)  # Red comes first.
    assert not notes


def test_a_variable_frame_rate_keeps_its_times_and_a_pause_is_said(tmp_path):
    path = made_videos.write(tmp_path / "a.mp4", made_videos.counted(8), fps=25)
    unit = made_videos.time_scale(path) / 1000
    steps_ms = np.array([40, 20, 100, 40, 2000, 40, 60, 40])
    made_videos.vary_rate(path, [round(step * unit) for step in steps_ms])
    found, notes = _read(path)
    expected = np.concatenate([[0], np.cumsum(steps_ms[:-1])]) / 1000
    np.testing.assert_allclose([frame.seconds for frame in found], expected, atol=2e-3)
    assert notes == ["a.mp4 pauses for 2.0 s before frame 5."]


@pytest.mark.parametrize("quarters, corner", [(1, (4, -5)), (2, (-5, -5)), (3, (-5, 4))])
def test_the_video_of_a_turned_phone_is_upright(tmp_path, quarters, corner):
    path = made_videos.turn(made_videos.write(tmp_path / "a.mp4", made_videos.counted(5)), quarters)
    video = frames.inspect(path)
    width, height = made_videos.SIZE
    assert video.size == ((height, width) if quarters % 2 else (width, height))
    found, _ = _read(path)
    assert len(found) == 5
    for frame in found:
        assert frame.image.shape[1::-1] == video.size
        np.testing.assert_allclose(frame.image[corner], (220, 20, 20), atol=12)


def test_more_than_8_bits_are_reduced(tmp_path):
    path = tmp_path / "deep.mkv"
    options = [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 10.0, (64, 48), options)
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video of more than 8 bits")
    for k in range(4):
        writer.write(np.full((48, 64), 256 * 50 * (k + 1) + 77, np.uint16))
    writer.release()
    found, _ = _read(path)
    assert [frame.image.dtype for frame in found] == [np.uint8] * 4
    np.testing.assert_allclose([frame.image.mean() for frame in found], [50, 100, 150, 200], atol=2)


def test_a_video_that_was_cut_off_gives_what_is_there(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(20)]
    path = made_videos.write(tmp_path / "a.avi", images, codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, notes = _read(path)
    assert 5 <= len(found) <= 12
    assert len(notes) == 1 and f"a.avi ends after frame {len(found) - 1}" in notes[0]
    for frame, image in zip(found[:5], images, strict=False):
        assert np.abs(frame.image.astype(float) - image).mean() < 60 < np.abs(255.0 - image).mean()


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 100, b"\0\0\0\x18ftypisom" + bytes(500)])
def test_a_file_without_a_frame_is_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(frames.VideoError, match=r"a\.mp4 is "):
        frames.inspect(path)


@pytest.mark.parametrize(
    "start", [b"ffconcat version 1.0\n", b"\xef\xbb\xbf#EXTM3U\n", b" <?xml version='1.0'?><MPD>", b"v=0\n"]
)
def test_a_list_of_videos_is_not_followed(tmp_path, start):
    made_videos.write(tmp_path / "other.mp4", made_videos.counted(3))
    (tmp_path / "a.mp4").write_bytes(start + b"file other.mp4\n")
    with pytest.raises(frames.VideoError, match=r"a\.mp4 is no video but a list of others"):
        frames.inspect(tmp_path / "a.mp4")


def test_a_file_that_vanishes_or_loses_its_frames_is_refused(tmp_path):
    path = made_videos.write(tmp_path / "a.mp4", made_videos.counted(3))
    video = frames.inspect(path)
    path.write_bytes(b"")
    with pytest.raises(frames.VideoError, match="no frame can be read"):
        list(frames.frames(video))


def test_one_frame_is_held_at_a_time(tmp_path):
    path = made_videos.write(tmp_path / "a.mp4", made_videos.counted(30))
    images = []
    with garbage.only_new():
        for frame in frames.frames(frames.inspect(path)):
            images.append(weakref.ref(frame.image))
            gc.collect()
            assert sum(image() is not None for image in images) <= 2


@pytest.mark.parametrize(
    "name, expected", [("clip.MP4", True), ("a/b.mov", True), ("photo.jpg", False), ("mp4", False)]
)
def test_videos_are_known_by_their_suffix(name, expected):
    assert frames.is_video(name) == expected
