"""Clothes, hair, skin and light of synthetic people.

Materials are functions of the rest-pose coordinates of a surface point in `Body.clothes_frame` (x to the body's left, y
up from the floor, z forward; metres, for a stature of 1.70 m), so they stick to the body and have crisp edges at any
resolution, without textures.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

_SKIN_TONES = np.array(
    [(255, 224, 196), (241, 194, 160), (224, 172, 125), (198, 134, 90), (141, 85, 50), (92, 58, 38)], np.float32
) / np.float32(255)
_HAIR_TONES = np.array(
    [(25, 20, 18), (60, 42, 28), (110, 75, 45), (180, 140, 90), (140, 135, 130), (120, 50, 25)], np.float32
) / np.float32(255)

PATTERNS = ("plain", "rings", "stripes", "checks", "blotches", "panel")
_PATTERN_SHARES = (0.50, 0.14, 0.08, 0.08, 0.12, 0.08)
_SLEEVE_ENDS = (0.20, 0.28, 0.33, 0.45, 0.68)  # Distance from the mid-line, in the T-pose.
_SLEEVE_SHARES = (0.12, 0.30, 0.18, 0.08, 0.32)
_LEG_ENDS = (0.09, 0.30, 0.50, 0.64)  # Height above the floor.
_LEG_SHARES = (0.62, 0.08, 0.18, 0.12)

Points = Float[np.ndarray, "P 3"]
Colors = Float[np.ndarray, "P 3"]


@dataclasses.dataclass(frozen=True)
class Waves:
    """Smooth noise in about [-1, 1]: a sum of plane waves."""

    directions: Float[np.ndarray, "3 10"]
    phases: Float[np.ndarray, "10"]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Waves":
        scales = np.array([12, 12, 12, 25, 25, 25, 50, 50, 80, 80])
        directions, phases = rng.normal(size=(3, 10)) * scales, rng.uniform(0, 2 * np.pi, 10)
        return cls(directions.astype(np.float32), phases.astype(np.float32))

    def __call__(self, points: Points) -> Float[np.ndarray, "P"]:
        amplitudes = np.array([1, 1, 1, 0.7, 0.7, 0.7, 0.5, 0.5, 0.35, 0.35], np.float32) / np.float32(3.5)
        return np.sin(points @ self.directions + self.phases) @ amplitudes


@dataclasses.dataclass(frozen=True)
class Cloth:
    """Two colours and how they alternate."""

    first: Float[np.ndarray, "3"]
    second: Float[np.ndarray, "3"]
    pattern: str
    period: float
    phase: float
    waves: Waves

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Cloth":
        return cls(
            first=_cloth_color(rng),
            second=_cloth_color(rng),
            pattern=str(rng.choice(PATTERNS, p=_PATTERN_SHARES)),
            period=rng.uniform(0.025, 0.12),
            phase=rng.uniform(0, 1),
            waves=Waves.draw(rng),
        )

    def __call__(self, points: Points, along: Float[np.ndarray, "P"]) -> Colors:
        """Colours at points; `along` runs down the trunk and legs, or along the sleeve."""
        x, _, z = points.T
        if self.pattern == "plain":
            share = np.zeros_like(x)
        elif self.pattern == "rings":
            share = _square_wave(along / self.period + self.phase)
        elif self.pattern == "stripes":
            share = _square_wave((x + 0.3 * z) / (0.6 * self.period) + self.phase)
        elif self.pattern == "checks":
            share = 0.5 * _square_wave(along / self.period) + 0.5 * _square_wave((x + 0.4 * z) / self.period)
        elif self.pattern == "panel":
            share = (np.abs(x) > 0.11 + 0.03 * self.phase).astype(np.float32)
        else:
            share = np.clip(0.5 + 0.8 * self.waves(points), 0, 1)
        return self.first + share[:, None] * (self.second - self.first)


@dataclasses.dataclass(frozen=True)
class Outfit:
    """What one person looks like; lengths in metres of the clothes' frame."""

    skin: Float[np.ndarray, "3"]
    hair: Float[np.ndarray, "3"]
    bald: bool
    hairline: float
    nape: float
    top: Cloth
    bottom: Cloth
    shoes: Float[np.ndarray, "3"]
    barefoot: bool
    gloves: bool
    sleeve_end: float
    hem: float
    leg_end: float
    neck_radius: float
    neck_depth: float
    texture: Waves

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Outfit":
        top, one_piece = Cloth.draw(rng), rng.random() < 0.08
        return cls(
            skin=_between(_SKIN_TONES, rng) * np.float32(rng.uniform(0.9, 1.05)),
            hair=_between(_HAIR_TONES, rng),
            bald=bool(rng.random() < 0.12),
            hairline=rng.uniform(-0.012, 0.012),
            nape=rng.uniform(-0.02, 0.03),
            top=top,
            bottom=top if one_piece else Cloth.draw(rng),
            shoes=_cloth_color(rng) * np.float32(0.7),
            barefoot=bool(rng.random() < 0.1),
            gloves=bool(rng.random() < 0.04),
            sleeve_end=float(rng.choice(_SLEEVE_ENDS, p=_SLEEVE_SHARES)) + rng.normal(0, 0.01),
            hem=rng.uniform(0.86, 1.02),
            leg_end=float(rng.choice(_LEG_ENDS, p=_LEG_SHARES)),
            neck_radius=rng.uniform(0.07, 0.10),
            neck_depth=rng.uniform(0.2, 0.8) * (rng.random() < 0.35),
            texture=Waves.draw(rng),
        )


def colors(points: Points, outfit: Outfit) -> Colors:
    """The colour of the body's surface, before light.

    Args:
      points: rest-pose surface points in the clothes' frame.
      outfit: what the person wears.

    Returns:
      Red, green, blue in [0, 1].
    """
    grain = outfit.texture(points)
    result = outfit.skin * (1 + 0.04 * grain[:, None])
    side, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    is_arm = (side > 0.19) & (y > 1.1)
    _dress(result, points, is_arm, outfit)
    if not outfit.barefoot:
        shoe = (y < 0.085 + 0.25 * np.clip(-z, -0.1, 0.05)) & ~is_arm
        result[shoe] = outfit.shoes
        result[shoe & (y < 0.022)] = 0.85 - 0.5 * outfit.shoes.mean()  # The sole.
    if outfit.gloves:
        result[side > 0.70] = outfit.shoes
    head = np.flatnonzero((y > 1.48) & ~is_arm)
    result[head] = _head_colors(result[head], points[head], grain[head], outfit)
    return np.clip(result, 0, 1)


def _dress(result: Colors, points: Points, is_arm: Bool[np.ndarray, "P"], outfit: Outfit) -> None:
    """Paints trousers or skirtless bottoms, then what is worn above, into `result`."""
    side, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    # The neckline is cut by distance from the axis of the neck: cut by height, it would slip off the shoulders.
    from_neck = np.hypot(points[:, 0], 0.9 * (z + 0.025)) - 0.5 * np.clip(y - 1.44, -0.1, 0) * (z < 0.03)
    bare_neck = (y > 1.36) & (from_neck < outfit.neck_radius + outfit.neck_depth * np.clip(z - 0.03, 0, 0.1))
    top = np.where(is_arm, side < outfit.sleeve_end, (y > outfit.hem) & (y < 1.475) & ~bare_neck)
    bottom = (y <= max(outfit.hem, 0.93)) & (y > outfit.leg_end) & ~top & ~is_arm
    along = np.where(is_arm, side + 0.022, 1.45 - y)
    result[top] = outfit.top(points[top], along[top])
    result[bottom] = outfit.bottom(points[bottom], along[bottom])


def _head_colors(skin: Colors, points: Points, grain: Float[np.ndarray, "P"], outfit: Outfit) -> Colors:
    """Hair, eyes, brows and lips over the given skin."""
    result = skin.copy()
    side, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    if not outfit.bald:
        ear = (side > 0.073) & (y < 1.607) & (z > -0.035)
        behind_hairline = y - 1.595 - outfit.hairline > 0.72 * (z + 0.004)
        crown = (y > 1.648 + outfit.hairline) & (z < 0.11)
        hair = ((y > 1.505 + outfit.nape) & behind_hairline & ~ear) | crown
        result[hair] = outfit.hair * (1 + 0.25 * grain[hair, None])
    front = z > 0.06
    from_eye = (side - 0.031) ** 2
    eye = front & (from_eye + (1.5 * (y - 1.579)) ** 2 < 0.0125**2)
    iris = front & (from_eye + (y - 1.579) ** 2 < 0.0065**2)
    brow = front & (np.abs(y - 1.603 - 0.1 * (side - 0.03)) < 0.0045) & (side > 0.012) & (side < 0.047)
    lips = front & ((side / 0.022) ** 2 + ((y - 1.525) / 0.0075) ** 2 < 1)
    result[eye], result[iris], result[brow] = 0.9, 0.12, outfit.hair * 0.8
    result[lips] = outfit.skin * np.array([0.85, 0.55, 0.55], np.float32)
    return result


@dataclasses.dataclass(frozen=True)
class Light:
    """A lamp, the sky above and the ground below; directions in the camera frame (y down)."""

    direction: Float[np.ndarray, "3"]
    power: float
    tint: Float[np.ndarray, "3"]
    sky: float
    ground: float
    fill: float
    shine: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Light":
        azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.15, 1.3)
        direction = np.array(
            [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)], np.float32
        )
        if rng.random() < 0.75:  # Photographers keep the sun behind them.
            direction[2] = -abs(direction[2])
        warmth = rng.normal(0, 0.07)
        return cls(
            direction=direction,
            power=rng.uniform(0.45, 0.95),
            tint=np.array([1 + warmth, 1, 1 - warmth], np.float32),
            sky=rng.uniform(0.25, 0.5),
            ground=rng.uniform(0.10, 0.3),
            fill=rng.uniform(0, 0.25),
            shine=rng.uniform(0, 0.12),
        )


def shade(color: Colors, normals: Points, towards_camera: Points, light: Light) -> Colors:
    """Lambert's law for the lamp, a hemisphere of sky and ground, a fill light at the camera and a faint highlight.

    Args:
      color: of the surface.
      normals: unit vectors in the camera frame.
      towards_camera: unit vectors in the camera frame.
      light: of the scene.

    Returns:
      Colours that may exceed 1.
    """
    lamp = light.power * np.clip(normals @ light.direction, 0, 1)
    hemisphere = light.ground + (light.sky - light.ground) * (0.5 - 0.5 * normals[:, 1])
    fill = light.fill * np.clip(-normals[:, 2], 0, 1)
    halfway = _unit(towards_camera + light.direction)
    highlight = light.shine * np.clip((normals * halfway).sum(1), 0, 1) ** 24  # Blinn, 1977.
    return color * (lamp + hemisphere + fill)[:, None] * light.tint + highlight[:, None]


def _unit(vectors: Points) -> Points:
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(1, keepdims=True)), 1e-9)


def _square_wave(t: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
    return (t % 1 < 0.5).astype(np.float32)


def _between(palette: Float[np.ndarray, "N 3"], rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A colour somewhere along the palette."""
    t = rng.uniform(0, len(palette) - 1)
    i = min(int(t), len(palette) - 2)
    return (palette[i] + (t - i) * (palette[i + 1] - palette[i])).astype(np.float32)


def _cloth_color(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """Any hue and brightness, more often pale than saturated (HSV to RGB)."""
    value, saturation, hue = rng.uniform(0.08, 0.95), rng.beta(1.2, 2.0), rng.uniform(0, 6)
    k = (np.array([5, 3, 1]) + hue) % 6
    return (value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)
