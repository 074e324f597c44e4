"""3DPW: people outdoors with SMPL bodies of their gender, from the official archive."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float

from multibodies_jax.body import body_files, smpl
from multibodies_jax.data import image_layouts
from multibodies_jax.data.images import ImageError
from multibodies_jax.geometry import boxes, rotations
from tfds_builders import archives, building, features, options, windows
from tfds_builders.sources import joint_sets, pictures, rows, spin, threedpw, trees

PADDING = 1.2  # SPIN's box: the side is this times the longer side of the detected joints' bounds.
_SPLITS = ("train", "validation", "test")
_ROWS = 35_515  # Of SPIN's evaluation.
BLOCK = 100  # Frames of a task.
_GENDERS = ("male", "female")
_LIST = "spin"  # The config of SPIN's list.
_LISTS = ("3dpw_test_all.npz", "3dpw_test.npz")  # The first has keypoints.
_DESCRIPTIONS = {
    "official": "From the official pickles and images.",
    _LIST: "Test only: the rows of 3dpw_test_all.npz, or else 3dpw_test.npz, and the official images.",
}
_LAYOUT = next(dataset for dataset in image_layouts.DATASETS if dataset.stem == "3dpw")
_TREE = """  imageFiles/<sequence>/image_00000.jpg ...
  sequenceFiles/{train,validation,test}/<sequence>.pkl"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(archives.ArchiveOptions):
    """Options of `threedpw`."""

    smpl_dir: str = options.option(
        "",
        "{}",
        "folder with SMPL_{NEUTRAL,MALE,FEMALE}.{pkl,npz} and the regressors: all joints3d, not only the limbs",
        file=True,
        read=("*.pkl", "*.npz", "*.npy"),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.smpl_dir and not pathlib.Path(self.smpl_dir).is_dir():
            raise ValueError(f"There is no folder of bodies {self.smpl_dir!r}.")


@dataclasses.dataclass(frozen=True)
class Task:
    """Some frames of a sequence; paths are relative to `root`."""

    root: pathlib.Path
    split: str
    sequence: str
    pickle: str
    images: str
    first: int
    last: int  # Excluded.
    count: int  # Images of the sequence.
    changed: int  # When the pickle was: an unfinished build of another one is not gone on with.
    options: Options


class Builder(archives.ArchiveBuilder):
    """3DPW: people outdoors, a moving camera, SMPL bodies of their gender."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [
        building.Config(name=name, base=name, options=Options(), description=text)
        for name, text in _DESCRIPTIONS.items()
    ]
    LENS_PX: ClassVar = float("inf")  # Keypoints are detections, some of them far off.
    HOMEPAGE = "https://virtualhumans.mpi-inf.mpg.de/3DPW/"
    CITATION = """@inproceedings{vonMarcard2018,
  title = {Recovering Accurate 3D Human Pose in The Wild Using {IMUs} and a Moving Camera},
  author = {von Marcard, Timo and Henschel, Roberto and Black, Michael and Rosenhahn, Bodo and Pons-Moll, Gerard},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year = {2018}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Accept the licence at https://virtualhumans.mpi-inf.mpg.de/3DPW/evaluation.html, download imageFiles.zip and "
        f"sequenceFiles.zip and unpack both. MANUAL_DIR must hold:\n{_TREE}\n"
        "For threedpw/spin instead of sequenceFiles: 3dpw_test_all.npz or 3dpw_test.npz."
    )

    def expected(self) -> dict[str, int | None]:
        """The splits; SPIN's evaluation has 35,515 rows of the test split."""
        return {"test": _ROWS} if self.base == _LIST else {"train": None, "validation": None, "test": _ROWS}

    def tasks(self, split: str) -> Sequence[Task | spin.Task]:
        """Blocks of frames of all sequences of a split, by name (one that is not there has none); or of the list's rows."""
        root = self.archive()
        if self.base == _LIST:
            return self._listed(root)
        pickles = {name: _pickles(root, name) for name in _SPLITS}
        if not any(pickles.values()):
            raise self.missing("sequenceFiles/{train,validation,test}/*.pkl")
        tasks = []
        for pickle in pickles[split]:
            folder = trees.find(root, f"imageFiles/{pickle.stem}") or trees.find(root / "imageFiles", pickle.stem)
            if folder is None:
                raise self.missing(f"imageFiles/{pickle.stem}")
            where = pickle.relative_to(root).as_posix(), folder.relative_to(root).as_posix()
            count, changed = _count_images(folder), pickle.stat().st_mtime_ns
            for first in range(0, count, BLOCK):
                block = (first, min(first + BLOCK, count))
                tasks.append(Task(root, split, pickle.stem, *where, *block, count, changed, self.options))
        return tasks

    @staticmethod
    def make(task: Task | spin.Task) -> Iterator[dict[str, Any] | archives.Skip]:
        """The people of a block."""
        return _listed(task) if isinstance(task, spin.Task) else _recorded(task)

    def _listed(self, root: pathlib.Path) -> Sequence[spin.Task]:
        if self.options.smpl_dir:
            raise building.BuildError(
                "threedpw: --smpl_dir places bodies by the official pickles; lists have no cameras."
            )
        path = next((found for name in _LISTS if (found := trees.find(root, name))), None)
        if path is None:
            raise self.missing(" or ".join(_LISTS))
        try:
            return spin.plan(path, root, self.name, "test", self.options)
        except ValueError as error:
            raise building.BuildError(f"{self.name}: {error}") from error


def image_id(split: str, imgname: str) -> str:
    """How the example ids of an image begin, by its name in a list.

    Raises:
      ValueError: a name of another kind.
    """
    said = image_layouts.parse(imgname, _LAYOUT)
    if not said:
        raise ValueError(f"{imgname!r} is not named like <sequence>/image_00000.jpg, as 3DPW's images are.")
    return f"threedpw/{split}/{said['sequence']}/{said['frame']:05d}"


def _listed(task: spin.Task) -> Iterator[dict[str, Any] | archives.Skip]:
    """People of a list. The list does not number the people of an image, so ids end in the row."""
    people = spin.load(task.path)
    some = []
    for i in range(task.first, task.first + task.count):
        file = task.layout.path(people.imgname[i])
        assert file is not None  # `spin.plan` saw to that.
        keypoints, known = people.kp2d[i], people.smpl_valid[i] > 0
        body = {"pose": people.pose[i], "betas": people.betas[i], "smpl_valid": 1.0} if known else {}
        some.append(
            rows.Row(
                f"{image_id(task.split, people.imgname[i])}/row{i:05d}",
                file.relative_to(task.archive).as_posix(),
                keypoints[:, :2],
                np.clip(keypoints[:, 2], 0.0, 1.0),
                people.center[i],
                float(people.scale[i]),
                more={"gender": people.gender[i], "protocol_hint": "3dpw", **body},
            )
        )
    return rows.make(rows.Task(task.archive, ".", "threedpw", task.split, tuple(some), task.options))


def _recorded(task: Task) -> Iterator[dict[str, Any] | archives.Skip]:
    """The people of a block of frames whom the camera is aligned with."""
    sequence = _read(task.root / task.pickle, task.changed)
    frames = len(sequence.T_cam_world)
    unseen = [f for f in range(task.count, frames) if any(person.aligned[f] for person in sequence.people)]
    if unseen:
        raise ValueError(
            f"{task.pickle} has {frames} frames with people up to frame {unseen[-1]}, but {task.images} has "
            f"{task.count} images: they do not belong together. Unpack both archives again."
        )
    read = pictures.Reader()
    for frame in range(task.first, task.last):
        if frame >= frames:
            yield archives.Skip("an image without annotations", f"{task.sequence} frame {frame}")
            continue
        for index, person in enumerate(sequence.people):
            what = f"{task.sequence} frame {frame} person {index}"
            truth = annotations(sequence, person, frame, task.options.smpl_dir)
            if isinstance(truth, str):
                yield archives.Skip(truth, what)
                continue
            if not _is_detected(person, frame):
                yield archives.Skip("no 2D detection: kept, with the limbs projected", what)
            yield _example(task, frame, index, truth, read)


def annotations(
    sequence: threedpw.Sequence, person: threedpw.Person, frame: int, smpl_dir: str = ""
) -> dict[str, Any] | str:
    """What is known of a person in a frame: features of the example; or why there is none.

    Args:
      sequence: of the frame.
      person: one of its people.
      frame: its number.
      smpl_dir: folder of the bodies for all of J24; without it `joints3d` has the limbs of `jointPositions` only.
    """
    T, intrinsics = sequence.T_cam_world[frame], sequence.intrinsics
    if not person.aligned[frame]:
        return "camera not aligned with the person"
    numbers = (T, person.poses[frame], person.betas, person.trans[frame], person.joints[frame])
    if not all(np.all(np.isfinite(x)) for x in (*numbers, person.keypoints[frame])):
        return "numbers that are not finite"
    root = threedpw.root_in_camera(person.poses[frame, 0], T)
    smpl_joints = person.joints[frame] @ T[:3, :3].T + T[:3, 3]
    if smpl_dir:
        joints3d, joints3d_valid = _joints24(person, frame, root, T, smpl_dir), np.ones(24, np.float32)
    else:
        joints3d, joints3d_valid = joint_sets.to_j24(smpl_joints, threedpw.SMPL_LIMBS)
    if _is_detected(person, frame):
        keypoints, has = joint_sets.to_j24(person.keypoints[frame], threedpw.OPENPOSE18)
        kp2d, kp2d_valid = keypoints[:, :2], has * np.clip(keypoints[:, 2], 0.0, 1.0)
        boxed, counts = person.keypoints[frame, :, :2], person.keypoints[frame, :, 2] > 0
    else:  # Nothing was detected: where the body is, instead.
        kp2d, in_front = threedpw.project(joints3d, intrinsics)
        kp2d_valid = joints3d_valid * in_front
        boxed, counts = threedpw.project(smpl_joints, intrinsics)
    if not counts.any() or not kp2d_valid.any():
        return "no visible joint"
    center, scale = boxes.visible_box(boxed, counts.astype(np.float64), padding=PADDING)
    return {
        "box_center": center,
        "box_scale": scale,
        "kp2d": np.where(kp2d_valid[:, None] > 0, kp2d, 0.0),
        "kp2d_valid": kp2d_valid,
        "joints3d": joints3d,
        "joints3d_valid": joints3d_valid,
        "pose": np.concatenate([root[None], person.poses[frame, 1:]]),
        "betas": person.betas,
        "smpl_valid": 1.0,
        "gender": person.gender,
        "intrinsics": intrinsics,
        "intrinsics_valid": 1.0,
    }


def _is_detected(person: threedpw.Person, frame: int) -> bool:
    return bool(np.sum(person.keypoints[frame, :, 2] > 0) >= threedpw.MIN_DETECTED)


def _example(
    task: Task, frame: int, person: int, truth: dict[str, Any], read: pictures.Reader
) -> dict[str, Any] | archives.Skip:
    path = f"{task.images}/image_{frame:05d}.jpg"
    what = f"{task.sequence} frame {frame} person {person}"
    try:
        image = read(task.root / path)
    except ImageError as error:
        return archives.Skip("unreadable image", f"{what}: {error}")
    try:
        pixels, window = windows.cut(image, truth["box_center"], truth["box_scale"])
    except ValueError:  # The box is finite: `annotations` saw to that.
        return archives.Skip("a box outside the image", what)
    return features.example(
        example_id=f"threedpw/{task.split}/{task.sequence}/{frame:05d}/{person}",
        image=archives.stored_image(pixels, task.options, task.split, path),
        window=window,
        image_size=[image.shape[1], image.shape[0]],
        dataset="threedpw",
        protocol_hint="3dpw",
        **truth,
    )


def _joints24(
    person: threedpw.Person, frame: int, root: np.ndarray, T_cam_world: np.ndarray, smpl_dir: str
) -> Float[np.ndarray, "24 3"]:
    """J24 of the person's SMPL body in the camera frame."""
    joint_model = _joint_model(smpl_dir, _GENDERS[person.gender])
    features_of_root = np.concatenate([[1.0], person.betas]).astype(np.float32)
    rest_root = features_of_root @ np.asarray(joint_model.root)
    trans = threedpw.translation_in_camera(person.trans[frame], rest_root, T_cam_world)
    pose = np.concatenate([root[None], person.poses[frame, 1:]])
    rotmats = rotations.axis_angle_to_matrix(jnp.asarray(pose, jnp.float32))
    return np.asarray(_joints(joint_model, rotmats, jnp.asarray(person.betas, jnp.float32))) + trans


_joints = jax.jit(smpl.joints)


@functools.cache  # Once per process.
def _joint_model(smpl_dir: str, gender: str) -> smpl.JointModel:
    files = body_files.load(smpl_dir)
    return smpl.contract(files.gendered(gender), files.j24_regressor)


@functools.lru_cache(maxsize=1)  # A sequence has several blocks.
def _read(path: pathlib.Path, changed: int) -> threedpw.Sequence:
    del changed  # A pickle that was written anew is read anew.
    return threedpw.read(path)


def _pickles(root: pathlib.Path, split: str) -> list[pathlib.Path]:
    """The sequences of a split by name; archives may have been unpacked into a folder of their own."""
    name = f"sequenceFiles/{split}/*.pkl"
    first = trees.find(root, name) or trees.find(root / "sequenceFiles", name)
    return sorted(path for path in first.parent.glob("*.pkl") if path.name[0] != ".") if first else []


def _count_images(folder: pathlib.Path) -> int:
    """Frames from the names of the images, of which none may be missing."""
    numbers = [path.stem.removeprefix("image_") for path in folder.glob("image_*.jpg")]
    if not numbers or not all(number.isdigit() for number in numbers):
        raise building.BuildError(f"{folder} has no images named image_00000.jpg. Expected:\n{_TREE}")
    count = max(map(int, numbers)) + 1
    if absent := trees.absent(folder, [f"image_{i:05d}.jpg" for i in range(count)]):
        raise building.BuildError(
            f"{folder} lacks {len(absent)} of {count} images, the first is {absent[0]}. Unpack imageFiles.zip again."
        )
    return count
