"""Bodies before cameras: random crops of random points, and a pinhole camera written out in float64."""

import jax.numpy as jnp
import numpy as np


def random_view(seed, batch=()):
    """Points of a body, a crop camera, and a box in an original image; float32."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 0.5, (*batch, 24, 3))
    cam = np.concatenate([rng.uniform(0.5, 1.2, (*batch, 1)), rng.normal(0, 0.2, (*batch, 2))], axis=-1)
    arrays = points, cam, rng.uniform(100, 800, (*batch, 2)), rng.uniform(0.3, 4, batch)
    return [jnp.asarray(array, jnp.float32) for array in arrays]


def project_by_hand(points, translation, K):
    """Float64 pinhole projection, one point at a time."""
    projected = []
    for x, y, z in np.asarray(points, np.float64) + np.asarray(translation, np.float64):
        u, v, w = np.asarray(K, np.float64) @ [x, y, z]
        projected.append([u / w, v / w])
    return np.array(projected)
