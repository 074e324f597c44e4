"""Frames of a video, decoded once and in order, upright, with their times.

Nothing seeks: what a decoder lands on depends on the file. Times are the file's own, so a variable frame rate is as
recorded; where they do not increase, the stated rate continues them. Phones store how they were held as metadata, which
the decoder applies. More than 8 bits per channel are reduced to 8.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from multibodies_jax import untrusted

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".ogv")
"""Of the files that count as videos, in lower case."""

_FRAME_RATES = (0.1, 1000.0)  # Frames per second; a file that states anything else states nothing.
_ASSUMED_RATE = 30.0
_LONG_PAUSE_S = 1.0  # Between two frames; longer ones are reported.


class VideoError(ValueError):
    """A video of which nothing can be decoded, or that cannot be written; the message names the file."""


@dataclasses.dataclass(frozen=True)
class Video:
    """What a video states about itself.

    Attributes:
      path: the file.
      size: width, height of the upright frames, pixels.
      frames_per_second: as stated; `_ASSUMED_RATE` where the file states none.
      stated_frames: how many frames the file says that it has; 0 where it does not say, and more than can be decoded
        where it is damaged.
    """

    path: pathlib.Path
    size: tuple[int, int]
    frames_per_second: float
    stated_frames: int


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
      number: from 0.
      seconds: since the first frame.
      image: upright, RGB.
    """

    number: int
    seconds: float
    image: UInt8[np.ndarray, "H W 3"]


def is_video(path: str | os.PathLike) -> bool:
    """Whether a path has the suffix of a video."""
    return pathlib.Path(path).suffix.lower() in SUFFIXES


def inspect(path: str | os.PathLike) -> Video:
    """Opens a video and decodes its first frame.

    Raises:
      VideoError: the file is missing, or no frame of it can be decoded.
    """
    path = pathlib.Path(path)
    capture = _open(path)
    try:
        good, image = capture.read()
        if not good or image is None:
            raise VideoError(_nothing(path))
        rate = capture.get(cv2.CAP_PROP_FPS)
        stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    low, high = _FRAME_RATES
    return Video(
        path=path,
        size=(image.shape[1], image.shape[0]),
        frames_per_second=float(rate) if low <= rate <= high else _ASSUMED_RATE,
        stated_frames=int(stated) if 0 < stated < 1e9 else 0,
    )


def frames(video: Video, notes: list[str] | None = None) -> Iterator[Frame]:
    """Decodes a video from its beginning; at any time one frame is held.

    A video that is cut off or damaged yields the frames before the damage.

    Args:
      video: from `inspect`.
      notes: gets a sentence for everything that the reader of a result should know: where the video ended early, times
        that were repaired, and pauses.

    Raises:
      VideoError: no frame can be decoded any more.
    """
    notes = [] if notes is None else notes
    capture = _open(video.path)
    number, seconds, first_ms, repaired, pauses = 0, 0.0, 0.0, 0, []
    changed = ""
    try:
        while True:
            good, image = capture.read()
            if not good or image is None:
                break
            if (image.shape[1], image.shape[0]) != video.size:
                changed = f" because the frames change from {video.size} to {image.shape[1::-1]} pixels"
                break
            stamp_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            if number == 0:
                first_ms = stamp_ms if np.isfinite(stamp_ms) else 0.0
            else:
                before, seconds = seconds, (stamp_ms - first_ms) / 1000
                if not seconds > before:  # Also where it is not a number.
                    seconds = before + 1 / video.frames_per_second
                    repaired += 1
                if seconds - before > _LONG_PAUSE_S:
                    pauses.append(f"{seconds - before:.1f} s before frame {number}")
            yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            number += 1
    finally:
        capture.release()
    if not number:
        raise VideoError(_nothing(video.path))
    if changed or number < video.stated_frames - max(1, video.stated_frames // 50):
        of = f" of {video.stated_frames}" if video.stated_frames else ""
        cause = changed or ": the rest cannot be decoded"
        notes.append(f"{video.path.name} ends after frame {number - 1}{of}{cause}.")
    if repaired:
        notes.append(
            f"{video.path.name}: the times of {repaired} frames do not increase; the stated "
            f"{video.frames_per_second:g} frames per second continue them."
        )
    if pauses:
        notes.append(f"{video.path.name} pauses for {', '.join(pauses[:3])}{', ...' if len(pauses) > 3 else ''}.")


def _open(path: pathlib.Path) -> cv2.VideoCapture:
    if not path.is_file():
        raise VideoError(f"{path} is not there; give a video file.")
    try:
        untrusted.check_video(path)
    except (untrusted.FileError, OSError) as error:
        raise VideoError(str(error)) from error
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _nothing(path: pathlib.Path) -> str:
    return (
        f"{path} is no video, is damaged, or uses a codec that OpenCV cannot decode: no frame can be read. A conversion "
        f"with `ffmpeg -i {path.name} converted.mp4` often helps."
    )
