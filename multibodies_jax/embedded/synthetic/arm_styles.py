"""Named things that people do with an arm, as distributions of clinical angles in degrees."""

import numpy as np

from multibodies_jax.embedded.clinical_angles import Angles

# Each angle is mean + a normal + b |normal| + c uniform, given as (mean, a, b, c) with trailing zeros left out.
_DEFAULT = {"wrist_flexion": (0, 14), "wrist_deviation": (0, 7), "finger_flexion": (12, 12)}


def _style(elevation, plane, rotation, elbow, pronation, **others) -> dict[str, tuple]:
    return _DEFAULT | {
        "shoulder_elevation": elevation,
        "shoulder_plane": plane,
        "shoulder_rotation": rotation,
        "elbow_flexion": elbow,
        "pronation": pronation,
    } | others  # fmt: skip


STYLES = {
    "hang": _style((9, 6), (20, 35), (8, 18), (14, 0, 14), (0, 25)),
    "on_hip": _style((38, 6), (-18, 12), (42, 9), (98, 9), (-20, 15), wrist_flexion=(-25, 12)),
    "folded": _style((32, 9), (52, 12), (48, 10), (92, 13), (0, 25)),
    "phone": _style((48, 12), (62, 16), (5, 14), (132, 6), (-20, 20)),
    "talk": _style((28, 14), (40, 25), (0, 24), (82, 24), (0, 35)),
    "point": _style((82, 20), (-10, 0, 0, 120), (0, 22), (12, 0, 16), (0, 35)),
    "up": _style((145, 18), (0, 0, 0, 80), (-8, 20), (25, 0, 32), (0, 30)),
    "wave": _style((78, 14), (18, 16), (-62, 14), (92, 24), (0, 20)),
    "on_head": _style((122, 10), (28, 12), (-45, 12), (128, 8), (0, 15)),
    "behind_back": _style((22, 6), (-48, 6), (45, 10), (45, 15), (0, 15)),
    "lap": _style((28, 8), (66, 12), (10, 12), (58, 12), (10, 18)),
    "table": _style((45, 9), (62, 12), (18, 14), (78, 14), (15, 18)),
    "propped": _style((38, 7), (-52, 5), (10, 12), (12, 0, 8), (10, 18)),
    "anywhere": _style((5, 0, 0, 155), (-30, 0, 0, 145), (0, 32), (0, 0, 0, 135), (0, 40)),
}
NAMES = tuple(STYLES)
_ANGLES = tuple(STYLES["hang"])
_TABLE = np.array([[(*STYLES[s][a], 0, 0, 0)[:4] for a in _ANGLES] for s in NAMES], float)  # (styles, angles, 4)


def draw_arms(rng: np.random.Generator, n: int, same: float, **shares: float) -> Angles:
    """Draws both arms of n people.

    Args:
      rng: decides everything.
      n: number of people.
      same: probability that both arms have the same style on purpose.
      **shares: how often each style of `STYLES` is drawn.
    """
    probability = np.array(list(shares.values()))
    choices = np.array([NAMES.index(name) for name in shares])
    style = rng.choice(choices, (n, 2), p=probability / probability.sum())
    style[:, 1] = np.where(rng.random(n) < same, style[:, 0], style[:, 1])
    return draw_styles(rng, style)


def draw_styles(rng: np.random.Generator, style: np.ndarray) -> Angles:
    """Draws the angles of arms with the given styles: indices into `NAMES`, of any shape."""
    shape = (*style.shape, len(_ANGLES))
    normal, half, uniform = rng.standard_normal(shape), np.abs(rng.standard_normal(shape)), rng.random(shape)
    mean, a, b, c = np.moveaxis(_TABLE[style], -1, 0)
    values = mean + a * normal + b * half + c * uniform
    return {name: values[..., k] for k, name in enumerate(_ANGLES)}
