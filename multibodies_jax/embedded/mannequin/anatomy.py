"""The implicit surface of the body: lofted cross sections, ellipsoids and round cones, smoothly joined.

Sizes are half breadths and half depths in metres for a stature of 1.70 m, read off anthropometric girth tables (thigh
56 cm, calf 36 cm, ankle 22 cm, upper arm 29 cm, wrist 16 cm, waist 80 cm, hip 98 cm). Rows are (distance along the
line, centre offset x 2, half width, half depth front and back, exponent), see `primitives.Loft`.
"""

import numpy as np

from multibodies_jax.embedded.mannequin.primitives import (
    Loft,
    Points,
    Values,
    ellipsoid,
    round_cone,
    smooth_max,
    smooth_min,
)
from multibodies_jax.embedded.mannequin.skeleton import rest_joint

_X, _Y, _Z = np.eye(3)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _offset(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z])


def _torso_loft() -> Loft:
    """Distance is the height above the floor."""
    sections = [
        (0.810, 0, 0.005, 0.080, 0.050, 0.065, 2.0),
        (0.850, 0, 0.000, 0.142, 0.088, 0.092, 2.1),
        (0.890, 0, 0.000, 0.160, 0.102, 0.106, 2.2),
        (0.930, 0, 0.000, 0.164, 0.107, 0.110, 2.25),
        (0.980, 0, 0.000, 0.158, 0.109, 0.100, 2.3),
        (1.040, 0, 0.000, 0.145, 0.106, 0.083, 2.3),
        (1.090, 0, 0.000, 0.138, 0.101, 0.078, 2.3),
        (1.150, 0, 0.000, 0.139, 0.099, 0.084, 2.3),
        (1.220, 0, 0.000, 0.147, 0.103, 0.094, 2.35),
        (1.290, 0, 0.000, 0.156, 0.108, 0.100, 2.4),
        (1.340, 0, 0.000, 0.160, 0.101, 0.103, 2.4),
        (1.385, 0, -0.004, 0.146, 0.083, 0.096, 2.3),
        (1.420, 0, -0.012, 0.105, 0.062, 0.078, 2.1),
        (1.450, 0, -0.018, 0.066, 0.050, 0.060, 2.0),
    ]
    return Loft((0, 0, -0.010), _Y, _X, _Z, sections, cap=0.05)


def _neck_loft() -> Loft:
    """Distance runs up the neck, which leans forward."""
    base, top = np.array([0, 1.41, -0.034]), np.array([0, 1.585, 0.004])
    direction = _unit(top - base)
    sections = [
        (0.000, 0, 0, 0.074, 0.060, 0.058, 2.0),
        (0.040, 0, 0, 0.059, 0.055, 0.055, 2.0),
        (0.090, 0, 0, 0.052, 0.052, 0.054, 2.0),
        (0.178, 0, 0, 0.053, 0.053, 0.056, 2.0),
    ]
    return Loft(base, direction, _X, np.cross(_X, direction), sections, cap=0.02)


def _leg_loft() -> Loft:
    """Distance runs down from the left hip joint."""
    hip, ankle = rest_joint("left_hip"), rest_joint("left_ankle")
    down = _unit(ankle - hip)
    side = _unit(_X - (_X @ down) * down)
    sections = [
        (-0.130, -0.010, 0.000, 0.050, 0.060, 0.050, 2.0),
        (-0.060, 0.000, 0.000, 0.070, 0.080, 0.075, 2.0),
        (0.000, 0.002, 0.000, 0.080, 0.087, 0.088, 2.0),
        (0.060, 0.002, 0.000, 0.086, 0.090, 0.092, 2.0),
        (0.120, 0.001, 0.002, 0.084, 0.086, 0.089, 2.0),
        (0.200, 0.000, 0.004, 0.074, 0.080, 0.080, 2.0),
        (0.290, 0.001, 0.004, 0.063, 0.069, 0.066, 2.0),
        (0.360, 0.001, 0.003, 0.054, 0.058, 0.055, 2.1),
        (0.405, 0.001, 0.002, 0.051, 0.053, 0.051, 2.15),
        (0.440, 0.000, 0.000, 0.049, 0.050, 0.052, 2.1),
        (0.500, 0.002, -0.008, 0.053, 0.047, 0.058, 2.0),
        (0.550, 0.002, -0.010, 0.054, 0.046, 0.060, 2.0),
        (0.620, 0.001, -0.009, 0.046, 0.042, 0.050, 2.0),
        (0.700, 0.000, -0.006, 0.035, 0.036, 0.037, 2.0),
        (0.760, 0.000, -0.004, 0.032, 0.036, 0.037, 2.0),
        (0.800, 0.000, -0.003, 0.033, 0.040, 0.041, 2.0),
        (0.830, 0.000, -0.002, 0.033, 0.043, 0.043, 2.0),
    ]
    return Loft(hip, down, side, np.cross(down, side), sections, cap=0.02)


def _arm_loft() -> Loft:
    """Distance runs from the left shoulder joint to the hand; width is the depth of the arm, front is up."""
    shoulder, wrist = rest_joint("left_shoulder"), rest_joint("left_wrist")
    sections = [
        (-0.050, 0.000, 0.000, 0.050, 0.036, 0.046, 2.0),
        (0.000, 0.000, 0.000, 0.054, 0.046, 0.056, 2.0),
        (0.045, 0.000, 0.000, 0.053, 0.047, 0.055, 2.0),
        (0.110, 0.000, -0.003, 0.046, 0.043, 0.046, 2.0),
        (0.180, 0.000, -0.003, 0.043, 0.041, 0.043, 2.0),
        (0.240, 0.000, 0.000, 0.040, 0.036, 0.036, 2.1),
        (0.275, 0.000, 0.000, 0.041, 0.034, 0.034, 2.1),
        (0.330, 0.003, 0.000, 0.043, 0.036, 0.036, 2.0),
        (0.400, 0.002, 0.000, 0.037, 0.031, 0.031, 2.0),
        (0.470, 0.000, 0.000, 0.030, 0.023, 0.023, 2.1),
        (0.515, 0.000, 0.000, 0.028, 0.020, 0.020, 2.2),
        (0.545, 0.000, 0.000, 0.030, 0.020, 0.020, 2.2),
    ]
    return Loft(shoulder, _unit(wrist - shoulder), _Z, _Y, sections, cap=0.015)


def _hand_loft() -> Loft:
    """A mitten; distance runs beyond the left wrist joint."""
    sections = [
        (-0.020, 0.000, 0.000, 0.028, 0.018, 0.018, 2.1),
        (0.020, 0.002, -0.001, 0.033, 0.017, 0.018, 2.2),
        (0.060, 0.000, -0.003, 0.041, 0.016, 0.018, 2.4),
        (0.085, -0.001, -0.005, 0.042, 0.015, 0.016, 2.4),
        (0.120, -0.003, -0.010, 0.040, 0.013, 0.013, 2.3),
        (0.150, -0.004, -0.017, 0.036, 0.012, 0.012, 2.2),
        (0.168, -0.005, -0.022, 0.030, 0.011, 0.011, 2.1),
        (0.182, -0.005, -0.027, 0.019, 0.008, 0.008, 2.0),
    ]
    return Loft(rest_joint("left_wrist"), _X, _Z, _Y, sections, cap=0.012)


_TORSO, _NECK, _LEG, _ARM, _HAND = _torso_loft(), _neck_loft(), _leg_loft(), _arm_loft(), _hand_loft()


def _fold(p: Points) -> Points:
    """Mirrors every point to the left side, so that one solid appears on both."""
    return np.stack([np.abs(p[..., 0]), p[..., 1], p[..., 2]], -1)


def _left_leg(p: Points) -> Values:
    knee_cap = ellipsoid(p, rest_joint("left_knee") + _offset(0.0, 0.012, 0.032), (0.030, 0.040, 0.022))
    return smooth_min(_LEG(p), knee_cap, 0.035)


def _left_foot(p: Points) -> Values:
    ankle, toe = rest_joint("left_ankle"), np.array([0.137, 0.022, 0.150])  # The foot points slightly outwards.
    forward = _unit((toe - ankle) * [1, 0, 1])
    axes = np.stack([np.cross(_Y, forward), _Y, forward], 1)

    def at(side: float, up: float, ahead: float) -> np.ndarray:
        return ankle * [1, 0, 1] + axes @ np.array([side, up, ahead])

    d = ellipsoid(p, at(0.0, 0.034, -0.030), (0.031, 0.036, 0.036), axes)  # Heel.
    d = smooth_min(d, round_cone(p, at(0.0, 0.062, 0.010), at(0.003, 0.034, 0.105), 0.036, 0.021), 0.030)  # Instep.
    d = smooth_min(d, ellipsoid(p, at(0.002, 0.026, 0.045), (0.036, 0.026, 0.080), axes), 0.020)  # Middle.
    d = smooth_min(d, ellipsoid(p, at(0.004, 0.024, 0.125), (0.044, 0.021, 0.050), axes), 0.020)  # Ball.
    d = smooth_min(d, ellipsoid(p, at(-0.012, 0.019, 0.165), (0.025, 0.016, 0.036), axes), 0.015)  # Big toe.
    d = smooth_min(d, ellipsoid(p, at(0.018, 0.017, 0.150), (0.026, 0.014, 0.030), axes), 0.015)  # Small toes.
    return smooth_max(d, 0.004 - p[..., 1], 0.012)  # Flat sole.


def _left_arm(p: Points) -> Values:
    deltoid = ellipsoid(p, rest_joint("left_shoulder") + _offset(0.030, 0.004, 0.0), (0.062, 0.050, 0.056))
    wrist = rest_joint("left_wrist")
    knuckle = wrist + _offset(0.068, -0.014, 0.058)
    thumb = round_cone(p, wrist + _offset(0.022, -0.006, 0.020), knuckle, 0.0165, 0.0125)
    tip = wrist + _offset(0.102, -0.017, 0.070)
    thumb = smooth_min(thumb, round_cone(p, knuckle, tip, 0.0125, 0.0100), 0.006)
    return smooth_min(smooth_min(_ARM(p), deltoid, 0.030), smooth_min(_HAND(p), thumb, 0.014), 0.015)


def _head(p: Points) -> Values:
    ear_axes = np.array([[0.94, 0, 0.34], [0, 1, 0], [-0.34, 0, 0.94]]).T
    m = _fold(p)
    d = ellipsoid(p, (0, 1.606, -0.004), (0.076, 0.094, 0.097))  # Cranium.
    d = smooth_min(d, ellipsoid(p, (0, 1.548, 0.032), (0.056, 0.078, 0.066)), 0.040)  # Face.
    d = smooth_min(d, ellipsoid(p, (0, 1.497, 0.067), (0.026, 0.017, 0.022)), 0.028)  # Chin.
    d = smooth_min(d, round_cone(m, (0.049, 1.546, 0.006), (0.017, 1.499, 0.064), 0.017, 0.013), 0.030)  # Jaw line.
    d = smooth_min(d, ellipsoid(m, (0.036, 1.556, 0.064), (0.018, 0.017, 0.019)), 0.020)  # Cheek bones.
    d = smooth_min(d, round_cone(m, (0.012, 1.602, 0.088), (0.044, 1.600, 0.068), 0.010, 0.010), 0.018)  # Brows.
    d = smooth_max(d, -ellipsoid(m, (0.031, 1.579, 0.103), (0.017, 0.012, 0.016)), 0.014)  # Eye sockets.
    d = smooth_min(d, ellipsoid(m, (0.031, 1.579, 0.077), (0.014, 0.012, 0.013)), 0.006)  # Eyes.
    d = smooth_min(d, round_cone(p, (0, 1.592, 0.092), (0, 1.556, 0.112), 0.0075, 0.0115), 0.012)  # Nose.
    d = smooth_min(d, ellipsoid(m, (0.010, 1.552, 0.102), (0.010, 0.008, 0.010)), 0.008)  # Nostrils.
    d = smooth_min(d, ellipsoid(m, (0.006, 1.525, 0.092), (0.016, 0.0080, 0.0095)), 0.009)  # Lips.
    return smooth_min(d, ellipsoid(m, (0.078, 1.577, -0.006), (0.008, 0.030, 0.018), ear_axes), 0.010)  # Ears.


def _torso(p: Points) -> Values:
    m = _fold(p)
    d = smooth_min(_TORSO(p), ellipsoid(m, (0.072, 1.290, 0.055), (0.072, 0.062, 0.046)), 0.050)  # Chest.
    d = smooth_min(d, ellipsoid(m, (0.077, 0.885, -0.075), (0.078, 0.085, 0.066)), 0.040)  # Glutes.
    d = smooth_min(d, round_cone(m, (0.030, 1.462, -0.040), (0.165, 1.408, -0.032), 0.036, 0.034), 0.050)  # Trapezius.
    return smooth_min(d, ellipsoid(m, (0.090, 1.310, -0.092), (0.050, 0.070, 0.018)), 0.060)  # Shoulder blades.


def body(p: Points) -> Values:
    """The whole body: negative inside, roughly a distance in metres; exactly mirror-symmetric in x."""
    p = np.asarray(p, float)
    left, right = (smooth_min(_left_leg(q), _left_foot(q), 0.030) for q in (p, p * [-1, 1, 1]))
    d = smooth_min(_torso(p), _NECK(p), 0.045)
    d = smooth_min(d, _head(p), 0.030)
    d = smooth_min(d, smooth_min(left, right, 0.012), 0.060)
    return smooth_min(d, _left_arm(_fold(p)), 0.045)


def project(p: Points, steps: int = 2, reach: float = 2e-4) -> Points:
    """Moves points onto the surface by Newton steps; the gradient comes from four evaluations on a tetrahedron."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)
    for _ in range(steps):
        values = np.stack([body(p + reach * corner) for corner in corners], -1)
        gradient = values @ corners / (4 * reach)
        length = values.mean(-1) / np.maximum((gradient * gradient).sum(-1), 1e-2)
        p = p - np.clip(length[..., None] * gradient, -0.01, 0.01)
    return p
