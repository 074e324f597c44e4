r"""The errors of a model on real frames with a 3D reference: a reality check with one man and one motion, no benchmark.

    pip download --no-deps pose2sim==0.10.49 && unzip pose2sim-*.whl 'Pose2Sim/Demo_SinglePerson/*'
    python -m benchmarks.real_frames --frames=Pose2Sim/Demo_SinglePerson [--workdir=RUN]

The package Pose2Sim (BSD-3) ships four synchronised, calibrated videos of a man who balances on one leg, seen from above
by wide lenses. The detector finds his joints in all four views; triangulated they are the reference (1 to 2 cm). Then
each view is predicted alone. Errors are over 12 joints of the limbs, mid-hip aligned, in mm: MPJPE and RE (PA-MPJPE) of
the best of n bodies, the mean over all views and frames. A second table withholds the keypoints of knees and ankles.
"""

import argparse
import dataclasses
import pathlib
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

import cv2
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from multibodies_jax import detection
from multibodies_jax.evaluation import metrics
from multibodies_jax.export import camera
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import detected, people, predictor, pretrained
from multibodies_jax.training import setup

FRAMES = range(0, 100, 10)
NS = (1, 5, 10, 25)
LIMBS = tuple(
    name for name in joints.COCO17 if name.partition("_")[2] in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
WITHHELD = ("left_knee", "right_knee", "left_ankle", "right_ankle")
_MIN_CONFIDENCE = 0.3  # Of a joint that is triangulated.
_LARGEST_FILE = 2**20


@dataclasses.dataclass(frozen=True)
class Camera:
    """A calibrated camera: p_camera = R p_world + t, metres; pixels by K after the distortion (OpenCV's model)."""

    K: Float[np.ndarray, "3 3"]
    distortion: Float[np.ndarray, "4"]
    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, "3"]


def read_cameras(path: pathlib.Path) -> list[Camera]:
    """The cameras of a Qualisys calibration file, in its order.

    Raises:
      ValueError: it is no such file.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} is larger than a calibration of cameras.")
    cameras = []
    try:
        for entry in ElementTree.fromstring(path.read_bytes()).iter("camera"):
            place, lens = (_numbers(entry.find(tag)) for tag in ("transform", "intrinsic"))
            focal = [lens[f"focalLength{axis}"] / 64 for axis in "UV"]  # Stored in 64ths of a pixel.
            center = [lens[f"centerPoint{axis}"] / 64 for axis in "UV"]
            K = np.array([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]])
            names = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
            R = np.array([[place[f"r{row}{column}"] for column in "123"] for row in "123"])
            origin = np.array([place[axis] for axis in "xyz"]) / 1000
            about_x = np.diag([1.0, -1.0, -1.0])  # The file's cameras have y up and look along -z.
            cameras.append(Camera(K, np.array([lens[name] for name in names]), about_x @ R, -about_x @ R @ origin))
    except (ElementTree.ParseError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no Qualisys calibration ({error}).") from error
    return cameras


def _numbers(element: ElementTree.Element | None) -> dict[str, float]:
    return {
        name: float(value) for name, value in ({} if element is None else element.attrib).items() if _is_number(value)
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_frames(path: pathlib.Path) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames `FRAMES` of a video, RGB.

    Raises:
      ValueError: it has fewer.
    """
    video = cv2.VideoCapture(str(path))
    for number in range(max(FRAMES) + 1):
        there, image = video.read()
        if not there:
            raise ValueError(f"{path}: frame {number} cannot be read; {max(FRAMES) + 1} frames are expected.")
        if number in FRAMES:
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def triangulate(
    cameras: Sequence[Camera], keypoints: Float[np.ndarray, "C 17 2"], confidence: Float[np.ndarray, "C 17"]
) -> Float[np.ndarray, "17 3"]:
    """The points nearest to the rays of all views that see them, weighted by their confidence; NaN where fewer than two do.

    Source: the homogeneous linear method (Hartley and Zisserman, 2004, section 12.2).
    """
    points = np.full((17, 3), np.nan)
    for joint in range(17):
        rows = []
        for view, (x, y) in enumerate(keypoints[:, joint]):
            weight, camera_ = confidence[view, joint], cameras[view]
            if weight < _MIN_CONFIDENCE:
                continue
            pixel = np.array([[[x, y]]], np.float64)
            u, v = cv2.undistortPoints(pixel, camera_.K, camera_.distortion).ravel()
            P = np.hstack([camera_.R, camera_.t[:, None]])
            rows += [weight * (u * P[2] - P[0]), weight * (v * P[2] - P[1])]
        if len(rows) >= 4:
            X = np.linalg.svd(np.array(rows))[2][-1]
            points[joint] = X[:3] / X[3]
    return points


def errors_mm(found: Float[np.ndarray, "n 24 3"], reference: Float[np.ndarray, "17 3"]) -> tuple[float, float]:
    """MPJPE and RE of the best of n bodies, over the joints of the limbs that the reference has; NaN without both hips."""
    places = np.array([joints.J24.index(name) for name in LIMBS])
    target = reference[[joints.COCO17.index(name) for name in LIMBS]]
    known = np.asarray(np.isfinite(target).all(axis=1))
    hips = [LIMBS.index("left_hip"), LIMBS.index("right_hip")]
    if not known[hips].all():
        return np.nan, np.nan
    pred = found[:, places] - found[:, places][:, hips].mean(axis=1, keepdims=True)
    target = target - target[hips].mean(axis=0)
    pair = jnp.asarray(pred[:, known], jnp.float32), jnp.asarray(target[known], jnp.float32)[None]
    return float(metrics.mpjpe_mm(*pair).min()), float(metrics.pa_mpjpe_mm(*pair).min())


def withhold(person: people.Person, names: Sequence[str]) -> people.Person:
    """The person without some keypoints."""
    keypoints = person.keypoints.copy()
    keypoints[[joints.J24.index(name) for name in names]] = 0
    return people.Person(keypoints)


def measure(
    model: predictor.Predictor,
    views: Sequence[tuple[np.ndarray, people.Person, camera.Lens, Float[np.ndarray, "17 3"]]],
    refine: bool,
) -> dict[str, float]:
    """ "MPJPE n" and "RE n" in mm of each n that the model has, and "2D", the error of all M in pixels of 224, over views."""
    columns: dict[str, list[float]] = {}
    for number, (image, person, lens, reference) in enumerate(views):
        ns = [n for n in NS if n <= model.num_hypotheses]
        one = model.person(image, person, f"view{number}", 0, max(ns), lens, refine)
        for n in ns:
            mpjpe, re = errors_mm(one.requantize(n).joints, reference)
            columns.setdefault(f"MPJPE {n}", []).append(mpjpe)
            columns.setdefault(f"RE {n}", []).append(re)
        box_px = 200 * float(one.record["box_scale"])
        columns.setdefault("2D", []).append(float(one.record["all_error_px"].mean()) * 224 / box_px)
    return {name: float(np.nanmean(values)) for name, values in columns.items()}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown: a row of each method, MPJPE / RE by n."""
    lines = ["| | " + " | ".join(f"n = {n}" for n in NS) + " | 2D, px of 224 |", "|---" * (len(NS) + 2) + "|"]
    for name, row in rows.items():
        cells = [f"{row[f'MPJPE {n}']:.0f} / {row[f'RE {n}']:.0f}" if f"RE {n}" in row else "" for n in NS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['2D']:.1f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_frames",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--frames", type=pathlib.Path, required=True, help="Pose2Sim/Demo_SinglePerson")
    parser.add_argument("--workdir", type=pathlib.Path, help="a trained model (default: the embedded weights)")
    values = parser.parse_args(argv)
    setup.enable_compilation_cache()
    try:
        cameras = read_cameras(values.frames / "calibration" / "Calib.qca.txt")
        videos = [list(read_frames(values.frames / "videos" / f"cam{k + 1:02d}.mp4")) for k in range(len(cameras))]
        detector = detection.load()
        if values.workdir:
            models = {"ours": predictor.load(values.workdir)}
        else:
            models = {"ours": pretrained.load_pretrained(), "HMR": pretrained.load_pretrained("hmr")}
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    views, reprojected = [], []
    for frame in range(len(FRAMES)):
        images = [video[frame] for video in videos]
        found = [max(detector(image), key=lambda one: one.box[2] * one.box[3]) for image in images]
        points = triangulate(
            cameras, np.stack([one.keypoints for one in found]), np.stack([one.confidence for one in found])
        )
        for image, one, its in zip(images, found, cameras, strict=True):
            p_camera = points @ its.R.T + its.t
            pixels = cv2.projectPoints(p_camera, np.zeros(3), np.zeros(3), its.K, its.distortion)[0][:, 0]
            reprojected += np.linalg.norm(pixels - one.keypoints, axis=1)[one.visible].tolist()
            size = image.shape[1::-1]
            lens = camera.lens(size, float(its.K[0, 0]))
            views.append((image, detected.to_person(one, size), lens, p_camera))
    print(
        f"{len(views)} views; median distance of the triangulated joints to the detected: {np.nanmedian(reprojected):.0f} px"
    )
    for title, names in (("All keypoints that the detector finds", ()), ("Knees and ankles withheld", WITHHELD)):
        shown = [(image, withhold(person, names), lens, reference) for image, person, lens, reference in views]
        rows = {
            f"{name}{', refined' if refine else ''}": measure(model, shown, refine)
            for name, model in models.items()
            for refine in (False, True)
        }
        print(f"\n{title}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
