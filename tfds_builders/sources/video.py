"""Frames of a video by their number, decoded once and in order.

Nothing seeks: to show one frame a decoder must decode all since the last key frame, and what OpenCV lands on when it
seeks depends on the file. Frames that are not asked for are decoded (others are predicted from them) but not converted.
"""

import itertools
import pathlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from multibodies_jax import untrusted

_NOTHING = "{} is missing, no video or damaged: it has no frame that can be decoded."


class VideoError(ValueError):
    """A video of which nothing can be decoded; the message names the file."""


def stated_frames(path: pathlib.Path) -> int:
    """How many frames a video says that it has, which may be more than can be decoded; 0 where it cannot be opened."""
    try:
        video = _open(path)
    except VideoError:
        return 0
    try:
        return int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()


def frames(path: pathlib.Path, wanted: Sequence[int]) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """Decodes a video once, from its beginning to the last wanted frame, in one thread.

    Args:
      path: the video file.
      wanted: numbers of frames, ascending; the first frame is 0.

    Yields:
      The number of a wanted frame, and the frame in RGB. A video that ends earlier, or is damaged further on, yields
      those before: what is missing is for the caller to count.

    Raises:
      ValueError: `wanted` is not ascending, or starts below 0.
      VideoError: the file cannot be opened, or holds no frame.
    """
    if any(b <= a for a, b in itertools.pairwise([-1, *wanted])):
        raise ValueError(f"The wanted frames must be ascending numbers from 0, got {list(wanted)[:10]}.")
    video = _open(path)
    try:
        position = -1
        for index in wanted:
            while position < index:
                if not video.grab():
                    if position < 0:
                        raise VideoError(_NOTHING.format(path))
                    return
                position += 1
            good, image = video.retrieve()
            if good:
                yield index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    finally:
        video.release()


def _open(path: pathlib.Path) -> cv2.VideoCapture:
    """Opens a video with one thread.

    Raises:
      VideoError: it is not there, or a list of other files, which the decoder would open.
    """
    try:
        untrusted.check_video(path)
    except untrusted.FileError as error:
        raise VideoError(str(error)) from error
    except OSError as error:
        raise VideoError(_NOTHING.format(path)) from error
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
