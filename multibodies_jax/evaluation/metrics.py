"""Evaluation metrics (appendix A), in millimetres, of joints and vertices in metres.

Every metric is NaN where a joint or vertex that counts, of the prediction or of the truth, is not finite; a set with such
a body is NaN as well, however good its other bodies are.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.geometry import distances

REPORTED = ("mpjpe", "pa_mpjpe")
"""Metrics of the paper's tables: MPJPE and RE."""

_MM = 1000.0
# B^(2^k) of a matrix B whose largest eigenvalue leads by a share g is of rank one when 2^k g is large: float32 resolves
# no smaller g than 2^-24 anyway.
_SQUARINGS = 24
_TRIANGLE = {
    (i, j): 4 * i - i * (i + 1) // 2 + j for i in range(4) for j in range(i, 4)
}  # Places in an upper triangle.
PERCENT = ("pck150", "auc")  # Metrics of which more is better.
_PCK_MM, _AUC_STEPS = 150.0, 31  # Threshold of 3DPCK; thresholds from 0 to it of its mean.


def mpjpe_mm(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """Appendix A: MPJPE = 1/J sum_j |x_j - y_j| of joints, millimetres.

    The joints are compared as they are, so that the caller roots both sets first. Leading axes broadcast.
    """
    return _MM * jnp.mean(_distance(pred, target), axis=-1)


def vertex_error_mm(pred: Float[Array, "*#b V 3"], target: Float[Array, "*#b V 3"]) -> Float[Array, "*b"]:
    """Mean distance of vertices, as they are: root them first. Leading axes broadcast."""
    return mpjpe_mm(pred, target)


def pa_mpjpe_mm(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """Appendix A: RE = min over s, R, t of 1/J sum_j |s R x_j + t - y_j|^2, then MPJPE of the aligned joints, millimetres.

    The gradient holds the alignment (`align`) fixed.
    """
    return mpjpe_mm(align(pred, target), target)


def align(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b J 3"]:
    """Moves, turns and scales `pred` to the least squared distance from `target` (similarity Procrustes).

    Rotations are proper: a mirror image stays one. Where several fit equally well (points on a line or all in one) it
    takes one of them. Differentiating holds the similarity fixed, so that no gradient is infinite.

    Source: Horn, "Closed-form solution of absolute orientation using unit quaternions", 1987. The eigenvector is found
    by repeated squaring, which is all products and runs for all sets at once, where SVDs go one by one on a CPU.
    """
    pred, target = jnp.broadcast_arrays(pred, target)
    pred_mean, target_mean = pred.mean(axis=-2, keepdims=True), target.mean(axis=-2, keepdims=True)
    x, y = jax.lax.stop_gradient((pred - pred_mean, target - target_mean))
    covariance = jnp.einsum("...ja,...jb->...ab", x, y, precision="highest")
    rotation = _best_rotation(covariance)
    size = jnp.sum(jnp.square(x), axis=(-2, -1))
    fit = jnp.einsum("...ba,...ab->...", rotation, covariance, precision="highest")
    scale = jnp.where(size > 0, fit / jnp.where(size > 0, size, 1.0), 1.0)
    turned = jnp.einsum("...ab,...jb->...ja", rotation, pred - pred_mean, precision="highest")
    return scale[..., None, None] * turned + target_mean


def pck150(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """3DPCK: percentage of joints nearer than 150 mm, as they are: root them first (Mehta et al., 2017)."""
    distance = _MM * _distance(pred, target)
    return 100.0 * jnp.mean(_where_known(distance, distance < _PCK_MM), axis=-1)


def auc(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """Mean of 3DPCK over the thresholds 0, 5, ..., 150 mm, percent (Mehta et al., 2017)."""
    distance = _MM * _distance(pred, target)
    missed = jnp.searchsorted(jnp.linspace(0.0, _PCK_MM, _AUC_STEPS), distance, side="right")  # Thresholds <= distance.
    return 100.0 * (1.0 - jnp.mean(_where_known(distance, missed), axis=-1) / _AUC_STEPS)


def squared24(
    pred: Float[Array, "B n 24 3"], target: Float[Array, "B 24 3"], valid: Float[Array, "B 24"]
) -> Float[Array, "B n"]:
    """Mean squared difference of J24 joints, both mid-hip centred: what the authors' code selects by."""
    valid = valid[:, None, :, None]
    return jnp.mean(jnp.where(valid == 0, 0.0, valid * jnp.square(pred - target[:, None])), axis=(2, 3))


def reduce_set(
    errors: Mapping[str, Float[Array, "B n"]], selection: str, joint_error: Float[Array, "B n"] | None = None
) -> dict[str, Float[Array, "B"]]:
    """The error of a set from those of its n bodies (MPJPE-n, RE-n; section 5).

    Args:
      errors: metric -> error of each body.
      selection: of a protocol: "minimum per metric" (the greatest where more is better), or "by joint error".
      joint_error: `squared24` of each body; decides "by joint error".
    """
    if selection == "minimum per metric":
        return {name: jnp.max(e, axis=1) if name in PERCENT else jnp.min(e, axis=1) for name, e in errors.items()}
    if joint_error is None:
        raise ValueError("The selection 'by joint error' needs the joint error of each body.")
    chosen = nearest(joint_error)
    return {
        name: jnp.where(chosen < 0, jnp.nan, jnp.take_along_axis(error, chosen[:, None], axis=1)[:, 0])
        for name, error in errors.items()
    }


def joint_spread_mm(joints24: Float[Array, "B M J 3"], weights: Float[Array, "B M"]) -> Float[Array, "B J"]:
    """Mean distance of each joint from its mean over the hypotheses, with weights that sum to 1."""
    mean = jnp.einsum("bm,bmja->bja", weights, joints24, precision="highest")
    distance = _distance(joints24, mean[:, None])
    return _MM * jnp.einsum("bm,bmj->bj", weights, distance, precision="highest")


def reprojection_px(
    projected: Float[Array, "B M K 2"],
    kp2d: Float[Array, "B K 2"],
    valid: Float[Array, "B K"],
    crop_px: float = 224.0,
) -> Float[Array, "B M"]:
    """Mean distance of projected joints to valid keypoints, both in [-1, 1], in pixels of a crop `crop_px` wide.

    NaN where no keypoint is valid: there is no such error, and 0 would be the best of all.
    """
    keep = valid[:, None] > 0
    distance = jnp.where(keep, _distance(projected, kp2d[:, None]), 0.0)
    return crop_px / 2 * jnp.sum(distance, axis=2) / jnp.sum(keep, axis=2)


def nearest(error: Float[Array, "B n"]) -> Int[Array, "B"]:
    """The index of the least error of each example, the first of equal ones; -1 where one of its errors is not finite."""
    return jnp.where(jnp.all(jnp.isfinite(error), axis=1), jnp.argmin(error, axis=1), -1)


def _distance(pred: Float[Array, "*#b D"], target: Float[Array, "*#b D"]) -> Float[Array, "*b"]:
    """Distance of points, with gradient 0 where it is 0; NaN where a number is not finite."""
    distance = distances.norm(pred - target)
    return jnp.where(jnp.isfinite(distance), distance, jnp.nan)


def _where_known(distance: Float[Array, "*b"], value: Array) -> Float[Array, "*b"]:
    """What was counted of distances, NaN where the distance is NaN: a comparison with NaN is false and not unknown."""
    return jnp.where(jnp.isnan(distance), jnp.nan, value)


def _best_rotation(covariance: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    """The rotation R with the greatest trace of R K, from K = sum x y^T: it turns the x into the y."""
    norm = jnp.sqrt(jnp.sum(jnp.square(covariance), axis=(-2, -1), keepdims=True))
    k = covariance / jnp.where(norm > 0, norm, 1.0)
    xx, yy, zz = k[..., 0, 0], k[..., 1, 1], k[..., 2, 2]
    xy, yz, zx = k[..., 0, 1], k[..., 1, 2], k[..., 2, 0]
    yx, zy, xz = k[..., 1, 0], k[..., 2, 1], k[..., 0, 2]
    # Horn's symmetric matrix, upper triangle by rows. Its eigenvalues lie within +-2: shifted by 2, the greatest one is
    # also the greatest in size.
    diagonal = (xx + yy + zz + 2, xx - yy - zz + 2, yy - xx - zz + 2, zz - xx - yy + 2)
    horn = (diagonal[0], yz - zy, zx - xz, xy - yx, diagonal[1], xy + yx, zx + xz, diagonal[2], yz + zy, diagonal[3])
    horn = jax.lax.fori_loop(0, _SQUARINGS, lambda _, entries: _square(entries), horn)
    # Every column of the projector is the eigenvector times one of its entries: take the longest.
    projector = jnp.stack([horn[_TRIANGLE[min(i, j), max(i, j)]] for i in range(4) for j in range(4)], axis=-1)
    projector = projector.reshape(*projector.shape[:-1], 4, 4)
    longest = jnp.argmax(jnp.diagonal(projector, axis1=-2, axis2=-1), axis=-1)
    q = jnp.take_along_axis(projector, longest[..., None, None], axis=-2)[..., 0, :]
    w, x, y, z = jnp.moveaxis(q / jnp.sqrt(jnp.sum(jnp.square(q), axis=-1, keepdims=True)), -1, 0)
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rotation], axis=-2)


def _square(entries: tuple[Array, ...]) -> tuple[Array, ...]:
    """(S / trace S)^2 of symmetric 4 x 4 matrices S, all given by their upper triangles.

    One array per entry: on a CPU many times faster than products of small matrices.
    """
    trace = entries[0] + entries[4] + entries[7] + entries[9]
    s = {pair: entries[place] / trace for pair, place in _TRIANGLE.items()}
    s |= {(j, i): value for (i, j), value in s.items()}
    return tuple(s[i, 0] * s[0, j] + s[i, 1] * s[1, j] + s[i, 2] * s[2, j] + s[i, 3] * s[3, j] for i, j in _TRIANGLE)
