"""The test set of MPI-INF-3DHP: six sequences, `annot_data.mat` and images."""

import pathlib

import numpy as np

from multibodies_jax import untrusted
from tfds_builders.archives import Skip
from tfds_builders.sources import joint_sets, mat, rows
from tfds_builders.sources.rows import Row

SEQUENCES = tuple(f"TS{i}" for i in range(1, 7))
SKELETONS = {"universal": "univ_annot3", "real": "annot3"}
_SHAPES = {"annot2": (1, 17, 2), "annot3": (1, 17, 3), "univ_annot3": (1, 17, 3), "valid_frame": (1,)}


def read(folder: pathlib.Path, skeleton: str) -> list[Row | Skip]:
    """The valid frames of all sequences in which every joint is in the image (SPIN's choice).

    Args:
      folder: with TS1 to TS6.
      skeleton: "universal" scales every person to one skeleton, which results are usually reported on; "real" does not.

    Raises:
      mat.MatError: an `annot_data.mat` that cannot be used.
      ValueError: there is no image for a valid frame.
    """
    return [row for sequence in SEQUENCES for row in _sequence(folder, sequence, skeleton)]


def _sequence(folder: pathlib.Path, sequence: str, skeleton: str) -> list[Row | Skip]:
    path = folder / sequence / "annot_data.mat"
    if not path.is_file():
        return []
    content = mat.read_v73(path, ["annot2", SKELETONS[skeleton], "valid_frame"], optional=["activity_annotation"])
    number = len(content["annot2"])
    for name, shape in _SHAPES.items():
        if name in content and content[name].shape != (number, *shape):
            raise mat.MatError(f"{name} of {path} is {content[name].shape}; it should be {(number, *shape)}.")
    kp2d, has = joint_sets.to_j24(content["annot2"][:, 0].astype(np.float64), joint_sets.MPI17)
    joints3d, _ = joint_sets.to_j24(content[SKELETONS[skeleton]][:, 0].astype(np.float64) / 1000, joint_sets.MPI17)
    activity = content.get("activity_annotation", np.zeros(number)).ravel().astype(int)  # 0: not said.
    result: list[Row | Skip] = []
    for i in np.flatnonzero(content["valid_frame"].ravel() == 1):
        image = f"{sequence}/imageSequence/img_{i + 1:06d}.jpg"
        name = f"mpi_inf_3dhp/test/{sequence}/activity_{activity[i]}/{i:06d}"
        if not np.all(np.isfinite(joints3d[i])):
            result.append(Skip("a joint that is not finite", name))
            continue
        more = {"joints3d": joints3d[i], "joints3d_valid": has, "protocol_hint": "mpi_inf_3dhp"}
        row = rows.row(name, image, kp2d[i], has, more=more)
        outside = isinstance(row, Row) and not _inside(kp2d[i][has > 0], _size(folder / image))
        result.append(Skip("a joint outside the image", name) if outside else row)
    return result


def _inside(points: np.ndarray, size: tuple[int, int]) -> bool:
    return bool(np.all((points >= 0) & (points < np.array(size))))


def _size(path: pathlib.Path) -> tuple[int, int]:
    """Width and height; only the head of the file is read."""
    try:
        with untrusted.open_image(path) as image:
            return image.size
    except Exception as error:  # Decoders raise almost anything on damaged files.
        raise ValueError(f"{path}, a valid frame of the test set, cannot be read ({error}).") from error
