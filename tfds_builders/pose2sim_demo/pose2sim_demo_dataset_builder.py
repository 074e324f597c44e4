"""Real frames with 3D joints: a man who balances on one leg, seen by four synchronised cameras."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from multibodies_jax import detection
from multibodies_jax.data import occlusion
from multibodies_jax.geometry import boxes, joints
from tfds_builders import archives, building, features, options, windows
from tfds_builders.archives import BuildError, Skip
from tfds_builders.sources import pose2sim, video

NAME = "pose2sim_demo"
_FRAMES_OF_A_TASK = 25
_LIMBS = tuple(joints.COCO17.index(name) for name in joints.J24[:12])
_C = len(pose2sim.CAMERAS)
# What examples have beside the common features: what all cameras see of the frame, keypoints before any is hidden.
_VIEWS = {
    "view": ((), np.int32),
    "views_world_to_camera": ((_C, 3, 4), np.float32),
    "views_intrinsics": ((_C, 3, 3), np.float32),
    "views_distortion": ((_C, 4), np.float32),
    "views_kp2d": ((_C, 24, 2), np.float32),
    "views_kp2d_valid": ((_C, 24), np.float32),
    "views_box_scale": ((_C,), np.float32),
    "residual_px": ((24,), np.float32),
    "num_views": ((24,), np.int32),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(archives.ArchiveOptions):
    """Options of `pose2sim_demo`."""

    seed: int = options.option(0, "seed{}", "of the strategies of ambiguous sets")

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be within [0, 2^31), got {self.seed}.")
        if self.store == "path":
            raise ValueError("store=path needs image files, and pose2sim_demo has videos. Use store=window.")


@dataclasses.dataclass(frozen=True)
class Task:
    """Some frames of all cameras."""

    wheel: pathlib.Path
    base: str
    options: Options
    first: int
    count: int


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What a camera sees of a frame."""

    camera: pose2sim.Camera
    image: UInt8[np.ndarray, "H W 3"]
    found: detection.Detection

    @property
    def keypoints(self) -> np.ndarray:
        """J24: x, y, and 1 where the detector sees the joint inside the image; zeros elsewhere."""
        size = np.array(self.image.shape[1::-1])
        inside = np.all((self.found.keypoints >= 0) & (self.found.keypoints <= size), axis=1)
        table = np.column_stack([self.found.keypoints, self.found.visible & inside])
        return joints.to_j24(table.astype(np.float32), "coco17")


class Builder(archives.ArchiveBuilder):
    """A man who balances on one leg, seen by four synchronised cameras, with 3D joints triangulated from all of them."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [
        building.Config(name=name, base=name, options=Options(), description=text)
        for name, text in {
            "clean": "All keypoints that the detector finds.",
            "ambiguous": "The same frames, keypoints hidden by the strategies of appendix B, cropped around the rest.",
        }.items()
    ]
    HOMEPAGE = "https://github.com/perfanalytics/pose2sim"
    CITATION = """@article{Pagnon22,
  title = {Pose2Sim: An open-source Python package for multiview markerless kinematics},
  author = {Pagnon, David and Domalain, Mathieu and Reveret, Lionel},
  journal = {Journal of Open Source Software}, volume = {7}, number = {77}, year = {2022}}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""pip download --no-deps pose2sim==0.10.49 -d MANUAL_DIR (51 MB, BSD-3). MANUAL_DIR must hold
  {pose2sim.WHEEL}
and the detector's files must be there: multibodies fetch detector"""
    LENS_PX: ClassVar = 300.0  # kp2d are a detector's, a few of them on another part of the body.

    def expected(self) -> dict[str, int | None]:
        """Every frame of every camera; for testing only."""
        return {"test": pose2sim.FRAMES * _C}

    def occlusion_shares(self) -> tuple[float, ...] | None:
        """How often each strategy should be found."""
        return occlusion.PROBABILITIES if self.base == "ambiguous" else None

    def feature_dictionary(self) -> tfds.features.FeaturesDict:
        """That of all sets, and what all cameras see."""
        own = {name: tfds.features.Tensor(shape=shape, dtype=dtype) for name, (shape, dtype) in _VIEWS.items()}
        return tfds.features.FeaturesDict({**super().feature_dictionary(), **own})

    def tasks(self, split: str) -> Sequence[Any]:
        """Blocks of frames."""
        del split
        wheel = self.archive(pose2sim.WHEEL) / pose2sim.WHEEL
        pose2sim.check(wheel)
        try:
            detection.load()
        except detection.DetectorMissing as error:
            raise BuildError(f"{self.name}: {error}") from error
        return [
            Task(wheel, self.base, self.options, first, min(_FRAMES_OF_A_TASK, pose2sim.FRAMES - first))
            for first in range(0, pose2sim.FRAMES, _FRAMES_OF_A_TASK)
        ]

    @staticmethod
    def make(task: Task) -> Iterator[dict[str, Any] | Skip]:
        """The examples of some frames, camera after camera."""
        detector = detection.load()
        with tempfile.TemporaryDirectory() as folder:
            cameras, videos = pose2sim.unpack(task.wheel, pathlib.Path(folder))
            numbers = range(task.first, task.first + task.count)
            streams = [video.frames(path, numbers) for path in videos]
            waiting = [next(stream, None) for stream in streams]
            for number in numbers:
                seen: list[_Seen] = []
                for k, camera in enumerate(cameras):
                    where, frame = f"{camera.name} frame {number}", waiting[k]
                    if frame is None or frame[0] != number:
                        yield Skip("a frame that the video lacks", where)
                        continue
                    waiting[k] = next(streams[k], None)
                    people = [one for one in detector(frame[1]) if not one.unusable]
                    if not people:
                        yield Skip("nobody detected", where)
                        continue
                    # Passers-by are smaller.
                    seen.append(_Seen(camera, frame[1], max(people, key=lambda one: one.box[2] * one.box[3])))
                yield from _examples(task, number, cameras, seen)


def _examples(
    task: Task, number: int, cameras: Sequence[pose2sim.Camera], seen: Sequence[_Seen]
) -> Iterator[dict[str, Any] | Skip]:
    """The examples of one frame: of each camera that sees the man."""
    found = pose2sim.triangulate(
        [one.camera for one in seen],
        np.stack([one.found.keypoints for one in seen]) if seen else np.zeros((0, 17, 2)),
        np.stack([one.found.confidence for one in seen]) if seen else np.zeros((0, 17)),
    )
    if not np.isfinite(found.points[list(_LIMBS)]).all():
        for one in seen:
            yield Skip("a limb joint without two good views", f"{one.camera.name} frame {number}")
        return
    shared = _views(cameras, seen, found)
    for one in seen:
        yield _example(task, number, one, found, shared)


def _views(cameras: Sequence[pose2sim.Camera], seen: Sequence[_Seen], found: pose2sim.Joints) -> dict[str, np.ndarray]:
    """What examples of one frame have in common."""
    keypoints, scale = np.zeros((_C, 24, 3), np.float32), np.ones(_C, np.float32)
    for one in seen:
        k = pose2sim.CAMERAS.index(one.camera.name)
        keypoints[k] = one.keypoints
        scale[k] = boxes.visible_box(keypoints[k, :, :2], keypoints[k, :, 2])[1]
    place = joints.index_map(joints.COCO17, joints.J24)
    known = (place >= 0) & np.all(np.isfinite(found.points[place]), axis=1)
    values = {
        "views_world_to_camera": np.stack([np.column_stack([its.R, its.t]) for its in cameras]),
        "views_intrinsics": np.stack([its.K for its in cameras]),
        "views_distortion": np.stack([its.distortion for its in cameras]),
        "views_kp2d": keypoints[..., :2],
        "views_kp2d_valid": keypoints[..., 2],
        "views_box_scale": scale,
        "residual_px": np.where(known, found.residual_px[place], 0),
        "num_views": np.where(known, found.used.sum(axis=0)[place], 0),
    }
    return {name: value.astype(_VIEWS[name][1]) for name, value in values.items()}


def _example(
    task: Task, number: int, one: _Seen, found: pose2sim.Joints, shared: dict[str, np.ndarray]
) -> dict[str, Any]:
    name, camera = f"{NAME}/test/{one.camera.name}/{number:06d}", one.camera
    kp2d, valid = one.keypoints[:, :2], one.keypoints[:, 2]
    visible, strategy = valid, 0
    if task.base == "ambiguous":
        visible, strategy = occlusion.hide(occlusion.strategy_for(name, task.options.seed), valid)
    center, scale = boxes.visible_box(kp2d, visible)
    center_full, scale_full = boxes.visible_box(kp2d, valid)
    pixels, window = windows.cut(one.image, np.asarray(center_full), float(scale_full))
    place = joints.index_map(joints.COCO17, joints.J24)
    known = shared["num_views"] > 0
    points = found.points @ camera.R.T + camera.t
    common = features.example(
        example_id=name,
        protocol_hint="limbs",
        image=archives.stored_image(np.ascontiguousarray(pixels), task.options, "test"),
        window=window,
        image_size=np.array(one.image.shape[1::-1], np.int32),
        box_center=np.asarray(center),
        box_scale=np.asarray(scale),
        box_center_full=np.asarray(center_full),
        box_scale_full=np.asarray(scale_full),
        kp2d=kp2d,
        kp2d_valid=valid,
        kp2d_input=np.asarray(visible),
        joints3d=np.where(known[:, None], points[place], 0).astype(np.float32),
        joints3d_valid=known.astype(np.float32),
        intrinsics=camera.K.astype(np.float32),
        intrinsics_valid=np.float32(1),
        gender=np.int32(0),
        occlusion=occlusion.STRATEGIES[int(strategy)],
        dataset=NAME,
    )
    return common | shared | {"view": np.int32(pose2sim.CAMERAS.index(camera.name))}
