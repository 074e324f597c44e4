r"""Predicts weighted bodies for the people in photographs, and writes them as files, pictures, scenes and pages.

    multibodies predict photo.jpg                                       # the detector and the embedded weights
    multibodies predict clip.mp4 --n=3                                  # a video: `video.predict_video`
    multibodies predict FOLDER --workdir=runs/demo --people=coco.json --n=3

For every person PHOTO_K.npz (all hypotheses) and PHOTO_K.png; for every photograph PHOTO.glb and PHOTO.html; and
index.html, which links them; a/PHOTO.jpg and b/PHOTO.jpg have theirs in sub-folders a and b. A saved prediction is
quantized to another n without the network:

    multibodies requantize FILE.npz --n=3 --out=OTHER.npz

The hypotheses have the weights that the model's config names, or those of --weights.
"""

import concurrent.futures
import dataclasses
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from multibodies_jax import detection, devices, io
from multibodies_jax.data import images
from multibodies_jax.export import camera, glb, page
from multibodies_jax.geometry import boxes
from multibodies_jax.hypotheses import weight_kinds
from multibodies_jax.prediction import detected, export_files, people, prediction, prediction_file, result_files
from multibodies_jax.prediction.predictor import Asked, Predictor
from multibodies_jax.tracking import frames
from multibodies_jax.training import multihost

HEADER = (
    f"{'person':24} {'keypoints':>9} {'box':>9} {'all M: px':>10} {'best px':>8}   probability and error of each body"
)


def predict(
    model: Predictor,
    images_paths: str | os.PathLike | Sequence[str | os.PathLike],
    people_path: str | os.PathLike | None = None,
    n: int = 5,
    out: str | os.PathLike = "predictions",
    focal_px: float | int | None = None,
    refine: bool = True,
    detector: detection.Detector | None = None,
) -> int:
    """Predicts for every person of photographs and writes the results.

    Of several processes (`multihost`) each predicts and writes its share of the photographs and videos, into one folder; the
    first one writes the index page.

    Args:
      model: from `predictor.load` or `pretrained.load_pretrained`.
      images_paths: images, folders of images, or videos (`video.predict_video`).
      people_path: boxes and keypoints of a pose estimator, a file or a folder (`people.read_people`); None asks the
        detector, or, where `Predictor.needs_detector` is false, takes one person per image, whose box is the image.
      n: bodies per person, 1 to M.
      out: folder of the results, made if absent.
      focal_px: of the photographs, pixels; None takes EXIF's focal length, or assumes and says one.
      refine: fit the hypotheses to the visible keypoints (`Predictor.refine`).
      detector: finds people where it is needed; None is MoveNet (`multibodies fetch detector`).

    Returns:
      How many images, videos, people and entries of the people file could not be used; each was named on the way. People without
      known keypoints, whom a model that reads keypoints cannot predict, are named and do not count.

    Raises:
      ValueError: no image or people file as expected, n is not in 1..M, a focal length of no photograph, or results that would be
        lost or replace an input (`result_files.folders`).
      DetectorMissing: the detector's files are not there; the message says the command that gets them.
      OSError: a video is not there, or the results cannot be written.
    """
    if not 1 <= n <= model.num_hypotheses:
        raise ValueError(f"--n={n}; choose 1 to {model.num_hypotheses}, the number of hypotheses M of this model.")
    if focal_px is not None and not 0 < focal_px < math.inf:  # NaN is refused as well.
        raise ValueError(f"--focal={focal_px}; give the focal length of the photographs, pixels above 0.")
    given = [images_paths] if isinstance(images_paths, (str, os.PathLike)) else images_paths
    videos = list(dict.fromkeys(path for path in given if frames.is_video(path)))
    paths = [path for path in given if path not in videos]
    files = list(dict.fromkeys(file for path in paths for file in images.find_images(path)))
    if absent := [str(path) for path in videos if not pathlib.Path(path).exists()]:
        raise FileNotFoundError(f"{', '.join(absent)}: not there. Give videos, images, or folders of images.")
    out = pathlib.Path(out)
    results = result_files.folders([*files, *map(pathlib.Path, videos)], out, apart=people_path is None)
    listed = None if people_path is None else people.read_people(people_path)
    if listed is None:
        detector = detected.detector_for(model.needs_detector, detector)
    for folder in (out, *results.values()):
        folder.mkdir(parents=True, exist_ok=True)
    there = result_files.for_people(results)
    earlier = sorted(
        path.relative_to(out).as_posix() for paths in there.values() for path in paths if path.suffix == ".npz"
    )
    first, share = multihost.is_first(), slice(jax.process_index(), None, jax.process_count())
    multihost.on_first(lambda: None, "predict")  # Together: at their ends, the next time, some may be late.
    if earlier and first:
        names = ", ".join(earlier[:3]) + (", ..." if len(earlier) > 3 else "")
        print(f"{out} has {len(earlier)} predictions of these names ({names}): they are replaced.", file=sys.stderr)
    unplaced = () if listed is None or not first else listed.problems
    failures, empty = len(unplaced), 0
    if people_path is not None:
        people.tell_skipped(unplaced, people_path)
    for path in videos[share]:
        from multibodies_jax.prediction import video  # Late: photographs need no tracks, and are there sooner.

        folder = results[pathlib.Path(path)]
        try:
            failures += video.predict_video(model, path, folder, n, focal_px, refine, detector, people_path, listed)
        except frames.VideoError as error:
            if len(videos) + len(files) == 1:
                raise
            failures += 1
            tqdm.write(f"skipped {error}", file=sys.stderr)
    if not files:
        (failures,) = _total([failures])
        if failures and first:
            print(f"{failures} skipped (named above)")
        return failures
    for path in paths if first else ():
        if left := images.passed_over(path):
            names = ", ".join(file.name for file in left[:10]) + (", ..." if len(left) > 10 else "")
            note = f"not read in {path}, {len(left)} files without the ending of an image: {names}"
            print(f"{note}. Save images as .jpg or .png; name videos one by one.", file=sys.stderr)
    if first:
        print(HEADER, flush=True)
    own = files[share]
    written = _Writer(model, n, refine, out)
    with written:
        for number, path in enumerate(tqdm(own, desc="predict", unit="image", disable=len(own) < 2 or not first)):
            place = number * jax.process_count() + jax.process_index()
            photograph = _Photograph(path, results[path], place, result_files.of_the_same(path, there[path]))
            for image, index, person, problem in _people(path, listed, detector):
                if problem is not None or person is None or image is None:
                    failures += 1
                    tqdm.write(f"skipped {problem}", file=sys.stderr)
                elif not model.sees_pixels and not np.any(person.keypoints[:, 2] > 0):
                    empty += 1
                    tqdm.write(f"left out {path.name}, person {index}: without known keypoints", file=sys.stderr)
                else:
                    try:
                        lens = camera.lens_of_photo(path, focal_px)
                    except ValueError as error:
                        failures += 1
                        tqdm.write(f"skipped {path.name}, person {index}: {error}", file=sys.stderr)
                        continue
                    photograph.asked.append(Asked(image, person, path.name, index, lens))
            written.take(photograph)
    failures, empty, done = _total([failures + written.failures, empty, written.done])
    entries = _every(written.entries)
    if not first:
        return failures
    if entries:
        page.write_index(entries, out / result_files.INDEX)
    told = f"; {failures} skipped (named above)" if failures else ""
    told += f"; {empty} without known keypoints left out" if empty else ""
    told += f"; weights of the hypotheses: {weight_kinds.KINDS[model.quantizer_settings()['weights']]}" if done else ""
    print(f"{done} people written to {out}{told}")
    if entries:
        print(f"Open {out / result_files.INDEX} in a browser, or the .glb files in Blender.")
    return failures


def _total(counts: Sequence[int]) -> list[int]:
    """The sums of the counts of all processes."""
    every = multihost.gathered([np.array(counts)])
    return [int(total) for total in np.sum([own for (own,) in every], axis=0)]


def _every(entries: Mapping[int, page.Entry]) -> list[page.Entry]:
    """The entries of all processes on the index page, in the order of the photographs."""
    if jax.process_count() == 1:
        return list(entries.values())
    arrays = (
        array
        for number, one in entries.items()
        for array in (np.array(number), np.array([one.link, one.title, one.text]), one.picture)
    )
    found = {}
    for own in multihost.gathered([*arrays]):
        for number, words, picture in zip(own[::3], own[1::3], own[2::3], strict=True):
            link, title, text = words.tolist()
            found[int(number)] = page.Entry(link, title, text, picture)
    return [entry for _, entry in sorted(found.items(), key=lambda item: item[0])]


@dataclasses.dataclass(frozen=True)
class _Photograph:
    """A photograph: the folder of its results, its number among all, what an earlier prediction wrote, whom to predict."""

    path: pathlib.Path
    folder: pathlib.Path
    number: int
    earlier: list[pathlib.Path]
    asked: list[Asked] = dataclasses.field(default_factory=list)


class _Writer:
    """Predicts the people of photographs, as many at once as there are devices, and writes what was found while it goes on.

    Attributes:
      entries: of the index page by the photograph's number, once the context has ended.
      done: people who were written.
      failures: people who could not be used.
    """

    def __init__(self, model: Predictor, n: int, refine: bool, out: pathlib.Path):
        self.entries: dict[int, page.Entry] = {}
        self.done, self.failures = 0, 0
        self._model, self._n, self._refine, self._out = model, n, refine, out
        self._waiting: list[_Photograph] = []
        self._explained = False
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._futures: dict[int, concurrent.futures.Future[page.Entry]] = {}

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._pool:
            if kind is None:
                self._predict()
        if kind is None:
            self.entries = {number: future.result() for number, future in self._futures.items()}

    def take(self, photograph: _Photograph) -> None:
        """The next photograph; its people are predicted once there are enough for all devices."""
        self._waiting.append(photograph)
        if sum(len(one.asked) for one in self._waiting) >= devices.count():
            self._predict()

    def _predict(self) -> None:
        asked = [person for photograph in self._waiting for person in photograph.asked]
        answers = iter(self._model.persons(asked, self._n, self._refine))
        for photograph in self._waiting:
            self._write(photograph, [next(answers) for _ in photograph.asked])
        self._waiting.clear()

    def _write(self, photograph: _Photograph, answers: Sequence[prediction.Prediction | ValueError]) -> None:
        for asked, answer in zip(photograph.asked, answers, strict=True):
            if isinstance(answer, ValueError):
                self.failures += 1
                tqdm.write(f"skipped {asked.name}, person {asked.index}: {answer}", file=sys.stderr)
        found = [answer for answer in answers if isinstance(answer, prediction.Prediction)]
        if not found:
            return
        _tell(found, self._explained)
        self._explained = self._explained or str(found[0].record["focal_source"]) == "assumed"
        if self._futures:  # One photograph waits at most; what went wrong stops the program.
            next(reversed(self._futures.values())).result()
        self._futures[photograph.number] = self._pool.submit(_write, found, photograph, self._out)
        self.done += len(found)


def _tell(found: Sequence[prediction.Prediction], again: bool) -> None:
    """Prints the rows of the people of one photograph, and where its focal length is from (in short if `again`)."""
    for one in found:
        tqdm.write(row(one.name, one.record))
        if one.warnings:
            tqdm.write(f"  {one.name} is implausible: {one.warnings}", file=sys.stderr)
    record = found[0].record
    lens = camera.Lens(float(record["focal_px"]), str(record["focal_source"]))
    tqdm.write(f"  {record['image']}: {lens.sentence(record['image_size'].tolist(), again)}.")


def _write(found: Sequence[prediction.Prediction], photograph: _Photograph, out: pathlib.Path) -> page.Entry:
    """Writes all files of one photograph into its folder; returns its place on the index page, which lies in `out`."""
    image, folder = photograph.asked[0].image, photograph.folder
    for one in found:
        one.save(folder / f"{one.name}.npz")
        with io.replacing(folder / f"{one.name}.png") as temporary:
            one.picture().save(temporary, format="PNG", compress_level=3)  # In half the time of 6, a tenth larger.
    result_files.remove_rest(
        photograph.earlier, [folder / f"{one.name}{suffix}" for one in found for suffix in (".npz", ".png")]
    )
    made = prediction.scene_of(found)
    target = folder / f"{pathlib.Path(made.image).stem}.html"
    glb.write(made, target.with_suffix(".glb"))
    page.write(made, image, target)
    return dataclasses.replace(export_files.entry(made, image, target), link=target.relative_to(out).as_posix())


def _people(
    path: pathlib.Path, listed: Mapping[str, people.ImagePeople] | None, detector: detection.Detector | None
) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"] | None, int, people.Person | None, str | None]]:
    """Yields (image, index, person, None) for each person, or (image, 0, None, problem) for what cannot be used."""
    entry = people.whole_image() if listed is None else listed.get(path.name)
    if entry is None:
        named = f"{path.stem}_keypoints.json, {path.stem}.json"
        told = f"not among the images of the people file (OpenPose's and MMPose's files are named after their image: {named})"
        yield None, 0, None, f"{path.name}: {told}"
        return
    for problem in entry.problems:
        yield None, 0, None, f"{path.name}: {problem}"
    if not entry.people:
        if not entry.problems:
            yield None, 0, None, f"{path.name}: the people file lists nobody in it"
        return
    try:
        image = images.load_image(path)
    except images.ImageError as error:
        yield None, 0, None, str(error)
        return
    size = (image.shape[1], image.shape[0])
    if entry.size not in (None, size):
        problem = f"{path.name}: the image has {size} pixels, the people file says {entry.size}"
        yield image, 0, None, problem + "; its boxes and keypoints are for another image"
        return
    if listed is None and detector is not None:
        entry, notes = detected.find(image, detector)
        if not entry.people:
            yield image, 0, None, f"{path.name}: {' '.join(notes)} Give keypoints with --people=FILE."
            return
        for note in notes:
            tqdm.write(f"  {path.name}: {note}", file=sys.stderr)
    for index, person in enumerate(entry.people):
        yield image, index if person.index is None else person.index, person, None


def row(name: str, record: prediction_file.Record) -> str:
    """One line of the table under `HEADER`: keypoints and box of a person, errors in pixels, probabilities of the bodies."""
    known = int((record["keypoints"][:, 2] > 0).sum())
    errors = record["all_error_px"]
    mean, best = (f"{errors.mean():.1f}", f"{errors.min():.1f}") if known else ("-", "-")
    each = zip(record["probabilities"], record["error_px"], strict=True)
    bodies = "  ".join(f"{p:.2f} ({e:.1f} px)" if known else f"{p:.2f}" for p, e in each)
    side = f"{boxes.SIDE * float(record['box_scale']):.0f} px"
    return f"{name:24} {known:>9} {side:>9} {mean:>10} {best:>8}   {bodies}"
