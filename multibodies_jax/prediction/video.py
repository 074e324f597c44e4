"""Predicts weighted bodies for the people of a video: who is who, sets that keep their order, smoothed, as files.

For every person CLIP_K.npz (`video_files.MEANINGS`), CLIP_K.glb and CLIP_K_body_R.bvh, and CLIP_overlay.mp4.

The video is decoded twice, once to predict and once to draw, and one frame is held at a time. While it is predicted,
what is kept of a person is a window of a few frames; the decided bodies, about 1 kB each, wait on disk, and are read as
a whole when a person's files are written.
"""

import dataclasses
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from multibodies_jax import detection, devices
from multibodies_jax.export import camera, weighting
from multibodies_jax.prediction import (
    detected,
    people,
    prediction,
    prediction_file,
    predictor,
    result_files,
    sequences,
    video_files,
)
from multibodies_jax.tracking import frames, tracks

_FEWEST_FRAMES = 5  # Of a person who counts; detectors see people in single frames where there are none.


@runtime_checkable
class Model(Protocol):
    """What of a `predictor.Predictor` is used."""

    @property
    def bodies(self) -> Any:
        """With `files`, the body."""
        ...

    @property
    def num_hypotheses(self) -> int:
        """M."""
        ...

    @property
    def needs_detector(self) -> bool:
        """Whether a detector has to find the people whom no file lists."""
        ...

    def persons(
        self, asked: Sequence[predictor.Asked], n: int, refine: bool
    ) -> Sequence[prediction.Prediction | ValueError]:
        """n weighted bodies of each person, or why a person cannot be used."""
        ...


def predict_video(
    model: Model,
    path: str | os.PathLike,
    out: str | os.PathLike,
    n: int,
    focal_px: float | int | None = None,
    refine: bool = True,
    detector: detection.Detector | None = None,
    people_path: str | os.PathLike | None = None,
    listed: people.PeopleOfImages | None = None,
) -> int:
    """Predicts for everybody in a video and writes the results; says what was bridged, cut short or left out.

    What an earlier prediction of the video wrote for its people is replaced, and removed where there are fewer now.

    Args:
      model: from `predictor.load` or `pretrained.load_pretrained`.
      path: the video.
      out: folder of the results, made if absent.
      n: bodies per person, 1 to M.
      focal_px: of the upright frames, pixels; None assumes and says one.
      refine: fit the hypotheses of each frame to its visible keypoints.
      detector: finds people in each frame; None is MoveNet where `model.needs_detector`, and else takes one person, whose box
        is the frame.
      people_path: COCO-style file instead of the detector; the names of its images end in the number of the frame, from
        0: `clip_000012.png`.
      listed: what `people.read_people` read there, if it did; its `problems` without an image are the caller's to tell.

    Returns:
      How many entries of the people file cannot be used, and people were seen in too few frames, or 1 if no person is left;
      each was named on the way, or counted after the first few.

    Raises:
      VideoError: no frame can be decoded, or no focal length of such a video.
      PeopleError: the people file cannot be used, or is of another video.
      ValueError: n is not in 1..M.
      DetectorMissing: the detector's files are not there; the message says the command that gets them.
      OSError: the results cannot be written.
    """
    if not 1 <= n <= model.num_hypotheses:
        raise ValueError(f"--n={n}; choose 1 to {model.num_hypotheses}, the number of hypotheses M of this model.")
    video = frames.inspect(path)
    try:
        lens = camera.lens(video.size, focal_px)
    except ValueError as error:
        raise frames.VideoError(f"{path}: {error}") from error
    by_frame, failures = (None, 0) if people_path is None else _by_frame(people_path, video.size, listed)
    if by_frame is None:
        detector = detected.detector_for(model.needs_detector, detector)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    earlier = result_files.of_the_same(video.path, result_files.for_people({video.path: out})[video.path])
    with tempfile.TemporaryDirectory(prefix=".video-", dir=out) as scratch:
        found = _Analysis(model, video, lens, n, refine, pathlib.Path(scratch))
        notes: list[str] = []
        bar = tqdm(frames.frames(video, notes), desc="predict", unit="frame", total=video.stated_frames or None)
        for frame in bar:
            found.take(frame, _people(frame, by_frame, detector))
        found.predict()
        for note in notes:
            print(note, file=sys.stderr)
        failures += _beyond_the_end(by_frame or {}, found)
        return failures + _write(found, out, earlier)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """A frame whose people wait to be predicted: who is followed in it, and who of them is seen."""

    number: int
    seconds: float
    alive: tuple[int, ...]
    asked: dict[int, predictor.Asked]


class _Analysis:
    """What is known of a video so far: the followers of its people, and counts."""

    def __init__(
        self, model: Model, video: frames.Video, lens: camera.Lens, n: int, refine: bool, scratch: pathlib.Path
    ):
        self.model, self.video, self.lens = model, video, lens
        self.followers: dict[int, sequences.Follower] = {}
        self.about: Mapping[str, np.ndarray] = {}
        self.problems: dict[int, list[str]] = {}
        self.implausible: dict[int, list[str]] = {}
        self.count, self.last_s = 0, 0.0
        self._n, self._refine, self._scratch = n, refine, scratch
        self._tracker = tracks.Tracker()
        self._waiting: list[_Frame] = []

    @property
    def frames_per_second(self) -> float:
        """The mean rate of the frames."""
        return (self.count - 1) / self.last_s if self.count > 1 else self.video.frames_per_second

    def take(self, frame: frames.Frame, persons: Sequence[people.Person]) -> None:
        """The people of the next frame; they are predicted once there are enough for all devices."""
        numbers = self._tracker.update(frame.seconds, [_seen(person, self.video.size) for person in persons])
        name, alive = self.video.path.name, tuple(self._tracker.alive)
        present = dict(zip(numbers, persons, strict=True))
        asked = {
            number: predictor.Asked(frame.image, present[number], name, number, self.lens)
            for number in alive
            if number in present
        }
        self._waiting.append(_Frame(frame.number, frame.seconds, alive, asked))
        self.count, self.last_s = frame.number + 1, frame.seconds
        if sum(len(one.asked) for one in self._waiting) >= devices.count():
            self.predict()

    def predict(self) -> None:
        """Predicts the people of the frames that wait, and links them to those before."""
        asked = [person for frame in self._waiting for person in frame.asked.values()]
        answers = iter(self.model.persons(asked, self._n, self._refine))
        for frame in self._waiting:
            records = {number: self._record(frame.number, number, next(answers)) for number in frame.asked}
            for number in frame.alive:
                record = records.get(number)
                if number not in self.followers:
                    if record is None:
                        continue  # Nothing to begin with.
                    files = self.model.bodies.files
                    self.followers[number] = sequences.Follower(number, self._n, files.smpl, self._scratch)
                self.followers[number].push(frame.number, frame.seconds, record)
        self._waiting.clear()

    def _record(
        self, frame: int, number: int, answer: prediction.Prediction | ValueError
    ) -> prediction_file.Record | None:
        if isinstance(answer, ValueError):
            self.problems.setdefault(number, []).append(f"frame {frame}: {answer}")
            return None
        record = answer.record
        if record["warnings"]:
            self.implausible.setdefault(number, []).append(f"frame {frame}: {record['warnings']}")
        self.about = self.about or {key: record[key] for key in record if not key.startswith("all_")}
        return record


def _write(found: _Analysis, out: pathlib.Path, earlier: Sequence[pathlib.Path]) -> int:
    """Writes the files of everybody who was seen long enough; the number of those who were not.

    Those of an earlier prediction of the video are replaced, and removed where there are no new ones.
    """
    stem, body, rate = found.video.path.stem, found.model.bodies.files, found.frames_per_second
    fewest = min(_FEWEST_FRAMES, found.count)
    used, failures, written = [], 0, []
    for number, follower in sorted(found.followers.items()):
        problems = found.problems.get(number, [])
        if problems:
            print(f"track {number}: {len(problems)} frames are not used ({problems[0]})", file=sys.stderr)
        if doubts := found.implausible.get(number, []):
            print(f"track {number}: {len(doubts)} frames are implausible ({doubts[0]})", file=sys.stderr)
        if follower.observed < fewest:
            failures += 1
            print(
                f"skipped track {number}: seen in {follower.observed} frames; {fewest} or more count as a person",
                file=sys.stderr,
            )
            continue
        sequence = follower.finish()
        person = len(used)
        about = {**found.about, "person": np.array(person)}
        table = video_files.arrays(sequence, body, found.lens, found.video, rate, about) | {"person": np.array(person)}
        written += video_files.write_person(out / f"{stem}_{person}", sequence, table, body)
        used.append((table, person))
        print(row(f"{stem}_{person}", table, sequence.taken_over), flush=True)
    unusable = sorted(set(found.problems) - set(found.followers))
    for number in unusable:
        failures += 1
        print(f"skipped track {number}: {found.problems[number][0]}", file=sys.stderr)
    if not used:
        print(
            f"{found.video.path.name}: nobody is followed in its {found.count} frames. Give keypoints with --people=FILE, "
            "or a video that shows people larger.",
            file=sys.stderr,
        )
        return max(failures, 1)
    result_files.remove_rest(earlier, written)
    overlay = out / f"{stem}_overlay.mp4"
    see = f"{overlay}, and the .glb files in Blender"
    try:
        video_files.write_overlay(overlay, found.video, used, body, rate)
    except frames.VideoError as error:
        see = "the .glb files in Blender"
        old = f" {overlay.name} is of an earlier prediction." if overlay.exists() else ""
        name = found.video.path.name
        print(f"The people of {name} are written; only the overlay is missing: {error}{old}", file=sys.stderr)
    told = f"; weights of the hypotheses: {weighting.in_words(dict(found.about))}"
    print(f"{found.video.path.name}: {found.lens.sentence(found.video.size)}{told}.")
    print(f"{len(used)} people in {found.count} frames written to {out}; see {see}.")
    return failures


def row(name: str, table: video_files.Arrays, taken_over: int = 0) -> str:
    """What a reader should know of one person: frames, what was bridged, errors and probabilities.

    Args:
      name: of the person's files.
      table: from `video_files.arrays`.
      taken_over: as `sequences.Sequence`.
    """
    numbers, bridged = table["frames"], table["frames"][table["interpolated"]]
    errors = table["error_px"][:, 0]
    known = errors[np.isfinite(errors)]
    text = f"{name}: frames {numbers[0]} to {numbers[-1]}"
    text += f", {len(bridged)} bridged ({_ranges(bridged.tolist())})" if len(bridged) else ""
    text += f", {taken_over} with new explanations" if taken_over else ""
    text += f", most probable body {known.mean():.1f} px from the keypoints" if len(known) else ""
    return text + "; mean probabilities " + " ".join(f"{p:.2f}" for p in table["probabilities"].mean(axis=0))


def _ranges(numbers: Sequence[int]) -> str:
    """3, 4, 5, 9 as `3-5, 9`; the first few."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    texts = [str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups]
    return ", ".join(texts[:5]) + (", ..." if len(texts) > 5 else "")


def _people(
    frame: frames.Frame, listed: Mapping[int, people.ImagePeople] | None, detector: detection.Detector | None
) -> Sequence[people.Person]:
    """The people of a frame who can be used."""
    if listed is not None:
        return listed[frame.number].people if frame.number in listed else ()
    # Whoever is too small or cut off in this frame leaves a gap, which is bridged, and reported with the person.
    return detected.find(frame.image, detector)[0].people


def _seen(person: people.Person, size: Sequence[int]) -> tracks.Seen:
    known = person.keypoints[person.keypoints[:, 2] > 0, :2]
    if person.bbox is not None:
        box = np.array(person.bbox, np.float64)
    elif len(known) > 1:
        low = known.min(axis=0)
        box = np.concatenate([low, np.maximum(known.max(axis=0) - low, 1)]).astype(np.float64)
    else:
        box = np.array([0, 0, *size], np.float64)
    return tracks.Seen(person.keypoints, box)


def _by_frame(
    path: str | os.PathLike, size: tuple[int, int], listed: people.PeopleOfImages | None
) -> tuple[dict[int, people.ImagePeople], int]:
    """The people of a people file by the numbers of their frames, and how many entries cannot be used."""
    by_frame: dict[int, people.ImagePeople] = {}
    unplaced = ()
    if listed is None:
        listed = people.read_people(path)
        unplaced = listed.problems
    problems = [*unplaced, *(problem for entry in listed.values() for problem in entry.problems)]
    people.tell_skipped(problems, path)
    if listed.counted_from_1:
        print(f"{path} counts the frames from 1, as MMPose's demos do: its frame 1 is frame 0 here.", file=sys.stderr)
    for name, entry in listed.items():
        digits = re.findall(r"\d+", pathlib.PurePosixPath(name).stem)
        if not digits:
            raise people.PeopleError(
                f"{path}: for a video the names of the images end in the number of the frame, from 0 (clip_000012.png); "
                f"got {name!r}."
            )
        number = int(digits[-1]) - (name in listed.counted_from_1)
        if number in by_frame:
            raise people.PeopleError(f"{path}: two images are of frame {number}; the second is {name!r}.")
        if entry.size not in (None, size):
            raise people.PeopleError(
                f"{path}: {name!r} has {entry.size} pixels, the upright video {size}; the keypoints are of another video."
            )
        by_frame[number] = entry
    return by_frame, len(problems)


def _beyond_the_end(by_frame: Mapping[int, people.ImagePeople], found: _Analysis) -> int:
    """How many people are listed in frames that the video does not have; says so."""
    beyond = sorted(number for number, entry in by_frame.items() if number >= found.count and entry.people)
    count = sum(len(by_frame[number].people) for number in beyond)
    if beyond:
        print(
            f"skipped {count} people whom the people file lists in {len(beyond)} frames at or beyond the end of "
            f"{found.video.path.name}: its frames have the numbers 0 to {found.count - 1}, the file has {_ranges(beyond)}. Is it "
            "of another video, or does it count from 1?",
            file=sys.stderr,
        )
    return count
