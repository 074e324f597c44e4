"""A builder of a tiny made-up archive, for tests of what all archive builders share; worker processes import it."""

import dataclasses
import os
import pathlib
from typing import ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from multibodies_jax.geometry import boxes
from tfds_builders import archives, building, features, windows

WIDTH, HEIGHT = 120, 100  # Of its images, pixels.
_CAMERA = np.array([[100.0, 0, 70], [0, 100, 40], [0, 0, 1]])


def write(root: pathlib.Path, sequences: int = 3, images: int = 4) -> pathlib.Path:
    """Writes an archive: `<sequence>/<number>.png`; the last image of every sequence cannot be read."""
    rng = np.random.default_rng(0)
    for s in range(sequences):
        folder = root / "images" / f"seq{s}"
        folder.mkdir(parents=True)
        for i in range(images):
            path = folder / f"{i:03d}.png"
            cv2.imwrite(str(path), rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        path.write_bytes(b"not an image")
    return root


@dataclasses.dataclass(frozen=True)
class Task:
    root: pathlib.Path
    split: str
    sequence: str
    options: archives.ArchiveOptions


class Builder(archives.ArchiveBuilder, skip_registration=True):
    """Dots in noise."""

    name = "dots"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [building.Config(name="all", base="all", options=archives.ArchiveOptions())]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Register at https://dots.example. MANUAL_DIR must hold:\n  images/<sequence>/*.png"

    def expected(self):
        return {"train": 6, "validation": None, "test": 99}

    def tasks(self, split):
        root = self.archive("images/*")
        names = sorted(path.name for path in (root / "images").iterdir())
        chosen = {"train": names[:-1], "validation": [], "test": names[-1:]}[split]
        return [Task(root, split, name, self.options) for name in chosen]

    @staticmethod
    def make(task):
        with (task.root / "log").open("a", encoding="utf-8") as log:
            log.write(f"{task.sequence}\n")
        if (kill := task.root / "kill").exists() and task.sequence == kill.read_text(encoding="utf-8"):
            os._exit(9)  # As a process that is killed: nothing is closed or reported.
        if (wrong := task.root / "wrong").exists() and task.sequence == wrong.read_text(encoding="utf-8"):
            raise ValueError("the poses are of the other version")
        for path in sorted((task.root / "images" / task.sequence).glob("*.png")):
            image = cv2.imread(str(path))
            if image is None:
                yield archives.Skip("unreadable image", f"{task.sequence}/{path.name}")
                continue
            yield _example(task, path, image[..., ::-1])


def _example(task, path, image):
    rng = np.random.default_rng([*task.sequence.encode(), int(path.stem)])
    joints = np.append(rng.uniform(-0.3, 0.3, (24, 2)), rng.uniform(2.8, 3.2, (24, 1)), axis=1)
    projected = joints @ _CAMERA.T
    kp2d = projected[:, :2] / projected[:, 2:]
    ones = np.ones(24, np.float32)
    center, scale = boxes.visible_box(kp2d.astype(np.float32), ones)
    pixels, window = windows.cut(image, np.asarray(center), float(scale))
    return features.example(
        example_id=f"dots/{task.sequence}/{path.stem}",
        image=archives.stored_image(pixels, task.options, task.split, f"images/{task.sequence}/{path.name}"),
        window=window,
        image_size=[WIDTH, HEIGHT],
        box_center=center,
        box_scale=scale,
        kp2d=kp2d,
        kp2d_valid=ones,
        joints3d=joints,
        joints3d_valid=ones,
        intrinsics=_CAMERA,
        intrinsics_valid=1.0,
        dataset="lsp",
    )
