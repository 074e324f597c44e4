"""The names of what `predict` writes: where it goes, what may not be overwritten, and what an earlier prediction left.

Of a photograph STEM these are STEM_K.npz, STEM_K.png, STEM.glb and STEM.html, of a video STEM_K.npz, STEM_K.glb,
STEM_K_body_R.bvh and STEM_overlay.mp4; and `INDEX`, once.
"""

import collections
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from tqdm import tqdm

from multibodies_jax.prediction import prediction_file
from multibodies_jax.tracking import frames

INDEX = "index.html"
_OF_PHOTOGRAPHS = r"_[0-9]+\.(npz|png)|\.(glb|html)"  # What follows the stem in the names of the results.
_OF_VIDEOS = r"_[0-9]+\.(npz|glb)|_[0-9]+_body_[0-9]+\.bvh|_overlay\.mp4"
_NUMBERED = re.compile(r"(.+)_[0-9]+(\.npz|\.png|\.glb|_body_[0-9]+\.bvh)")  # Of people; img_2_0.npz is of img_2.
_LONGEST_BYTES = 255  # Of a name, on most file systems.
_LONGEST_ENDINGS = {False: "_999999.npz", True: "_9999_body_9999.bvh"}  # Of photographs and of videos.


def folders(files: Sequence[pathlib.Path], out: pathlib.Path, apart: bool = True) -> dict[pathlib.Path, pathlib.Path]:
    """The folder of the results of each photograph or video, which are named after it.

    That is `out` or, where two files of different folders have one name, sub-folders of it that mirror the folders of all
    files: the results of a/photo.jpg and b/photo.jpg lie in OUT/a and OUT/b.

    Args:
      files: photographs and videos.
      out: folder of all results.
      apart: whether files of one name can be told apart; a people file names them without their folders.

    Raises:
      ValueError: two files of one folder have one name without the ending, or files cannot be told apart; a result would
        replace one of the files, another photograph, the result of another file or the index page; or its name would be
        too long.
    """
    found = _folders(files, out, apart)
    _refuse_long_names(files)
    _refuse_index(found, out)
    _refuse_common_results(found)
    _refuse_lost_files(found)
    return found


def _folders(files: Sequence[pathlib.Path], out: pathlib.Path, apart: bool) -> dict[pathlib.Path, pathlib.Path]:
    parents = {file: pathlib.Path(os.path.abspath(file)).parent for file in files}
    stems = collections.Counter(file.stem for file in files)
    if not (twice := sorted(stem for stem, count in stems.items() if count > 1)):
        return dict.fromkeys(files, out)
    places = collections.Counter((folder, file.stem) for file, folder in parents.items())
    if rivals := sorted(f"{folder}/{stem}" for (folder, stem), count in places.items() if count > 1):
        raise ValueError(f"Several files are named {rivals}; results are named after them, so rename all but one.")
    if not apart:
        raise ValueError(
            f"Several files are named {twice}, and a people file knows images by their names without folders: rename all "
            "but one, or predict each folder with a people file of its own."
        )
    common = os.path.commonpath(list(parents.values()))
    print(f"Several files are named {twice}: results lie in folders of {out} like theirs.", file=sys.stderr)
    return {file: out / folder.relative_to(common) for file, folder in parents.items()}


def _refuse_long_names(files: Sequence[pathlib.Path]) -> None:
    for file in files:
        most = _LONGEST_BYTES - len(_LONGEST_ENDINGS[frames.is_video(file)])
        if (length := len(os.fsencode(file.stem))) > most:
            raise ValueError(
                f"{file}: its results are named after it, and a name has at most {_LONGEST_BYTES} bytes: without its ending "
                f"it has {length}, and at most {most} leave room for theirs. Give it a shorter name."
            )


def _refuse_index(found: Mapping[pathlib.Path, pathlib.Path], out: pathlib.Path) -> None:
    """Refuses a photograph whose page would be the page that links all pages."""
    for file, folder in found.items():
        if folder == out and not frames.is_video(file) and f"{file.stem}.html".lower() == INDEX:
            raise ValueError(
                f"{file}: the page of this photograph would be {INDEX}, the page that links all pages: rename the photograph."
            )


def _refuse_common_results(found: Mapping[pathlib.Path, pathlib.Path]) -> None:
    """Refuses clip.mp4 beside clip_0.jpg: both have clip_0.glb."""
    photographs = {(folder, file.stem): file for file, folder in found.items() if not frames.is_video(file)}
    for file, folder in found.items():
        if frames.is_video(file):
            for (other, stem), photograph in photographs.items():
                if other == folder and re.fullmatch(rf"{re.escape(file.stem)}_[0-9]+", stem):
                    raise ValueError(
                        f"{file} and {photograph} would both have the result {folder / stem}.glb: rename one of them, or "
                        "predict them into different folders."
                    )


def _refuse_lost_files(found: Mapping[pathlib.Path, pathlib.Path]) -> None:
    """Refuses results that would replace one of the files, or a picture that no prediction made."""
    inside = collections.defaultdict(set)
    for file in found:
        for place in (file, os.path.realpath(file)):  # A link is replaced as well as what it leads to.
            inside[os.path.realpath(os.path.dirname(place) or ".")].add(os.path.basename(place))
    there = for_people(found)
    for file, folder in found.items():
        pattern = re.compile(re.escape(file.stem) + f"({_OF_VIDEOS if frames.is_video(file) else _OF_PHOTOGRAPHS})")
        for name in sorted(filter(pattern.fullmatch, inside[os.path.realpath(folder)])):
            raise ValueError(_would_be_lost(folder / name, file, "is one of the files to predict"))
        for path in there[file]:
            if path.suffix == ".png" and path.with_suffix(".npz") not in there[file]:
                raise ValueError(_would_be_lost(path, file, "belongs to no prediction"))


def _would_be_lost(path: pathlib.Path, file: pathlib.Path, what: str) -> str:
    return (
        f"{path} {what}, and a result of {file} may have its name and replace it: give another folder with --out, or rename "
        "one of the two."
    )


def for_people(found: Mapping[pathlib.Path, pathlib.Path]) -> dict[pathlib.Path, list[pathlib.Path]]:
    """What is there under the names of results for the people of each photograph or video, whatever it is of.

    Args:
      found: from `folders`.
    """
    there = collections.defaultdict(list)
    for folder in dict.fromkeys(found.values()):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():  # Listed once: folders have many photographs.
            if match := _NUMBERED.fullmatch(path.name):
                there[folder, match[1], path.suffix].append(path)
    suffixes = {False: (".npz", ".png"), True: (".npz", ".glb", ".bvh")}
    return {
        file: [path for suffix in suffixes[frames.is_video(file)] for path in there[folder, file.stem, suffix]]
        for file, folder in found.items()
    }


def of_the_same(file: pathlib.Path, there: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """What an earlier prediction of this photograph or video wrote for its people.

    A file belongs to it where the .npz with its number names the photograph or video; what is of another one, or of none
    that can be read, does not.

    Args:
      file: the photograph or video.
      there: its part of `for_people`.
    """
    there = list(there)
    own = {path.stem for path in there if path.suffix == ".npz" and prediction_file.source_of(path) == file.name}
    person = {path: re.sub("_body_[0-9]+$", "", path.stem) if path.suffix == ".bvh" else path.stem for path in there}
    found = [path for path in there if person[path] in own]
    # A scene beside a page is that of a photograph: CLIP_0.glb of CLIP_0.jpg.
    return [path for path in found if path.suffix != ".glb" or not path.with_suffix(".html").exists()]


def remove_rest(earlier: Iterable[pathlib.Path], written: Iterable[pathlib.Path]) -> None:
    """Removes, and names, what an earlier prediction wrote and the present one did not: people who are no longer found.

    Args:
      earlier: from `of_the_same`, before anything was written.
      written: the results for people now.
    """
    rest = sorted(set(earlier) - set(written))
    for path in rest:
        path.unlink(missing_ok=True)
    if rest:
        names = ", ".join(path.name for path in rest[:5]) + (", ..." if len(rest) > 5 else "")
        tqdm.write(f"Removed from {rest[0].parent}, as the new prediction has none of these: {names}", file=sys.stderr)
