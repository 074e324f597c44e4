"""Predictions as files that other programs open: GLB, OBJ, PLY, BVH, CSV and HTML pages (docs/files.md).

Predictions of one photograph make one scene. `multibodies export` is the command (`export_command`).
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from multibodies_jax import untrusted
from multibodies_jax.body import body_files
from multibodies_jax.data import images
from multibodies_jax.export import camera, glb, meshes, page, scene, skeletons
from multibodies_jax.prediction import prediction_file, result_files

FORMATS = ("glb", "obj", "ply", "bvh", "html", "csv")
COLORS = ("body", "spread")
MOST_BODIES = 10  # On a page's slider.


def export(
    paths: Iterable[str | os.PathLike],
    format: str,
    body: body_files.BodyFiles,
    out: str | os.PathLike | None = None,
    n: int | None = None,
    photo: str | os.PathLike | None = None,
    focal_px: float | int | None = None,
    colors: str = "body",
) -> list[pathlib.Path]:
    """Writes predictions in one format; a scene, and a file, for each photograph (BVH: for each body).

    Two photographs differ in their names, or in the folders of their predictions.

    Args:
      paths: predictions, or folders of them; of a folder that `predict` wrote to (it has an index page) its sub-folders, too.
      format: one of `FORMATS`.
      body: that they were predicted with.
      out: a file where there is one to write, else a folder, with sub-folders like those of the predictions where names
        collide; None is the folder of the predictions of each photograph.
      n: another number of bodies per person; None is that of the file.
      photo: of a page: the photograph, or the folder that has it under its name; None looks beside the prediction and above.
      focal_px: of the photographs; None is that of the file.
      colors: of GLB and PLY: `body`, or `spread` over all hypotheses.

    Returns:
      The files written; of HTML from several photographs the last is `index.html`.

    Raises:
      PredictionError, SceneError: a file that is damaged, of another body, or does not go with the others.
      ValueError: n is not in 1..M; an unknown format or colouring, or one that the format does not have; no photograph, or
        one for several; several photographs for one file.
      OSError: a file cannot be written.
    """
    _check_flags(format, photo, colors)
    given = [pathlib.Path(path) for path in paths]
    records = _records(given)
    for path, record in records.items():
        check_body(path, record, body)
    groups = _by_photograph(records)
    if format == "html" and photo is not None and len(groups) > 1 and pathlib.Path(photo).is_file():
        raise ValueError(
            f"--photo={photo} is one photograph, and the predictions are of {len(groups)}: give the folder that has them."
        )
    targets = _targets(groups, format, out)
    index = _index(given, targets, out) if format == "html" and len(groups) > 1 else None
    written, entries = [], []
    for group, target in zip(groups, targets, strict=True):
        photo_path = _photo_of(group, groups, photo) if format == "html" else None
        counts = range(1, MOST_BODIES + 1) if format == "html" else ()
        spread = colors == "spread" or format == "html"
        made = make_scene([records[path] for path in group.paths], body, n, focal_px, counts, spread)
        lens = camera.Lens(made.focal_px, made.focal_source)
        print(f"{made.image}: {lens.sentence(made.image_size)}.")
        if photo_path is not None:
            picture = images.load_image(photo_path)
            page.write(made, picture, target)
            entries.append((entry(made, picture, target), target))
            written.append(target)
        else:
            written += _WRITERS[format](made, target, colors == "spread")
    if index is not None:
        linked = [dataclasses.replace(one, link=os.path.relpath(path, index.parent)) for one, path in entries]
        page.write_index(linked, index)
        written.append(index)
    return written


@dataclasses.dataclass(frozen=True)
class _Group:
    """The predictions of one photograph that lie in one folder."""

    folder: pathlib.Path
    image: str
    paths: list[pathlib.Path]


def _check_flags(format: str, photo: str | os.PathLike | None, colors: str) -> None:
    """Refuses formats and colours that there are not, and what a format does not read."""
    if format not in FORMATS:
        raise ValueError(f"There is no format {format!r}; the known ones are {', '.join(FORMATS)}.")
    if colors not in COLORS:
        raise ValueError(f"There are no colours by {colors!r}; the known ones are {', '.join(COLORS)}.")
    if colors != "body" and format not in ("glb", "ply"):
        raise ValueError(f"--colors={colors} is for the formats glb and ply; {format} does not have it: leave it out.")
    if photo is not None and format != "html":
        raise ValueError(f"--photo={photo} is for the format html; {format} shows no photograph: leave it out.")


def _by_photograph(records: Mapping[pathlib.Path, prediction_file.Record]) -> list[_Group]:
    """The predictions by their folder and the photograph that they name; images of one name in two folders are two."""
    groups: dict[tuple[str, str], _Group] = {}
    for path, record in records.items():
        image = str(record["image"])
        group = groups.setdefault((os.path.abspath(path.parent), image), _Group(path.parent, image, []))
        group.paths.append(path)
    return list(groups.values())


def _targets(groups: Sequence[_Group], format: str, out: str | os.PathLike | None) -> list[pathlib.Path]:
    """The file of each group; in `out`, where two would be one file, in sub-folders of it that mirror those of the groups.

    Raises:
      ValueError: several photographs for one file, or two whose files would be one.
    """
    if out is not None and pathlib.Path(out).suffix.lower() == f".{format}":
        if len(groups) > 1:
            raise ValueError(f"{len(groups)} photographs make as many files: give --out a folder, not {out}.")
        return [pathlib.Path(out)]
    one_file = format == "html"
    names = [
        f"{pathlib.Path(group.image).stem if len(group.paths) > 1 or one_file else group.paths[0].stem}.{format}"
        for group in groups
    ]
    folders = [group.folder if out is None else pathlib.Path(out) for group in groups]
    if out is not None and len(set(names)) < len(names):
        folders = [folder / place for folder, place in zip(folders, _places(groups), strict=True)]
    targets = [folder / name for folder, name in zip(folders, names, strict=True)]
    for target, count in collections.Counter(map(os.path.abspath, targets)).items():
        if count > 1:
            its = [
                str(group.paths[0])
                for group, path in zip(groups, targets, strict=True)
                if os.path.abspath(path) == target
            ]
            raise ValueError(
                f"{' and '.join(its)} are of different photographs, and would both be written to {target}: export them one "
                "after the other, with another --out for each."
            )
    return targets


def _places(groups: Sequence[_Group]) -> list[str]:
    """The folder of each group, relative to the one that holds them all."""
    folders = [os.path.abspath(group.folder) for group in groups]
    common = os.path.commonpath(folders)
    return [os.path.relpath(folder, common) for folder in folders]


def _index(
    given: Sequence[pathlib.Path], targets: Sequence[pathlib.Path], out: str | os.PathLike | None
) -> pathlib.Path:
    """The page that links all pages: in `out`, or the folder that holds them all.

    Raises:
      ValueError: without `out` that folder is neither one that was given nor one with a page; or a page has its name.
    """
    folders = [os.path.abspath(target.parent) for target in targets]
    root = os.path.commonpath(folders) if out is None else os.path.abspath(out)
    if out is None and root not in [*folders, *map(os.path.abspath, given)]:
        raise ValueError(
            f"The pages lie in several folders, and their index would lie in {root}, which is none of those given: give "
            "--out=FOLDER."
        )
    for target in targets:
        if os.path.abspath(target.parent) == root and target.name.lower() == result_files.INDEX:
            raise ValueError(
                f"The page of a photograph would be {target}, the page that links all pages: export that photograph alone."
            )
    return pathlib.Path(root if out is None else out) / result_files.INDEX


def _photo_of(group: _Group, groups: Sequence[_Group], photo: str | os.PathLike | None) -> pathlib.Path:
    """The photograph of a group; of a folder of photographs, first in the sub-folder that mirrors the group's own."""
    if photo is not None:
        mirrored = pathlib.Path(photo, _places(groups)[groups.index(group)])
        if (mirrored / pathlib.PurePosixPath(group.image).name).is_file():
            photo = mirrored
    return find_photo(group.image, group.paths[0], photo)


def make_scene(
    records: Sequence[prediction_file.Record],
    body: body_files.BodyFiles,
    n: int | None = None,
    focal_px: float | int | None = None,
    counts: Iterable[int] = (),
    vertex_spread: bool = False,
) -> scene.Scene:
    """The scene of the people of one photograph.

    Args:
      records: from `prediction_file.load` or `choose`.
      body: that they were predicted with.
      n: another number of bodies per person; None is that of each record.
      focal_px: another focal length of the photograph; None is that of the records.
      counts: numbers of bodies that a page's slider offers; those above M are left out.
      vertex_spread: as of `scene.build`.

    Raises:
      SceneError: see `scene.build`.
      PredictionError: the quantizer's settings in a record are damaged.
      ValueError: n is not in 1..M, or no focal length of such a photograph.
    """
    found, choices = [], []
    for record in records:
        if focal_px is not None:
            record = prediction_file.place(record, camera.lens(record["image_size"].tolist(), focal_px))
        record = record if n is None else prediction_file.choose_again(record, n)
        own = len(record.get("index", ()))
        wanted = [k for k in counts if k <= len(record["all_log_prior"]) and k != own]
        found.append(record)
        choices.append({k: _choice(prediction_file.choose_again(record, k)) for k in wanted})
    return scene.build(found, body.smpl, choices, vertex_spread)


def check_body(path: str | os.PathLike, record: Mapping[str, np.ndarray], body: body_files.BodyFiles) -> None:
    """Refuses a prediction of another body, by the fingerprint or, of files of format 1, by the description.

    Raises:
      PredictionError: it is of another body.
    """
    stored = str(record["body_fingerprint"])
    if stored != body.fingerprint if stored else str(record["body"]) != body.description:
        mark = f" (fingerprint {stored[:12]})" if stored else ""
        raise prediction_file.PredictionError(
            f"{path}: predicted with the body {record['body']!s}{mark}, but this is the {body.description} (fingerprint "
            f"{body.fingerprint[:12]}). Give the folder of its body files with --body.dir=DIR."
        )


def _records(paths: Iterable[str | os.PathLike]) -> dict[pathlib.Path, prediction_file.Record]:
    """The predictions, those of folders in the order of their names; each once. Tables of videos in folders are named and left out.

    Where `predict` put results into sub-folders, there is an index page above them.
    """
    found: dict[pathlib.Path, prediction_file.Record] = {}
    tables = 0
    for given in map(pathlib.Path, paths):
        inside = sorted(given.glob("[!.]*.npz")) if given.is_dir() else [given]
        if given.is_dir() and (given / result_files.INDEX).is_file():
            below = {path for path in given.rglob("*_[0-9]*.npz") if path.stem.rpartition("_")[2].isdigit()}
            inside += sorted(path for path in below - set(inside) if untrusted.visible(path, given))
        if not inside:
            raise ValueError(f"{given}: no .npz files in this folder; give one that `multibodies predict` wrote to.")
        if not inside[0].is_file():
            raise ValueError(f"{given}: no such file or folder.")
        for path in inside:
            try:
                found[path] = prediction_file.load(path)
            except prediction_file.VideoTableError as error:
                if not given.is_dir():
                    raise
                print(f"Left out: {error}")
                tables += 1
    if not found:
        raise ValueError(f"There are {tables} tables of videos (named above), and no predictions of photographs.")
    return found


def _choice(record: prediction_file.Record) -> scene.Choice:
    return scene.Choice(tuple(record["index"].tolist()), tuple(record["probabilities"].tolist()))


def find_photo(name: str, beside: pathlib.Path, given: str | os.PathLike | None) -> pathlib.Path:
    """The photograph of a prediction.

    Args:
      name: of the photograph, as the prediction states it; folders in it are left out.
      beside: the prediction, whose folder, its parent and the current folder are looked into.
      given: instead of these the photograph, or the folder that has it under its name.

    Raises:
      ValueError: it is not there.
    """
    plain = pathlib.PurePosixPath(name).name  # The name is from a file of others: it leads into no other folder.
    folders = [beside.parent, beside.parent.parent, pathlib.Path()] if given is None else [pathlib.Path(given)]
    paths = [folder / plain if folder.is_dir() else folder for folder in folders]
    for path in paths:
        if path.is_file():
            return path
    raise ValueError(f"The photograph {plain} is shown, and there is no {paths[0]}: give --photo=FILE_OR_FOLDER.")


def entry(made: scene.Scene, picture: UInt8[np.ndarray, "H W 3"], target: pathlib.Path) -> page.Entry:
    """The photograph's place on the index page."""
    best = ", ".join(f"{person.weighted()[0][2]:.0%}" for person in made.people)
    people = "1 person" if len(made.people) == 1 else f"{len(made.people)} people"
    text = f"{people}; probability of the first of {made.people[0].chosen} bodies: {best}"
    return page.Entry(target.name, made.image, text, page.thumbnail(made, picture))


def _write_glb(made: scene.Scene, target: pathlib.Path, spread: bool) -> list[pathlib.Path]:
    glb.write(made, target, spread)
    return [target]


def _write_obj(made: scene.Scene, target: pathlib.Path, spread: bool) -> list[pathlib.Path]:
    meshes.write_obj(made, target)
    return [target]


def _write_ply(made: scene.Scene, target: pathlib.Path, spread: bool) -> list[pathlib.Path]:
    meshes.write_ply(made, target, spread)
    return [target]


def _write_bvh(made: scene.Scene, target: pathlib.Path, spread: bool) -> list[pathlib.Path]:
    bodies = made.weighted()
    targets = [target.with_name(f"{target.stem}_{name}{target.suffix}") for name, *_ in bodies]
    targets = [target] if len(bodies) == 1 else targets
    for (_, _, body, _chance), path in zip(bodies, targets, strict=True):
        skeletons.write_bvh(body, path, made.frames_per_second)
    return targets


def _write_csv(made: scene.Scene, target: pathlib.Path, spread: bool) -> list[pathlib.Path]:
    skeletons.write_csv(made, target)
    return [target]


_WRITERS: dict[str, Callable[[scene.Scene, pathlib.Path, bool], list[pathlib.Path]]] = {
    "glb": _write_glb,
    "obj": _write_obj,
    "ply": _write_ply,
    "bvh": _write_bvh,
    "csv": _write_csv,
}
