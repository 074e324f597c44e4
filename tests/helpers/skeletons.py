"""Random sets of points that are as large as a body."""

import numpy as np


def draw(seed, *batch, scale=(0.2, 0.5, 0.1), size=14):
    """Points (*batch, size, 3) around the origin, metres; `seed` may be a generator."""
    return np.random.default_rng(seed).normal(size=(*batch, size, 3)) * scale
