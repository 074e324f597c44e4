"""Random backgrounds: a gradient, noise, a floor and furniture-like shapes; crops of a bank that is made once."""

import functools

import cv2
import numpy as np
from jaxtyping import Float

BANK_SIZE = 64
_BANK_SEED = 20_200  # A constant: images must not depend on which process renders them.
_SIDE = 256


@functools.cache
def bank() -> Float[np.ndarray, "N side side 3"]:
    """The backgrounds, float32 in [0, 1]; takes about a second, once per process."""
    return np.stack([compose(np.random.default_rng([_BANK_SEED, i])) for i in range(BANK_SIZE)])


def draw(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """A random part of a random background, mirrored or not, in another light; float32 in [0, 1]."""
    picture = bank()[rng.integers(BANK_SIZE)]
    side = int(rng.integers(_SIDE // 2, _SIDE + 1))
    x, y = rng.integers(0, _SIDE - side + 1, 2)
    part = picture[y : y + side, x : x + side, :: rng.choice([-1, 1])]
    part = cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=cv2.INTER_LINEAR)
    contrast, brightness = rng.uniform(0.6, 1.1), rng.normal(0, 0.08)
    tint = brightness + rng.normal(0, 0.03, 3)
    return np.clip((part - 0.5) * np.float32(contrast) + (0.5 + tint).astype(np.float32), 0, 1)


def compose(rng: np.random.Generator) -> Float[np.ndarray, "side side 3"]:
    """Paints one background of the bank: a colour gradient, noise, sometimes a floor, and shapes; float32 in [0, 1]."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE - 0.5
    picture = np.ones((_SIDE, _SIDE, 3)) * _color(rng, 0.12)
    slope = rng.normal(size=2)
    picture += (x * slope[0] + y * slope[1])[..., None] * (rng.normal(0, 0.3) + rng.normal(0, 0.1, 3))
    picture += _noise(rng) * rng.uniform(0.03, 0.30)
    if rng.random() < 0.6:
        _add_floor(picture, x, y, rng)
    for _ in range(rng.poisson(4)):
        _add_shape(picture, x, y, rng)
    return np.clip(picture, 0, 1).astype(np.float32)


def _color(rng: np.random.Generator, saturation: float) -> Float[np.ndarray, "3"]:
    return np.clip(rng.uniform(0.1, 0.9) + rng.normal(0, saturation, 3), 0, 1)


def _noise(rng: np.random.Generator) -> Float[np.ndarray, "side side 3"]:
    """Octaves of noise, mostly of brightness: coloured noise looks like nothing in the world."""
    total = np.zeros((_SIDE, _SIDE, 3))
    for cells in (2, 4, 8, 16, 32):
        coarse = rng.normal(size=(cells + 2, cells + 2, 1)) + 0.3 * rng.normal(size=(cells + 2, cells + 2, 3))
        fine = cv2.resize(coarse, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
        total += fine * rng.uniform(0.3, 1) * cells**-0.5
    return total


def _add_floor(picture, x, y, rng: np.random.Generator) -> None:
    floor = y + 0.5 > rng.uniform(0.55, 0.9) + rng.normal(0, 0.06) * x
    nearer_is_darker = 1 - 0.4 * (y[floor] - 0.1)
    picture[floor] = 0.35 * picture[floor] + 0.65 * _color(rng, 0.08) * nearer_is_darker[:, None]


def _add_shape(picture, x, y, rng: np.random.Generator) -> None:
    """A rectangle or, sometimes, an ellipse, more or less opaque."""
    cx, cy = rng.uniform(-0.5, 0.5, 2)
    width, height, angle = rng.uniform(0.03, 0.45), rng.uniform(0.05, 0.7), rng.normal(0, 0.08)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    if rng.random() < 0.8:
        inside = (np.abs(u) < width / 2) & (np.abs(v) < height / 2)
    else:
        inside = (2 * u / width) ** 2 + (2 * v / height) ** 2 < 1
    opacity = rng.uniform(0.5, 1)
    paint = _color(rng, 0.15) * (1 + 0.3 * v[inside] / height)[:, None]
    picture[inside] = (1 - opacity) * picture[inside] + opacity * paint
