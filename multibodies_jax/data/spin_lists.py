"""SPIN-format lists (`3dpw_test.npz`, `h36m_valid_protocol2.npz`, ...) and images as a source of examples, without building a set.

`read` gives the rows of a list; `open_set` joins them with the images and, for AH36M and A3DPW, with the authors' crops.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float, Int, UInt8

from multibodies_jax import io, untrusted
from multibodies_jax.data import image_layouts, images
from multibodies_jax.geometry import boxes

PREFIX = "spin/"  # Of the names of these sets: spin/3dpw_test, spin/3dpw_test_all+3dpw_amb3.
_GENDERS = {"m": 0, "f": 1}
_UNKNOWN_GENDER = -1
_PROBES = 20  # Rows whose images are looked for before a folder counts as another one.
_MAX_EXTENT = 10.0  # Metres; skeletons in millimetres are larger.
# Of the feature dictionary: name of a set and its index in tfds_builders.features.DATASETS.
_DATASETS = {"h36m": 1, "3dpw": 2, "mpi_inf_3dhp": 5, "lsp": 6, "hr-lspet": 7, "mpii": 8, "coco": 9}
_AMBIGUOUS = {"h36m": 3, "3dpw": 4}
# Factors between the boxes of Human3.6M's lists and its masks, whose sides are whole pixels: SPIN's, and those of lists of
# the same file names that came before them.
BOX_FACTORS = (0.9, 1.0)
_BOXED = "h36m"  # Beginning of the names of such lists.
_WHOLE_PX = 1e-3  # How far a whole number of pixels is from one, in float32 at worst.
# What lists of other projects (ProHMR, 4D-Humans) call what they have beside, in orders and units of their own.
_FOREIGN = {
    "part": ("keypoints_2d", "body_keypoints_2d", "extra_keypoints_2d"),
    "S": ("keypoints_3d", "body_keypoints_3d", "extra_keypoints_3d"),
    "pose": ("body_pose",),
    "shape": ("betas",),
}
_PROTOCOLS = {
    "h36m_valid_protocol1": "h36m_p1",
    "h36m_valid_protocol2": "h36m_p2",
    "3dpw": "3dpw",
    "mpi_inf_3dhp": "mpi_inf_3dhp",
}


_KEYS = (
    "imgname", "center", "scale", "part", "parts_openpose_s24", "S", "pose", "shape", "has_smpl", "gender",
)  # fmt: skip
_CROP_KEYS = ("imgname", "amb_center", "amb_scale")


class ListError(ValueError):
    """A list that cannot be used; the message names the file, the array and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a list; what it lacks is zeros, with confidence or `valid` 0.

    Attributes:
      stem: name of the file without its extension.
      imgname: images, relative to the dataset's root.
      center, scale: boxes, original pixels; side = 200 x scale. float64, because SPIN's rounding depends on it.
      kp2d: J24 in original pixels, with confidence.
      joints3d: J24 in metres, camera axes, with confidence.
      pose, betas: SMPL, axis-angle, root in the camera frame.
      smpl_valid: 1 where the row has `pose` and `betas`.
      gender: 0 male, 1 female, -1 unknown.
    """

    stem: str
    imgname: list[str]
    center: Float[np.ndarray, "N 2"]
    scale: Float[np.ndarray, "N"]
    kp2d: Float[np.ndarray, "N 24 3"]
    joints3d: Float[np.ndarray, "N 24 4"]
    pose: Float[np.ndarray, "N 24 3"]
    betas: Float[np.ndarray, "N 10"]
    smpl_valid: Float[np.ndarray, "N"]
    gender: Int[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.imgname)


def read(path: pathlib.Path) -> Rows:
    """Reads a SPIN-format list.

    Args:
      path: .npz with `imgname`, `center`, `scale`, and any of `part` or `parts_openpose_s24` (J24 in pixels), `S` (J24
        in metres), `pose` and `shape`, `has_smpl`, `gender`. Other arrays are not looked at, unless one has nearly the
        name of one of these that is not there.

    Raises:
      ListError: it is missing or damaged, is of another project, lacks an array, holds pickled objects, has arrays that do not fit together,
        numbers that are not finite, boxes without area or of two kinds, or 3D joints in millimetres.
    """
    arrays = _Arrays(path, _KEYS)
    arrays.refuse_foreign()
    names = arrays.texts("imgname")
    n = len(names)
    if n == 0:
        raise ListError(f"{path} has no rows.")
    center, scale = arrays.floats("center", (n, 2)), arrays.floats("scale", (n,))
    if np.any(bad := ~(scale > 0)):
        raise ListError(f"{path}: the box of row {bad.argmax()} has no area (scale {scale[bad.argmax()]}).")
    box_factor(path.stem, scale)
    kp2d = arrays.keypoints("parts_openpose_s24" if "parts_openpose_s24" in arrays else "part", (n, 24, 3))
    joints3d = arrays.keypoints("S", (n, 24, 4))
    extent = np.abs(joints3d[..., :3] - joints3d[:, 2:3, :3]).max(-1) * (joints3d[..., 3] * joints3d[:, 2:3, 3] > 0)
    if np.any(bad := extent.max(-1) > _MAX_EXTENT):
        raise ListError(
            f"{path}: S of row {bad.argmax()} reaches {extent[bad.argmax()].max():.0f} from the right hip; SPIN's lists are in metres. Divide "
            "millimetres by 1000."
        )
    with_smpl = "pose" in arrays and "shape" in arrays
    valid = arrays.floats("has_smpl", (n,)) if "has_smpl" in arrays else np.ones(n)
    return Rows(
        stem=path.stem,
        imgname=names,
        center=center,
        scale=scale,
        kp2d=kp2d,
        joints3d=joints3d,
        pose=arrays.floats("pose", (n, 72)).reshape(n, 24, 3) if with_smpl else np.zeros((n, 24, 3)),
        betas=arrays.floats("shape", (n, 10)) if with_smpl else np.zeros((n, 10)),
        smpl_valid=(valid > 0).astype(np.float64) * with_smpl,
        gender=_genders(path, arrays, n),
    )


def read_crops(path: pathlib.Path, rows: Rows) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, "N"]]:
    """Reads the authors' crops of a list, row by row: `amb_center` and `amb_scale`.

    Raises:
      ListError: it cannot be read, or belongs to another list: another number of rows or, where it has `imgname`,
        other images.
    """
    arrays = _Arrays(path, _CROP_KEYS)
    n = len(rows)
    counts = [len(arrays[key]) for key in ("amb_center", "amb_scale")]
    if counts != [n, n]:
        raise ListError(
            f"{path} has {counts[0]} crops and {rows.stem}.npz has {n} rows. Crops are joined by row: use the list "
            "that they were made for."
        )
    if "imgname" in arrays:
        names = arrays.texts("imgname")
        other = next((i for i, pair in enumerate(zip(names, rows.imgname, strict=True)) if pair[0] != pair[1]), None)
        if other is not None:
            raise ListError(
                f"{path}: row {other} is of {names[other]!r}, that of {rows.stem}.npz of {rows.imgname[other]!r}. Crops "
                "are joined by row: use the list that they were made for."
            )
    center, scale = arrays.floats("amb_center", (n, 2)), arrays.floats("amb_scale", (n,))
    if np.any(bad := ~(scale > 0)):
        raise ListError(f"{path}: the crop of row {bad.argmax()} has no area (scale {scale[bad.argmax()]}).")
    return center, scale


def box_factor(stem: str, scale: Float[np.ndarray, "N"]) -> float | None:
    """Which of `BOX_FACTORS` the boxes of a list of Human3.6M have, from the boxes alone; None where they do not tell.

    The side 200 x scale of a box is the factor times a whole number of pixels. Some sides could have either factor (all
    multiples of 9 pixels); the others decide.

    Args:
      stem: name of the list; of other datasets nothing is known.
      scale: of its boxes.

    Raises:
      ListError: some boxes have one factor, and some the other.
    """
    if not stem.startswith(_BOXED):
        return None
    sides = boxes.SIDE * scale
    fits = {factor: np.abs(sides / factor - np.round(sides / factor)) < _WHOLE_PX for factor in BOX_FACTORS}
    if not np.any(list(fits.values()), axis=0).all():
        return None
    certain = {BOX_FACTORS[0]: ~fits[BOX_FACTORS[1]], BOX_FACTORS[1]: ~fits[BOX_FACTORS[0]]}
    first = {factor: int(rows.argmax()) for factor, rows in certain.items() if rows.any()}
    if len(first) > 1:
        told = ", ".join(f"that of row {row} has the factor {factor}" for factor, row in first.items())
        raise ListError(
            f"{stem}.npz mixes boxes of two kinds: {told}. Lists of this name exist with boxes of 0.9 and of 1.0 times the "
            "masks' size, and numbers on them cannot be compared: take one list as it was published."
        )
    return next(iter(first), None)


def check_same_boxes(names: Sequence[str], npz_dir: str | None) -> None:
    """Refuses lists of Human3.6M together whose boxes have different factors (`box_factor`).

    Args:
      names: of sets; those that are no lists are passed over.
      npz_dir: folder of the lists.

    Raises:
      ListError: they differ, with the factor of each.
    """
    lists = [name for name in dict.fromkeys(names) if name.startswith(PREFIX)]
    found = {name: _factor_of(name, npz_dir) for name in lists}
    if len({factor for factor in found.values() if factor is not None}) > 1:
        told = ", ".join(f"{name} {factor}" for name, factor in found.items() if factor is not None)
        raise ListError(
            f"These lists have boxes of different kinds: {told} times the masks' size. A network sees other crops with the "
            "other kind: evaluate each with the lists of its own project, one kind at a time."
        )


def _factor_of(name: str, npz_dir: str | None) -> float | None:
    """The factor of the boxes of a set's list."""
    path = _folder(npz_dir, "data.npz_dir", "the lists") / f"{_stems(name)[0]}.npz"
    if not path.stem.startswith(_BOXED):
        return None
    arrays = _Arrays(path, _KEYS)
    return box_factor(path.stem, arrays.floats("scale", (len(arrays["scale"]),)))


class Source(Sequence):
    """The examples of a list: section 1 of docs/interfaces.md, with the whole image as the window.

    Boxes and keypoints are float64, as the lists have them. The crop files do not say which joints were to be hidden,
    and the authors' code hides none: `occlusion` is 0 and `kp2d_input` equals `kp2d_valid` also with them.
    """

    def __init__(
        self,
        rows: Rows,
        layout: image_layouts.Layout,
        crops: tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, "N"]] | None = None,
    ):
        self._rows = rows
        self._layout = layout
        self._center, self._scale = crops or (rows.center, rows.scale)
        self._labels = _labels(rows.stem, crops is not None)
        self._load = functools.lru_cache(maxsize=2)(images.load_image)  # People of one frame are often neighbours.

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        rows, i = self._rows, range(len(self._rows))[int(index)]
        image = self._image(i)
        size = np.array(image.shape[1::-1], np.int32)
        seen = (rows.kp2d[i, :, 2] > 0).astype(np.float32)
        return {
            "example_id": f"{rows.stem}/{i:06d}".encode(),
            "image": image,
            "window": np.concatenate([np.zeros(2, np.int32), size]),
            "image_size": size,
            "box_center": self._center[i],
            "box_scale": self._scale[i],
            "box_center_full": rows.center[i],
            "box_scale_full": rows.scale[i],
            "kp2d": rows.kp2d[i, :, :2],
            "kp2d_valid": seen,
            "kp2d_input": seen,
            "joints3d": rows.joints3d[i, :, :3].astype(np.float32),
            "joints3d_valid": (rows.joints3d[i, :, 3] > 0).astype(np.float32),
            "pose": rows.pose[i].astype(np.float32),
            "betas": rows.betas[i].astype(np.float32),
            "smpl_valid": np.float32(rows.smpl_valid[i]),
            "gender": np.int32(rows.gender[i]),
            "intrinsics": np.zeros((3, 3), np.float32),
            "intrinsics_valid": np.float32(0),
            "occlusion": np.int64(0),
            **self._labels,
        }

    def _image(self, i: int) -> UInt8[np.ndarray, "H W 3"]:
        name = self._rows.imgname[i]
        path = self._layout.path(name)
        if path is None or not path.is_file():
            raise ListError(
                f"{self._rows.stem}.npz, row {i}: the image {name!r} is missing: {path or 'its name is of no known kind'}. "
                f"Others were found in {self._layout.root} as {self._layout.template}."
            )
        try:
            untrusted.inside(self._layout.root, path.relative_to(self._layout.root).as_posix())
        except ValueError as error:
            raise ListError(f"{self._rows.stem}.npz, row {i}: {error}") from error
        return self._load(path)


def split_of(name: str) -> str:
    """The split that a list is: `train` or `validation` where its name says so, otherwise `test`."""
    stem = _stems(name)[0]
    return next((split for split in ("train", "validation") if split in stem), "test")


def open_set(name: str, split: str, npz_dir: str | None, image_dir: str | None) -> Source:
    """Opens `spin/<list>`, or `spin/<list>+<crops>` with the authors' ambiguous crops.

    Args:
      name: of the files without extension, as in `spin/3dpw_test_all+3dpw_amb3`.
      split: must be the one that the list is (`split_of`).
      npz_dir: folder of the lists and crops.
      image_dir: root of the images, or a folder with one root for each dataset (`image_layouts`).

    Raises:
      ListError: a file is missing or cannot be used, or the list is of another split.
      ValueError: the images are not found.
    """
    if split != split_of(name):
        raise ListError(
            f"{name} is one list without splits and counts as {split_of(name)!r}, but {split!r} was asked for. "
            "Where a temperature or noise was to be tuned on it, set quantizer.temperature instead."
        )
    folder = _folder(npz_dir, "data.npz_dir", "the lists")
    stems = _stems(name)
    rows = read(folder / f"{stems[0]}.npz")
    crops = read_crops(folder / f"{stems[1]}.npz", rows) if len(stems) == 2 else None
    probes = rows.imgname[:: max(1, len(rows) // _PROBES)]
    layout = image_layouts.find(_folder(image_dir, "data.image_dir", "the images"), rows.stem, probes)
    logging.info("%s: %d rows, images in %s as %s", name, len(rows), layout.root, layout.template)
    return Source(rows, layout, crops)


def describe(name: str, npz_dir: str | None) -> str:
    """The name of a set with the fingerprints of its files and the factor of its boxes where that is known, for results."""
    folder = _folder(npz_dir, "data.npz_dir", "the lists")
    paths = [folder / f"{stem}.npz" for stem in _stems(name)]
    prints = [io.sha256_of_file(path)[:8] for path in paths]
    factor = _factor_of(name, npz_dir)
    return f"{name} (sha256 {', '.join(prints)}{'' if factor is None else f', boxes x {factor}'})"


class _Arrays:
    """The arrays of an .npz, each checked when it is asked for; `known` are the names that are asked for."""

    def __init__(self, path: pathlib.Path, known: Sequence[str]):
        self._path = path
        if not path.is_file():
            there = sorted(p.stem for p in path.parent.glob("*.npz")) if path.parent.is_dir() else []
            raise ListError(f"There is no list {path}. In its folder: {', '.join(there) or 'no .npz at all'}.")
        self._file = untrusted.Npz(path, "Download the list again.", ListError)
        self._names = set(self._file)
        if told := untrusted.misspelt(self._names, known):
            raise ListError(f"{path} {told}. Store the array under the name that SPIN's lists have.")

    def __contains__(self, key: str) -> bool:
        return key in self._names

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._names:
            raise ListError(f"{self._path} lacks {key!r}; it has {', '.join(sorted(self._names)) or 'no arrays'}.")
        try:
            return self._file[key]
        except ListError as error:
            if "allow_pickle" in str(error):
                raise ListError(
                    f"{self._path}: {key!r} is an array of Python objects, which can hold code and is not opened. Where "
                    f"you trust the file, store it again with {key}=np.array(list(old[{key!r}])), which gives it a type."
                ) from error
            raise

    def refuse_foreign(self) -> None:
        """Refuses a list that has under other names what this one would then lack without a word."""
        known = [key for key in _FOREIGN if key not in self and any(name in self for name in _FOREIGN[key])]
        known = [key for key in known if key != "part" or "parts_openpose_s24" not in self]
        if known:
            unknown = ", ".join(name for key in known for name in _FOREIGN[key] if name in self)
            raise ListError(
                f"{self._path} has {unknown}, which are not keys of SPIN's lists (ProHMR and 4D-Humans have such). Store "
                "them as SPIN does: part (N, 24, 3) and S (N, 24, 4) are the 24 joints of geometry/joints.py with their "
                "confidence, in pixels and metres; pose (N, 72) is axis-angle with the root first, shape (N, 10)."
            )

    def texts(self, key: str) -> list[str]:
        """A column of names; bytes are decoded."""
        array = self[key]
        if array.ndim != 1 or array.dtype.kind not in "US":
            raise ListError(f"{self._path}: {key!r} should be a column of texts, got {array.dtype} {array.shape}.")
        try:
            return [text.decode() if isinstance(text, bytes) else text for text in array.tolist()]
        except UnicodeDecodeError as error:
            raise ListError(f"{self._path}: {key!r} holds bytes that are no UTF-8 text ({error}).") from error

    def floats(self, key: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        """An array of finite numbers in one shape; a column may have a last axis of 1."""
        array = self._shaped(key, shape)
        if not np.all(np.isfinite(array)):
            row = np.argwhere(~np.isfinite(array))[0][0]
            raise ListError(f"{self._path}: {key!r} is not finite in row {row}.")
        return array

    def keypoints(self, key: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        """Points with a confidence at the end, zeros where it is 0 or less; all zeros where the list has none."""
        if key not in self:
            return np.zeros(shape)
        array = self._shaped(key, shape)
        array = np.where(array[..., -1:] <= 0, 0.0, array)
        if not np.all(np.isfinite(array)):
            row = np.argwhere(~np.isfinite(array))[0][0]
            raise ListError(f"{self._path}: {key!r} is not finite in row {row}, where its confidence is above 0.")
        return array

    def _shaped(self, key: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        array = self[key]
        if array.shape == (*shape, 1):
            array = array[..., 0]
        if array.shape != shape or array.dtype.kind not in "biuf":
            raise ListError(f"{self._path}: {key!r} should be numbers {shape}, got {array.dtype} {array.shape}.")
        return array.astype(np.float64)


def _genders(path: pathlib.Path, arrays: _Arrays, n: int) -> Int[np.ndarray, "N"]:
    if "gender" not in arrays:
        return np.full(n, _UNKNOWN_GENDER)
    texts = arrays.texts("gender")
    if unknown := sorted(set(texts) - set(_GENDERS)):
        raise ListError(f"{path}: gender is {', '.join(map(repr, unknown[:3]))} somewhere; expected 'm' or 'f'.")
    if len(texts) != n:
        raise ListError(f"{path}: 'gender' has {len(texts)} rows, imgname {n}.")
    return np.array([_GENDERS[text] for text in texts])


def _labels(stem: str, ambiguous: bool) -> dict[str, Any]:
    """`dataset` (-1: not one of ours) and `protocol_hint` of a list, from the start of its name."""
    tables = {**_DATASETS, **(_AMBIGUOUS if ambiguous else {})}
    dataset = next((index for start, index in tables.items() if stem.startswith(start)), -1)
    protocol = next((name for start, name in _PROTOCOLS.items() if stem.startswith(start)), "")
    return {"dataset": np.int64(dataset), "protocol_hint": protocol.encode()}


def _stems(name: str) -> list[str]:
    stems = name.removeprefix(PREFIX).split("+")
    if not name.startswith(PREFIX) or len(stems) > 2 or not all(stems) or any("/" in stem for stem in stems):
        raise ListError(
            f"{name!r} is no set of this kind: write spin/LIST or spin/LIST+CROPS, without folders or .npz."
        )
    return stems


def _folder(path: str | None, field: str, what: str) -> pathlib.Path:
    if not path or not pathlib.Path(path).is_dir():
        raise ListError(
            f"config.{field} = {path!r} is no folder; sets that start with spin/ need the folder of {what}."
        )
    return pathlib.Path(path)
