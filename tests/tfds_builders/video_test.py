"""Frames of videos by number, and variables of CDF files."""

import cv2
import numpy as np
import pytest

from tests.helpers import h36m_fixture
from tfds_builders.sources import cdf, video


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A video of moving noise, and all of its frames as a plain loop decodes them."""
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 50, (64, 48))
    for _ in range(40):  # Several key frames.
        small = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        writer.write(cv2.resize(small, (64, 48)))
    writer.release()
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return path, frames


@pytest.mark.parametrize("wanted", [range(40), range(0, 40, 5), [0], [3, 4, 39], []])
def test_frames_are_those_of_a_plain_loop(wanted, noise):
    path, frames = noise
    found = list(video.frames(path, wanted))
    assert [index for index, _ in found] == list(wanted)
    for index, image in found:
        np.testing.assert_array_equal(image, frames[index])


def test_a_video_that_is_over_yields_what_it_has(noise):
    assert [index for index, _ in video.frames(noise[0], [38, 39, 40, 50])] == [38, 39]


@pytest.mark.parametrize("wanted", [[3, 3], [4, 2], [-1, 2]])
def test_frames_are_wanted_in_order(wanted, noise):
    with pytest.raises(ValueError, match="must be ascending numbers from 0"):
        list(video.frames(noise[0], wanted))


@pytest.mark.parametrize("content", [None, b"", b"no video at all", "half"])
def test_a_file_without_frames_is_named(content, noise, tmp_path):
    path = tmp_path / "broken.mp4"
    if content is not None:
        whole = noise[0].read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(video.VideoError, match=r"broken\.mp4 is missing, no video or damaged"):
        list(video.frames(path, [0, 1]))


def test_a_list_of_videos_is_not_followed(noise, tmp_path):
    (tmp_path / "other.mp4").write_bytes(noise[0].read_bytes())
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n", encoding="utf-8")
    assert video.stated_frames(tmp_path / "a.mp4") == 0
    with pytest.raises(video.VideoError, match="is no video but a list of others"):
        list(video.frames(tmp_path / "a.mp4", [0, 1]))


@pytest.mark.parametrize("compress", [0, 6])
def test_cdf_files_give_what_was_written(compress, tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 96)).astype(np.float32)
    h36m_fixture.write_cdf(tmp_path / "a.cdf", values, compress=compress)
    read = cdf.read(tmp_path / "a.cdf", "Pose")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values[None])


def test_cdf_files_cut_anywhere_are_damaged_or_whole_but_never_wrong(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    h36m_fixture.write_cdf(tmp_path / "a.cdf", values)
    whole = (tmp_path / "a.cdf").read_bytes()
    damaged = 0
    for size in range(0, len(whole), 61):
        (tmp_path / "cut.cdf").write_bytes(whole[:size])
        try:
            np.testing.assert_array_equal(cdf.read(tmp_path / "cut.cdf", "Pose"), values[None])
        except cdf.CdfError as error:
            damaged += 1
            assert "cut.cdf" in str(error)
    assert damaged > 10


def test_a_variable_that_is_not_there_is_named(tmp_path):
    h36m_fixture.write_cdf(tmp_path / "a.cdf", np.zeros((2, 3)), name="Angles")
    with pytest.raises(cdf.CdfError, match="no variable 'Pose'; it has Angles"):
        cdf.read(tmp_path / "a.cdf", "Pose")
