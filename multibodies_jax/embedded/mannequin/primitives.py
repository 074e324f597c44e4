"""Implicit solids and their smooth unions: functions of points, negative inside, roughly distances in metres."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

Points = Float[np.ndarray, "*points 3"]
Values = Float[np.ndarray, "*points"]
Vector = Sequence[float | int] | np.ndarray


def smooth_min(a: Values, b: Values, radius: float) -> Values:
    """The union of two solids, rounded over `radius` where they meet (polynomial smooth minimum)."""
    overlap = np.maximum(radius - np.abs(a - b), 0.0) / radius
    return np.minimum(a, b) - overlap * overlap * radius * 0.25


def smooth_max(a: Values, b: Values, radius: float) -> Values:
    """The intersection of two solids, rounded over `radius`."""
    return -smooth_min(-a, -b, radius)


def ellipsoid(p: Points, center: Vector, radii: Vector, axes: np.ndarray | None = None) -> Values:
    """An ellipsoid; the columns of `axes` are its main directions (the coordinate axes by default)."""
    q = p - np.asarray(center, float)
    if axes is not None:
        q = q @ axes
    r = np.asarray(radii, float)
    scaled = np.linalg.norm(q / r, axis=-1)
    gradient = np.linalg.norm(q / (r * r), axis=-1) + 1e-9
    return scaled * (scaled - 1.0) / gradient


def round_cone(p: Points, start: Vector, end: Vector, start_radius: float, end_radius: float) -> Values:
    """A capsule whose radius changes linearly."""
    a = np.asarray(start, float)
    axis = np.asarray(end, float) - a
    along = np.clip(((p - a) @ axis) / (axis @ axis), 0.0, 1.0)
    radius = start_radius + (end_radius - start_radius) * along
    return np.linalg.norm(p - a - along[..., None] * axis, axis=-1) - radius


class Loft:
    """A tube through super-elliptic cross sections along a straight line.

    Args:
      start: where the line begins.
      direction: unit vector of the line.
      side, front: unit vectors that span the sections.
      sections: rows of (distance along the line, centre offset along side, along front, half width, half depth to the
        front, half depth to the back, exponent); metres. An exponent of 2 is an ellipse, more is boxier. Values between
        the rows are interpolated monotonically.
      cap: rounding radius of the two ends.
    """

    def __init__(self, start: Vector, direction: Vector, side: Vector, front: Vector, sections: Sequence, cap: float):
        table = np.asarray(sections, float)
        self.start, self.direction = np.asarray(start, float), np.asarray(direction, float)
        self.side, self.front, self.cap = np.asarray(side, float), np.asarray(front, float), cap
        self.distance = np.linspace(table[0, 0], table[-1, 0], 1500)
        self.table = PchipInterpolator(table[:, 0], table[:, 1:])(self.distance)

    def __call__(self, p: Points) -> Values:
        q = p - self.start
        along = q @ self.direction
        columns = (np.interp(along, self.distance, column) for column in self.table.T)
        center_side, center_front, width, front, back, exponent = columns
        u, v = q @ self.side - center_side, q @ self.front - center_front
        depth = np.where(v > 0, front, back)
        ratio = (np.abs(u / width) ** exponent + np.abs(v / depth) ** exponent + 1e-12) ** (1.0 / exponent)
        # Distance to the outline: the radial gap, limited by the small half axis near the centre line.
        outline = np.where(ratio > 1e-3, np.sqrt(u * u + v * v) / np.maximum(ratio, 1e-3), width)
        gap = (ratio - 1.0) * np.minimum(outline, 1.2 * np.minimum(width, depth) + 0.02)
        ends = smooth_max(self.distance[0] - along, along - self.distance[-1], self.cap)
        return smooth_max(gap, ends, self.cap)
