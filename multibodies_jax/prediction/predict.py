r"""Predicts weighted bodies for people in images: files with all hypotheses, and pictures of the chosen ones.

    multibodies predict --config=CONFIG --workdir=DIR --images=FILE_OR_FOLDER [--people=coco.json] --n=5

A saved prediction is quantized to another n without the network:

    multibodies requantize FILE.npz --n=3 --out=OTHER.npz
"""

import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from multibodies_jax import io
from multibodies_jax.batch import Inputs
from multibodies_jax.body import smpl
from multibodies_jax.data import images
from multibodies_jax.export import camera
from multibodies_jax.geometry import boxes
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.prediction import overlays, people, prediction_file, predictor
from multibodies_jax.prediction.evidence import evidence
from multibodies_jax.training import provenance

Infer = Callable[[Inputs], Hypotheses]

HEADER = (
    f"{'person':24} {'keypoints':>9} {'box':>9} {'all M: px':>10} {'best px':>8}   probability and error of each body"
)


def predict(
    config: Any,
    workdir: str | os.PathLike,
    images: str | os.PathLike,
    people: str | os.PathLike | None,
    n: int,
    out: str | os.PathLike | None = None,
    focal_px: float | None = None,
) -> int:
    """Predicts for every person of one image or of a folder of images with the model of a work directory.

    Args:
      config: of the experiment.
      workdir: holds its checkpoints.
      images: an image, or a folder of images.
      people: COCO-style file with boxes and keypoints; None for one person per image, whose box is the image.
      n: bodies per person, 1 to M.
      out: folder for `<image>_<person>.npz` and `.png`; None for WORKDIR/predictions.
      focal_px: focal length of all images, pixels; None takes it from EXIF, or else assumes one (`camera.lens`).

    Returns:
      How many images or people could not be used; each was named on the way.

    Raises:
      ValueError: no model, image or people file as expected, or n is not in 1..M.
    """
    workdir = pathlib.Path(workdir)
    model = predictor.load(workdir, config)
    if not 1 <= n <= model.num_hypotheses:
        raise ValueError(f"--n={n}; choose 1 to {model.num_hypotheses}, the number of hypotheses M of this model.")
    if not model.sees_pixels and people is None:
        raise ValueError("This model sees keypoints, not pixels: give them with --people=FILE (COCO-style JSON).")
    metadata = provenance.metadata(config, model.bodies)
    return predict_people(
        model.infer,
        model.bodies.smpl,
        images,
        people,
        n,
        workdir / "predictions" if out is None else out,
        settings=model.quantizer_settings(),
        crop_size=model.crop_size,
        about={name: metadata[name] for name in ("body", "body_fingerprint", "commit")}
        | {"trained_on": trained_on(config.data.sets)},
        crop=config.data.crop,
        contrast_stretch=config.data.get("contrast_stretch", False),
        focal_px=focal_px,
    )


def predict_people(
    infer: Infer,
    body: smpl.SmplModel,
    images_path: str | os.PathLike,
    people_path: str | os.PathLike | None,
    n: int,
    out: str | os.PathLike,
    settings: Mapping[str, Any],
    crop_size: int,
    about: Mapping[str, str],
    crop: str = "exact",
    contrast_stretch: bool = False,
    focal_px: float | None = None,
) -> int:
    """As `predict`, with a function that infers instead of a config and a work directory.

    Args:
      infer: the inputs of one person -> scored hypotheses (1, M).
      body: for the pictures.
      images_path: an image, or a folder of images.
      people_path: COCO-style file, or None.
      n: bodies per person.
      out: folder for the results, made if absent.
      settings: of `quantize.select`.
      crop_size: side of the network's image, pixels; 0 for a network that sees the keypoints only.
      about: `body`, `body_fingerprint`, `commit` and `trained_on`, for the files.
      crop: how the network's images were made, `exact` or `spin` (`augment.training_example`).
      contrast_stretch: of `spin` crops.
      focal_px: as in `predict`.

    Returns:
      The number of failures.

    Raises:
      ValueError: the images or the people file as a whole cannot be used.
    """
    files = images.find_images(images_path)
    stems = [file.stem for file in files]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(f"Several images are named {twice}; results are named after them, so rename all but one.")
    listed = None if people_path is None else people.read_people(people_path)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    see = functools.partial(evidence, crop_size=crop_size, crop=crop, contrast_stretch=contrast_stretch)
    paths = {file.name: file for file in files}
    lenses: dict[str, str] = {}
    failures = done = 0
    print(HEADER)
    for name, image, person, index, problem in _tasks(files, listed):
        if problem is None:
            try:
                lens = camera.lens_of_photo(paths[name], focal_px)
                lenses[name] = lens.sentence((image.shape[1], image.shape[0]))
                record = _predict_person(infer, see, image, person, index, n, settings, {**about, "image": name}, lens)
            except ValueError as error:
                problem = f"{name}, person {index}: {error}"
        if problem is not None:
            failures += 1
            print(f"skipped {problem}", file=sys.stderr, flush=True)
            continue
        stem = out / f"{pathlib.Path(name).stem}_{index}"
        prediction_file.save(stem.with_name(stem.name + ".npz"), record)
        _save_picture(stem.with_name(stem.name + ".png"), overlays.draw(image, record, body))
        print(row(stem.name, record), flush=True)
        done += 1
    for sentence in dict.fromkeys(lenses.values()):
        names = [name for name in lenses if lenses[name] == sentence]
        print(f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {sentence}")
    print(f"{done} people written to {out}" + (f"; {failures} skipped (named above)" if failures else ""))
    return failures


def trained_on(sets: Sequence[str]) -> str:
    """What a result says about its model's training data."""
    return "synthetic people" if all(name.startswith("synthetic") for name in sets) else ", ".join(sets)


def _tasks(files: Sequence[pathlib.Path], listed: dict[str, people.ImagePeople] | None) -> Iterator[tuple]:
    """Yields (image name, image, person, index, None), or (name, None, None, None, problem) for what cannot be used."""
    for path in files:
        entry = people.whole_image() if listed is None else listed.get(path.name)
        if entry is None:
            yield path.name, None, None, None, f"{path.name}: not among the images of the people file"
            continue
        if not entry.people:
            yield path.name, None, None, None, f"{path.name}: the people file lists nobody in it"
            continue
        try:
            image = images.load_image(path)
        except images.ImageError as error:
            yield path.name, None, None, None, str(error)
            continue
        size = (image.shape[1], image.shape[0])
        if entry.size not in (None, size):
            problem = f"{path.name}: the image has {size} pixels, the people file says {entry.size}"
            yield path.name, None, None, None, problem + "; its boxes and keypoints are for another image"
            continue
        for index, person in enumerate(entry.people):
            yield path.name, image, person, index, None


def _predict_person(infer, see, image, person, index, n, settings, about, lens) -> prediction_file.Record:
    size = (image.shape[1], image.shape[0])
    box = people.box(person, size)
    inputs = see(image, person, box, f"{about['image']}/{index}")
    hypotheses = jax.tree.map(lambda leaf: leaf[0], infer(inputs))
    facts = about | {"image_size": np.array(size), "person": np.array(index)}
    return prediction_file.choose(prediction_file.describe(hypotheses, person, box, facts, lens), n, settings)


def _save_picture(path: pathlib.Path, picture: Any) -> None:
    with io.replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def row(name: str, record: prediction_file.Record) -> str:
    """One line of the table under `HEADER`: keypoints and box of a person, errors in pixels, probabilities of the bodies."""
    known = int((record["keypoints"][:, 2] > 0).sum())
    errors = record["all_error_px"]
    mean, best = (f"{errors.mean():.1f}", f"{errors.min():.1f}") if known else ("-", "-")
    each = zip(record["probabilities"], record["error_px"], strict=True)
    bodies = "  ".join(f"{p:.2f} ({e:.1f} px)" if known else f"{p:.2f}" for p, e in each)
    side = f"{boxes.SIDE * float(record['box_scale']):.0f} px"
    return f"{name:24} {known:>9} {side:>9} {mean:>10} {best:>8}   {bodies}"
