"""Lists in SPIN's format as the official files are, and the images that they name."""

from typing import Any

import numpy as np
from PIL import Image

H36M = [f"images/S9_Directions_1.60457274_{i:06d}.jpg" for i in (1, 6, 11)]
THREEDPW = ["imageFiles/downtown_a_00/image_00000.jpg", "imageFiles/downtown_a_00/image_00001.jpg"] * 2


def arrays(names, seed=0, keys=("part", "S", "pose", "shape", "gender")):
    """The arrays of a list: float64, names as unicode."""
    rng, n = np.random.default_rng(seed), len(names)
    one = np.ones((n, 24, 1))
    every = {
        "part": np.concatenate([rng.integers(10, 90, (n, 24, 2)), one], axis=-1),
        "S": np.concatenate([rng.uniform(-1, 1, (n, 24, 3)), one], axis=-1),
        "pose": rng.normal(size=(n, 72)),
        "shape": rng.normal(size=(n, 10)),
        "gender": np.array(["m", "f"] * n)[:n],
    }
    box = {"center": rng.integers(80, 120, (n, 2)) / 2, "scale": rng.integers(60, 90, n) * 0.9 / 200}
    return {"imgname": np.array(names)} | box | {key: every[key] for key in keys}


def save(path, **arrays: Any):
    """`numpy.savez`, which a type checker lets take no dictionary of arrays."""
    np.savez(path, **arrays)


def write_images(root, names, size=(96, 88)):
    """Smooth pictures, each name's own."""
    for i, name in enumerate(dict.fromkeys(names)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (size[1] // 8, size[0] // 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize(size).save(path, quality=95)
