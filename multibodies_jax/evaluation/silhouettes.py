"""How far the outlines of bodies agree with the person's, where the person's body is known (mask consistency).

An outline is the set of the cells of the crop, 4 pixels of 224 wide, in which a vertex of the body appears: with the 6,890
vertices of SMPL nearly its silhouette (more than nine tenths of its cells), without a renderer.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from multibodies_jax.batch import Target
from multibodies_jax.body import smpl
from multibodies_jax.evaluation import lenses
from multibodies_jax.geometry import cameras
from multibodies_jax.hypotheses import hypotheses

CELLS = 56
"""Along a side of the crop."""

MOST = 10
"""Hypotheses of an example that are looked at, evenly over the M: a mesh is built for each."""

_FEWEST = 4  # Keypoints from which the camera of a person is found.


@jax.jit
def iou(
    surface: smpl.SmplModel,
    j24: smpl.JointModel,
    hyps: hypotheses.Hypotheses,
    target: Target,
    lens: lenses.Lens | None,
) -> Float[Array, "B"]:
    """Intersection over union of the outlines of the hypotheses with the true body's, the mean over hypotheses.

    NaN where the true body, or its place in the crop, is not known.

    Args:
      surface: the body, all of its vertices.
      j24: of the same body.
      hyps: (B, M).
      target: with SMPL's parameters, and keypoints, which say where the body is.
      lens: of the images; None: that of the networks.
    """
    m = hyps.cam.shape[1]
    some = np.unique(np.linspace(0, m - 1, MOST).astype(int))
    rotmats, betas, cam = (x[:, some] for x in (hyps.rotmats, hyps.betas, hyps.cam))
    focal = jnp.full(len(betas), cameras.FOCAL) if lens is None else jnp.asarray(lens.focal)
    offset = jnp.zeros((len(betas), 2)) if lens is None or lens.offset is None else jnp.asarray(lens.offset)
    points = smpl.joints(j24, target.rotmats, target.betas)
    translation = placed(points, target.kp2d - offset[:, None], target.kp2d_valid, focal)
    p = smpl.mesh(surface, target.rotmats, target.betas) + translation[:, None]
    true = covered(focal[:, None, None] * p[..., :2] / p[..., 2:] + offset[:, None])

    def of_one(state: tuple[Array, Array, Array]) -> Float[Array, "B"]:
        own = covered(cameras.project_crop(smpl.mesh(surface, *state[:2]), state[2]))
        both, either = (jnp.sum(x, axis=(1, 2)) for x in (own & true, own | true))
        return both / jnp.maximum(either, 1)

    found = jnp.mean(jax.lax.map(of_one, tuple(jnp.moveaxis(x, 1, 0) for x in (rotmats, betas, cam))), axis=0)
    known = (target.smpl_valid > 0) & (jnp.sum(target.kp2d_valid > 0, axis=1) >= _FEWEST)
    return jnp.where(known, found, jnp.nan)


def placed(
    points: Float[Array, "B K 3"], kp2d: Float[Array, "B K 2"], valid: Float[Array, "B K"], focal: Float[Array, "B"]
) -> Float[Array, "B 3"]:
    """The translation t that brings points to where they are seen, x = f (p + t)_xy / (p + t)_z, by least squares.

    It is a linear regression: x p_z / f - p_xy = t_xy - t_z x / f.

    Args:
      points: metres, in the camera's axes.
      kp2d: half-sides of the crop, from the optical axis.
      valid: above 0 where a keypoint counts; of too few the result is not finite.
      focal: half-sides of the crop.
    """
    counts = (valid > 0)[..., None]
    x, y = kp2d / focal[:, None, None], kp2d * points[..., 2:] / focal[:, None, None] - points[..., :2]
    mean_x, mean_y = (jnp.mean(value, axis=1, where=counts, keepdims=True) for value in (x, y))
    both, own = (jnp.sum((x - mean_x) * value, axis=(1, 2), where=counts) for value in (y - mean_y, x - mean_x))
    t_z = -both / own
    return jnp.concatenate([mean_y[:, 0] + mean_x[:, 0] * t_z[:, None], t_z[:, None]], axis=1)


def covered(points: Float[Array, "B V 2"]) -> Bool[Array, "B C C"]:
    """The cells (row, column) of the crop in which a point lies; points outside, or not finite, are in none."""
    cell: Int[Array, "B V 2"] = jnp.floor((points + 1) * (CELLS / 2)).astype(jnp.int32)
    inside = jnp.all((jnp.abs(points) < 1) & (cell < CELLS), axis=-1)
    place = jnp.where(inside, cell[..., 1] * CELLS + cell[..., 0], CELLS * CELLS)
    marked = jax.vmap(lambda place: jnp.zeros(CELLS * CELLS, bool).at[place].set(True, mode="drop"))(place)
    return marked.reshape(-1, CELLS, CELLS)
