"""Examples of Human3.6M from the official archive: one recording after the other, each video decoded once."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax.geometry import boxes
from tfds_builders import archives, features, windows
from tfds_builders.archives import Skip
from tfds_builders.h36m import archive, fits
from tfds_builders.h36m import metadata as metadata_lib
from tfds_builders.h36m.archive import Recording
from tfds_builders.sources import video

# Published with a video that cannot be used; its poses are fine. SPIN's lists leave it out too.
CORRUPT = frozenset({("S11", "Directions", "54138969")})
# Published with poses that are shifted against the images. Root-relative metrics suffer little: kept, as SPIN does.
DRIFTED = frozenset({("S9", "Greeting"), ("S9", "SittingDown 1"), ("S9", "Waiting 1")})

BOX_SCALE = 0.9  # The boxes are generous (SPIN's preprocessing).
# Videos are longer than their poses by up to this; five of S9 by far more, of which the poses of the end are missing.
_MAX_LONGER = 17
_MAX_PROJECTION_PX = 1.0  # The published 2D and 3D positions agree to 3e-5 pixels.


@dataclasses.dataclass(frozen=True)
class Task:
    """A recording, for one worker process.

    Attributes:
      recording: which.
      split: of the set.
      protocol_hint: the feature.
      offset: the video's frame that shows pose i is i + offset.
      metadata: path of `metadata.xml`, None where it is missing.
      options: of the builder.
    """

    recording: Recording
    split: str
    protocol_hint: str
    offset: int
    metadata: pathlib.Path | None
    options: Any

    def __str__(self) -> str:
        return f"h36m {self.split}, {self.recording}"


@dataclasses.dataclass(frozen=True)
class Absent:
    """A subject that the archive lacks."""

    subject: str


def example_id(subject: str, stem: str, camera: str, frame: int) -> str:
    """The id of an example; `frame` is the row of the poses, from 0."""
    return f"h36m/{subject}/{stem.replace(' ', '_')}/{camera}/{frame:06d}"


def is_drifted(name: str) -> bool:
    """Whether the 3D joints of an example (by its id) are shifted against its image."""
    _, subject, stem, *_ = name.split("/")
    return (subject, stem.replace("_", " ")) in DRIFTED


def is_corrupt(recording: Recording) -> bool:
    """Whether its video is known to be useless."""
    return (recording.subject, recording.stem, recording.camera) in CORRUPT


def make(task: Task | Absent) -> Iterator[dict[str, Any] | Skip]:
    """The examples of a recording; runs in a worker process."""
    if isinstance(task, Absent):
        yield Skip("a subject that the archive lacks, all its recordings", task.subject)
        return
    recording, step = task.recording, task.options.frame_step
    poses = archive.read_poses(recording.poses)
    frames = range(0, len(poses), step)
    if is_corrupt(recording):
        yield from _each("video known to be corrupt", recording, frames)
        return
    people = _People(task, poses)
    yield from people.notes
    if task.split == "train" and not people.has_keypoints:
        yield from _each(
            "no 2D joints, and no metadata.xml to project the 3D joints: training needs them", recording, frames
        )
        return
    if (stated := video.stated_frames(recording.video)) > len(poses) + _MAX_LONGER:
        yield Skip(
            "a video far longer than its poses: kept, as far as there are poses",
            f"{recording}, {stated} and {len(poses)}",
        )
    usable = {}
    for frame, box in zip(frames, archive.read_boxes(recording.boxes, frames), strict=True):
        if not np.all(np.isfinite(box)):
            yield from _each("no box", recording, [frame])
        elif not people.is_finite(frame):
            yield from _each("a joint that is not finite", recording, [frame])
        else:
            usable[frame + task.offset] = box
    try:
        for index, image in video.frames(recording.video, list(usable)):
            yield people.example(index - task.offset, image, usable.pop(index))
    except video.VideoError:
        yield from _each("unreadable video", recording, [index - task.offset for index in usable])
        return
    yield from _each("the video ends before the poses", recording, [index - task.offset for index in usable])


class _People:
    """What is known about the person in every frame of a recording, except the image and the box."""

    def __init__(self, task: Task, poses: Float[np.ndarray, "F 17 3"]):
        self._task, self._poses = task, poses
        self.notes: list[Skip] = []  # What is missing or odd without costing examples, for the report.
        recording = task.recording
        metadata = metadata_lib.read(task.metadata) if task.metadata else None
        self._intrinsics = metadata.intrinsics(recording.camera) if metadata else None
        self._keypoints = self._read_keypoints(metadata)
        self._fit = None
        if task.options.h36m_fits:
            try:
                self._fit = fits.read(pathlib.Path(task.options.h36m_fits), recording, poses, metadata)
            except fits.FitError as error:
                self.notes.append(Skip(f"SMPL parameters of a recording: {error}", str(recording)))

    @property
    def has_keypoints(self) -> bool:
        """Whether the joints in the images are known."""
        return self._keypoints is not None

    def _read_keypoints(self, metadata: metadata_lib.Metadata | None) -> Float[np.ndarray, "F 17 2"] | None:
        recording = self._task.recording
        if recording.keypoints is None and metadata is not None:
            self.notes.append(Skip("2D joints of a recording: no file, the 3D joints are projected", str(recording)))
            return metadata.project(self._poses, recording.camera).astype(np.float32)
        if recording.keypoints is None:
            self.notes.append(Skip("2D joints of a recording: no file", str(recording)))
            return None
        keypoints = archive.read_keypoints(recording.keypoints, len(self._poses))
        if metadata is not None:
            errors = np.linalg.norm(metadata.project(self._poses, recording.camera) - keypoints, axis=-1)
            if not np.nanmedian(errors) <= _MAX_PROJECTION_PX:
                reason = "2D joints of a recording: kept, but the 3D joints do not project to them"
                self.notes.append(Skip(reason, f"{recording}, {np.nanmedian(errors):.1f} px"))
        return keypoints

    def is_finite(self, frame: int) -> bool:
        """Whether all joints of a frame are numbers."""
        keypoints = self._keypoints
        return bool(np.all(np.isfinite(self._poses[frame]))) and (
            keypoints is None or bool(np.all(np.isfinite(keypoints[frame])))
        )

    def example(self, frame: int, image: np.ndarray, box: Float[np.ndarray, "4"]) -> dict[str, Any]:
        """One example. The box is the published one, scaled down."""
        recording = self._task.recording
        center, scale = (box[:2] + box[2:]) / 2, BOX_SCALE * float(np.max(box[2:] - box[:2])) / boxes.SIDE
        pixels, window = windows.cut(image, center, scale)
        joints3d, there = archive.to_j24(self._poses[frame])
        fields: dict[str, Any] = {"joints3d": joints3d, "joints3d_valid": there}
        if self._keypoints is not None:
            fields |= {"kp2d": archive.to_j24(self._keypoints[frame])[0], "kp2d_valid": there}
        if self._intrinsics is not None:
            fields |= {"intrinsics": self._intrinsics, "intrinsics_valid": 1.0}
        if self._fit is not None and self._fit.valid[frame]:
            fields |= {"pose": self._fit.pose[frame], "betas": self._fit.betas[frame], "smpl_valid": 1.0}
        return features.example(
            example_id=example_id(recording.subject, recording.stem, recording.camera, frame),
            image=archives.stored_image(pixels, self._task.options, self._task.split),
            window=window,
            image_size=[image.shape[1], image.shape[0]],
            box_center=center,
            box_scale=scale,
            dataset="h36m",
            protocol_hint=self._task.protocol_hint,
            **fields,
        )


def _each(reason: str, recording: Recording, frames: Any) -> Iterator[Skip]:
    for frame in frames:
        yield Skip(reason, f"{recording} frame {frame}")
