"""A tiny Human3.6M in the official formats: CDF, MP4, MATLAB v7.3, metadata.xml; MoSh and NeuralAnnot fits.

Nothing is copied from the dataset. The person is a stick figure that walks; the cameras, their lenses and the images
are small. `write` returns what was written as plain arrays, for tests to compute with on their own.
"""

import dataclasses
import json
import pathlib
import pickle
from collections.abc import Sequence

import cdflib.cdfwrite
import cv2
import h5py
import numpy as np
from scipy.spatial.transform import Rotation

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
USED = ("54138969", "60457274")
STEMS = {"S8": ("Waiting",), "S9": ("Directions 1", "_ALL"), "S11": ("Directions 1", "Directions", "_ALL")}
BROKEN = ("S11", "Directions", "54138969")
FRAMES = 7
VIDEO_FRAMES = FRAMES + 2
WIDTH, HEIGHT = 96, 80
OFFICIAL = {
    "mono": "MyPoseFeatures/D3_Positions_mono",
    "d2": "MyPoseFeatures/D2_Positions",
    "video": "Videos",
    "box": "MySegmentsMat/ground_truth_bb",
}
FETCHED = OFFICIAL | {"mono": "Poses_D3_Positions_mono", "d2": "Poses_D2_Positions"}

# f1 f2 c1 c2 k1 k2 k3 p1 p2, made up.
LENS = np.array([[90.0 + i, 91.0 - i, 48.5 - i, 39.5 + i, -0.2, 0.25, -0.003, -0.0014, -0.001] for i in range(4)])

# The 32 joints of the skeleton in a frame with y up and the left side along x, metres.
_STICK = np.zeros((32, 3))
_STICK[[1, 2, 3, 4, 5]] = [(-0.12, 0, 0), (-0.12, -0.4, 0), (-0.12, -0.8, 0), (-0.12, -0.85, 0.1), (-0.12, -0.85, 0.15)]
_STICK[[6, 7, 8, 9, 10]] = [(0.12, 0, 0), (0.12, -0.4, 0), (0.13, -0.8, 0), (0.13, -0.85, 0.1), (0.13, -0.85, 0.15)]
_STICK[[12, 13, 14, 15]] = [(0, 0.25, 0), (0, 0.5, 0), (0, 0.6, 0.05), (0, 0.7, 0.02)]
_STICK[[16, 17, 18, 19, 20, 21, 22, 23]] = [(0, 0.5, 0), (0.2, 0.48, 0), (0.3, 0.25, 0), (0.35, 0.1, 0.1)] + [
    (0.36, 0, 0.1)
] * 4
_STICK[[24, 25, 26, 27, 28, 29, 30, 31]] = [(0, 0.5, 0), (-0.2, 0.48, 0), (-0.3, 0.25, 0), (-0.35, 0, 0.1)] + [
    (-0.36, 0, 0.1)
] * 4


@dataclasses.dataclass
class Raw:
    """What was written of one recording: millimetres, pixels, and boxes x0, y0, x1, y1 (last pixel included)."""

    mono: np.ndarray
    d2: np.ndarray
    boxes: list[tuple[int, ...]]
    root: np.ndarray  # (F, 3, 3) of the body in the camera frame.


def write(
    root: pathlib.Path, folders: dict[str, str] = OFFICIAL, subjects: tuple[str, ...] = ("S9", "S11"), cameras=USED
) -> dict[tuple[str, str, str], Raw]:
    """Writes the archive; returns what is in it by subject, stem and camera."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.xml").write_text(metadata_xml(), encoding="utf-8")
    written: dict[tuple[str, str, str], Raw] = {}
    for subject in subjects:
        for stem in STEMS[subject]:
            rng = np.random.default_rng([int(subject[1:]), *stem.encode()])
            world = _walk(rng)
            for camera in cameras:
                raw = _seen(subject, camera, *world)
                files = {kind: root / subject / folder / f"{stem}.{camera}" for kind, folder in folders.items()}
                for path in files.values():
                    path.parent.mkdir(parents=True, exist_ok=True)
                write_cdf(files["mono"].with_name(f"{stem}.{camera}.cdf"), raw.mono.reshape(FRAMES, 96))
                write_cdf(files["d2"].with_name(f"{stem}.{camera}.cdf"), raw.d2.reshape(FRAMES, 64))
                write_masks(files["box"].with_name(f"{stem}.{camera}.mat"), raw.boxes)
                video = files["video"].with_name(f"{stem}.{camera}.mp4")
                write_video(video, VIDEO_FRAMES) if (subject, stem, camera) != BROKEN else video.write_bytes(b"")
                written[subject, stem, camera] = raw
    return written


def write_cdf(path: pathlib.Path, values: np.ndarray, name: str = "Pose", compress: int = 0) -> None:
    """One record of a float32 zVariable, as the official files have."""
    path.unlink(missing_ok=True)
    file = cdflib.cdfwrite.CDF(path, cdf_spec={"Majority": "row_major", "Encoding": 6})
    spec = {"Variable": name, "Data_Type": 21, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": list(values.shape)}
    file.write_var(spec | {"Compress": compress}, var_data=values[None].astype(np.float32))
    file.close()


def write_video(path: pathlib.Path, frames: int) -> None:
    """A video whose frames are as bright as `brightness` of their numbers."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 50, (WIDTH, HEIGHT))
    for i in range(frames):
        writer.write(np.full((HEIGHT, WIDTH, 3), brightness(i), np.uint8))
    writer.release()


def brightness(frame: int) -> int:
    """Far enough apart to survive compression."""
    return 16 + 24 * (frame % 10)


def write_masks(path: pathlib.Path, boxes: Sequence[tuple[int, ...] | None]) -> None:
    """MATLAB v7.3: references to a mask (W, H) for every frame; None is a mask of zeros, () is MATLAB's []."""
    reference = h5py.special_dtype(ref=h5py.Reference)
    with h5py.File(path, "w") as file:
        group = file.create_group("#refs#")
        masks = file.create_dataset("Masks", (len(boxes), 1), dtype=reference)
        for i, box in enumerate(boxes):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            if box == ():  # Empty arrays are stored as their size.
                masks[i, 0] = group.create_dataset(f"m{i}", data=np.zeros(2, np.uint64)).ref
                group[f"m{i}"].attrs["MATLAB_empty"] = np.uint8(1)
                continue
            if box is not None:
                x0, y0, x1, y1 = box
                mask[y0 : y1 + 1, x0 : x1 + 1] = 1
            masks[i, 0] = group.create_dataset(f"m{i}", data=mask.T).ref


def extrinsics(subject: str, camera: str) -> np.ndarray:
    """Three Euler angles, and the position in mm, of a camera that stands around the person and looks at it."""
    turn = np.pi / 2 * CAMERAS.index(camera) + 0.1 * int(subject[1:])
    position = 4000 * np.array([np.cos(turn), np.sin(turn), 0.3])
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0, 0, 1]) / np.linalg.norm(np.cross(forward, [0, 0, 1]))
    R = np.stack([right, np.cross(forward, right), forward])
    # R = Rx(a) Ry(b) Rz(c): its first row is (cos b cos c, -cos b sin c, sin b), its last column (sin b, -sin a cos b, ...).
    b = np.arcsin(R[0, 2])
    return np.array([np.arctan2(-R[1, 2], R[2, 2]), b, np.arctan2(-R[0, 1], R[0, 0]), *position])


def rotation(angles: np.ndarray) -> np.ndarray:
    """World to camera: Rx(a) Ry(b) Rz(c)."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    Rx = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    Ry = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    Rz = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return Rx @ Ry @ Rz


def project(point: np.ndarray, lens: np.ndarray) -> tuple[float, float]:
    """One point of the camera frame, with the dataset's distortion."""
    f1, f2, c1, c2, k1, k2, k3, p1, p2 = lens
    x, y = point[0] / point[2], point[1] / point[2]
    r2 = x * x + y * y
    d = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
    return f1 * (x * d + p2 * r2) + c1, f2 * (y * d + p1 * r2) + c2


def metadata_xml() -> str:
    """The elements that matter, in the official shapes."""
    subjects = [f"S{i}" for i in range(1, 12)]
    rows = [["Action", "subaction", *subjects]]
    for action in range(1, 17):
        for subaction in (1, 2):
            stem = {(2, 1): "Directions 1", (2, 2): "Directions", (13, 1): "Waiting"}.get((action, subaction))
            rows.append([str(action), str(subaction), *[stem or f"A{action} {subaction}"] * 11])
    rows += [["", "", *["x"] * 11], ["", "", *["[1002 1000;1000 1000;1000 1000;1002 1000]"] * 11]]
    mapping = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    ids = "".join(f"<item>{camera}</item>" for camera in CAMERAS)
    w0 = np.concatenate([*(extrinsics(s, c) for c in CAMERAS for s in subjects), LENS.ravel()])
    numbers = " ".join(repr(float(number)) for number in w0)
    return f"<metadata><mapping>{mapping}</mapping><dbcameras><index2id>{ids}</index2id></dbcameras><w0>[{numbers}]</w0></metadata>"


def write_mosh(root: pathlib.Path, written: dict[tuple[str, str, str], Raw], step: int = 5) -> None:
    """MoSh's pickles: the root turned by pi about its own x axis, every `step`-th frame."""
    for (subject, stem, camera), raw in written.items():
        poses = np.full((len(raw.root[::step]), 72), 0.1)
        poses[:, :3] = Rotation.from_matrix(raw.root[::step] @ np.diag([1.0, -1, -1])).as_rotvec()
        path = root / "neutrSMPL_H3.6" / subject / f"{stem}_cam{CAMERAS.index(camera)}_aligned.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps({"new_poses": poses, "betas": np.arange(10.0)}, protocol=2))


def write_neural_annot(root: pathlib.Path, written: dict[tuple[str, str, str], Raw]) -> None:
    """NeuralAnnot's JSON: by action, subaction and frame, in the world frame."""
    root.mkdir(parents=True, exist_ok=True)
    people: dict[str, dict] = {}
    for (subject, stem, camera), raw in written.items():
        if stem == "_ALL":
            continue
        world = rotation(extrinsics(subject, camera)[:3]).T @ raw.root
        frames = {
            str(i): {"pose": [*Rotation.from_matrix(world[i]).as_rotvec(), *[0.2] * 69], "shape": [0.5] * 10}
            for i in range(FRAMES)
        }
        subaction = {"Directions 1": ("2", "1"), "Directions": ("2", "2"), "Waiting": ("13", "1")}[stem]
        people.setdefault(subject, {}).setdefault(subaction[0], {})[subaction[1]] = frames
    for subject, actions in people.items():
        (root / f"Human36M_subject{subject[1:]}_SMPL_NeuralAnnot.json").write_text(
            json.dumps(actions), encoding="utf-8"
        )


def _walk(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Orientation (F, 3, 3) and joints (F, 32, 3) in mm of a person in the world, z up."""
    turns = Rotation.from_rotvec(np.outer(rng.uniform(-np.pi, np.pi) + 0.1 * np.arange(FRAMES), [0, 0, 1])).as_matrix()
    root = turns @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up becomes z up.
    joints = np.einsum("fab,jb->fja", root, _STICK) + rng.normal(0, 0.01, (FRAMES, 32, 3))
    joints[:, 11], joints[:, 16], joints[:, 24] = joints[:, 0], joints[:, 13], joints[:, 13]
    return root, 1000 * (joints + rng.normal(0, 0.1, 3))


def _seen(subject: str, camera: str, root: np.ndarray, joints: np.ndarray) -> Raw:
    angles_position = extrinsics(subject, camera)
    R, position = rotation(angles_position[:3]), angles_position[3:]
    mono = (joints - position) @ R.T
    d2 = np.array([[project(p, LENS[CAMERAS.index(camera)]) for p in frame] for frame in mono])
    low, high = np.floor(d2.min(1)).astype(int), np.ceil(d2.max(1)).astype(int)
    boxes = [
        (*np.maximum(a - 3, 0), *np.minimum(b + 3, (WIDTH - 1, HEIGHT - 1))) for a, b in zip(low, high, strict=True)
    ]
    return Raw(mono.astype(np.float32), d2.astype(np.float32), [tuple(map(int, box)) for box in boxes], R @ root)
