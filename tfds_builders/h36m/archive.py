"""Human3.6M as the site gives it: where its files are, and what they hold."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from multibodies_jax import untrusted
from multibodies_jax.geometry import joints
from tfds_builders.h36m import masks
from tfds_builders.sources import cdf

CAMERAS = ("54138969", "55011271", "58860488", "60457274")  # In the order of their numbers 1 to 4.
FRONT_CAMERA = "60457274"  # The one of protocol 2.

# Skeleton of 32 joints, of which 17 move independently: their rows in the order of `joints.H36M17`. Hips and Spine
# (0, 11) are one point, Neck, LeftShoulder and RightShoulder (13, 16, 24) too.
_H36M17_FROM_32 = (11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)

# The folders of a subject: as in the archives, and as a popular download script unpacks them.
_FOLDERS = {
    "poses": ("MyPoseFeatures/D3_Positions_mono", "Poses_D3_Positions_mono"),
    "keypoints": ("MyPoseFeatures/D2_Positions", "Poses_D2_Positions"),
    "videos": ("Videos",),
    "boxes": ("MySegmentsMat/ground_truth_bb", "Segments_mat_gt_bb"),
}
_DOWNLOADS = {
    "poses": "Poses / D3_Positions_mono",
    "keypoints": "Poses / D2_Positions",
    "videos": "Videos",
    "boxes": "Segments / BBoxes MAT",
}


@dataclasses.dataclass(frozen=True)
class Recording:
    """One sequence of a subject seen by one camera.

    Attributes:
      subject: "S1" ... "S11".
      stem: "Directions 1", as the files are called; what the actions are called elsewhere differs.
      camera: one of `CAMERAS`.
      poses: 3D joints in the camera frame (`read_poses`).
      video: may be missing where the video is known to be damaged.
      boxes: a mask of the box for every frame (`boxes`).
      keypoints: the joints in the image (`read_keypoints`), None where they are missing.
    """

    subject: str
    stem: str
    camera: str
    poses: pathlib.Path
    video: pathlib.Path
    boxes: pathlib.Path
    keypoints: pathlib.Path | None

    def __str__(self) -> str:
        return f"{self.subject}/{self.stem}.{self.camera}"


class ArchiveError(ValueError):
    """A file of the archive that cannot be used; the message names it and the download it comes from."""


def root_of(folder: pathlib.Path) -> pathlib.Path | None:
    """The folder with the subjects' folders: the one named, else one in it; None where no subject has poses."""
    for root in (folder, *sorted(p for p in folder.iterdir() if p.is_dir() and untrusted.visible(p, folder))):
        if any(_folder(subject, "poses") for subject in sorted(root.glob("S[0-9]*"))):
            return root
    return None


def recordings(root: pathlib.Path, subject: str, cameras: tuple[str, ...] = CAMERAS) -> list[Recording]:
    """The recordings of a subject in the order of their file names ("Directions 1" before "Directions").

    A subject without a folder of poses has none.

    Raises:
      ArchiveError: a name that cannot be read, or no folder of videos or boxes.
    """
    poses = _folder(root / subject, "poses")
    if poses is None:
        return []
    videos, boxes = (_required(root / subject, kind) for kind in ("videos", "boxes"))
    keypoints = _folder(root / subject, "keypoints")
    found = []
    for path in sorted(poses.glob("*.cdf")):
        stem, _, camera = path.stem.rpartition(".")
        if stem.startswith("_ALL") or not untrusted.visible(path, poses):
            continue
        if not stem or camera not in CAMERAS:
            raise ArchiveError(
                f"{path} is not named <action>[ <n>].<camera>.cdf with a camera of {', '.join(CAMERAS)}."
            )
        if camera in cameras:
            in_image = keypoints / path.name if keypoints else None
            files = (path, videos / f"{path.stem}.mp4", boxes / f"{path.stem}.mat")
            known = in_image if in_image and in_image.exists() else None
            found.append(Recording(subject, stem, camera, *files, known))
    return found


def read_poses(path: pathlib.Path) -> Float32[np.ndarray, "F 17 3"]:
    """Joints of `joints.H36M17` in the camera frame, metres.

    Raises:
      ArchiveError: the file cannot be used.
    """
    return _read(path, 3, "poses") / np.float32(1000)


def read_keypoints(path: pathlib.Path, frames: int) -> Float32[np.ndarray, "F 17 2"]:
    """Joints of `joints.H36M17` in the image, distorted as the image is, pixels.

    Args:
      path: of the file.
      frames: as many as the poses have.

    Raises:
      ArchiveError: the file cannot be used, or belongs to other poses.
    """
    keypoints = _read(path, 2, "keypoints")
    if len(keypoints) != frames:
        raise ArchiveError(
            f"{path} has {len(keypoints)} frames, but the poses have {frames}: they do not belong together."
        )
    return keypoints


def to_j24(points: Float[np.ndarray, "17 D"]) -> tuple[Float[np.ndarray, "24 D"], Float32[np.ndarray, "24"]]:
    """Joints of `joints.H36M17` as J24, zeros where it has more, and 1 for those that are there."""
    there = joints.J24_FROM_H36M17 >= 0
    return np.where(there[:, None], points[joints.J24_FROM_H36M17], np.float32(0)), there.astype(np.float32)


def read_boxes(path: pathlib.Path, frames: Sequence[int]) -> Float[np.ndarray, "N 4"]:
    """The boxes of some frames of a recording: x0, y0, x1, y1 in pixels, NaN where a frame has none (`masks.read`).

    Raises:
      ArchiveError: the file cannot be used.
    """
    try:
        return masks.read(path, frames)
    except masks.MaskError as error:
        raise ArchiveError(_explain(str(error), "boxes")) from error


def _read(path: pathlib.Path, dimensions: int, kind: str) -> Float32[np.ndarray, "F 17 D"]:
    try:
        values = cdf.read(path, "Pose")
    except (OSError, ValueError) as error:
        raise ArchiveError(_explain(str(error), kind)) from error
    if values.ndim != 3 or values.shape[0] != 1 or values.shape[2] != 32 * dimensions:
        raise ArchiveError(
            _explain(f"`Pose` of {path} is {values.shape}, expected (1, frames, {32 * dimensions}).", kind)
        )
    return values[0].reshape(-1, 32, dimensions)[:, _H36M17_FROM_32].astype(np.float32)


def _folder(subject: pathlib.Path, kind: str) -> pathlib.Path | None:
    """A folder of a subject; archives unpacked into folders of their own have one level more."""
    for name in _FOLDERS[kind]:
        for candidate in (subject / name, *sorted(subject.glob(f"*/{name}")), *sorted(subject.glob(f"*/*/{name}"))):
            if candidate.is_dir() and untrusted.visible(candidate, subject):
                return candidate
    return None


def _required(subject: pathlib.Path, kind: str) -> pathlib.Path:
    folder = _folder(subject, kind)
    if folder is None:
        there = ", ".join(sorted(p.name for p in subject.iterdir())) or "nothing"
        raise ArchiveError(_explain(f"{subject} has no folder {' or '.join(_FOLDERS[kind])}; it has {there}.", kind))
    return folder


def _explain(message: str, kind: str) -> str:
    return (
        f"{message} It comes with the download {_DOWNLOADS[kind]!r} of http://vision.imar.ro/human3.6m (per subject)."
    )
