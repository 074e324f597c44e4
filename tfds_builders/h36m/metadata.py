"""`metadata.xml` of Human3.6M: the numbers of its sequences and the parameters of its cameras."""

import dataclasses
import pathlib
import xml.etree.ElementTree as ElementTree

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

NAME = "metadata.xml"

_SUBJECTS, _CAMERAS = 11, 4
_INTRINSICS_AT = (
    6 * _SUBJECTS * _CAMERAS
)  # In `w0`: first 6 extrinsic numbers per camera and subject, then 9 per camera.


class MetadataError(ValueError):
    """A `metadata.xml` that is not Human3.6M's."""


@dataclasses.dataclass(frozen=True, eq=False)
class Metadata:
    """What `metadata.xml` says.

    Attributes:
      sequences: (subject, stem of its files) -> (action, subaction), as "2", "1".
      cameras: their names, in the order of their numbers 1 to 4.
      w0: the 300 camera parameters.
    """

    sequences: dict[tuple[str, str], tuple[str, str]]
    cameras: tuple[str, ...]
    w0: Float[np.ndarray, "300"]

    def intrinsics(self, camera: str) -> Float[np.ndarray, "3 3"]:
        """The camera matrix, pixels; without the distortion of the lens."""
        f1, f2, c1, c2 = self._lens(camera)[:4]
        return np.array([[f1, 0, c1], [0, f2, c2], [0, 0, 1]])

    def project(self, points: Float[np.ndarray, "*batch 3"], camera: str) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of points of the camera frame, with the distortion of the lens as in the dataset's own code.

        Tangential terms count once, not twice as in OpenCV; the published 2D positions are reproduced to 3e-5 pixels.
        """
        f1, f2, c1, c2, k1, k2, k3, p1, p2 = self._lens(camera)
        x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
        r2 = x**2 + y**2
        factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
        return np.stack([f1 * (x * factor + p2 * r2) + c1, f2 * (y * factor + p1 * r2) + c2], axis=-1)

    def rotation(self, subject: str, camera: str) -> Float[np.ndarray, "3 3"]:
        """R with `p_camera = R @ (p_world - position)`; the world's z axis points up."""
        at = 6 * (_SUBJECTS * self._number(camera) + int(subject[1:]) - 1)
        return Rotation.from_euler("XYZ", self.w0[at : at + 3]).as_matrix()

    def _number(self, camera: str) -> int:
        if camera not in self.cameras:
            raise MetadataError(f"{NAME} has the cameras {', '.join(self.cameras)}, and not {camera}: it is damaged.")
        return self.cameras.index(camera)

    def _lens(self, camera: str) -> Float[np.ndarray, "9"]:
        at = _INTRINSICS_AT + 9 * self._number(camera)
        return self.w0[at : at + 9]


def read(path: pathlib.Path) -> Metadata:
    """Reads `metadata.xml`.

    Raises:
      MetadataError: it is not Human3.6M's, or damaged.
    """
    try:
        root = ElementTree.parse(path).getroot()
        rows = [[cell.text or "" for cell in row] for row in _children(root, "mapping")]
        subjects = rows[0][2:]
        sequences = {
            (subject, stem.strip()): (action, subaction)
            for action, subaction, *stems in rows[1:33]
            for subject, stem in zip(subjects, stems, strict=True)
        }
        cameras = tuple((cell.text or "").strip() for cell in _children(root, "dbcameras/index2id"))
        w0 = np.array([float(number) for number in (root.findtext(".//w0") or "").strip(" []\n").split()])
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MetadataError(f"{path} is not Human3.6M's metadata.xml, or damaged ({error!r}).") from error
    if not np.all(np.isfinite(w0)):
        raise MetadataError(f"{path} has camera parameters (`w0`) that are not finite: it is damaged.")
    if len(cameras) != _CAMERAS or w0.shape != (_INTRINSICS_AT + 9 * _CAMERAS,):
        raise MetadataError(
            f"{path} has {len(cameras)} cameras and {w0.size} camera parameters (`w0`), expected {_CAMERAS} and "
            f"{_INTRINSICS_AT + 9 * _CAMERAS}: it is not Human3.6M's metadata.xml."
        )
    return Metadata(sequences, cameras, w0)


def _children(root: ElementTree.Element, path: str) -> list[ElementTree.Element]:
    found = root.find(path)
    if found is None:
        raise LookupError(f"no element <{path}>")
    return list(found)
