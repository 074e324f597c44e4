"""Evaluation metrics (appendix A), in millimetres, of joints and vertices in metres.

Every metric is NaN where a joint or vertex that counts, of the prediction or of the truth, is not finite; a set with such
a body is NaN as well, however good its other bodies are.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.geometry import distances, procrustes

REPORTED = ("mpjpe", "pa_mpjpe")
"""Metrics of the paper's tables: MPJPE and RE."""

_MM = 1000.0
PERCENT = ("pck150", "auc")  # Metrics of which more is better.
_PCK_MM, _AUC_STEPS = 150.0, 31  # Threshold of 3DPCK; thresholds from 0 to it of its mean.


def mpjpe_mm(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """Appendix A: MPJPE = 1/J sum_j |x_j - y_j| of joints, millimetres.

    The joints are compared as they are, so that the caller roots both sets first. Leading axes broadcast.
    """
    return _MM * jnp.mean(known_distance(pred, target), axis=-1)


def vertex_error_mm(pred: Float[Array, "*#b V 3"], target: Float[Array, "*#b V 3"]) -> Float[Array, "*b"]:
    """Mean distance of vertices, as they are: root them first. Leading axes broadcast."""
    return mpjpe_mm(pred, target)


def pa_mpjpe_mm(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """Appendix A: RE = min over s, R, t of 1/J sum_j |s R x_j + t - y_j|^2, then MPJPE of the aligned joints, millimetres.

    The gradient holds the alignment (`procrustes.align`) fixed.
    """
    return mpjpe_mm(procrustes.align(pred, target), target)


def pck150(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """3DPCK: percentage of joints nearer than 150 mm, as they are: root them first (Mehta et al., 2017)."""
    distance = _MM * known_distance(pred, target)
    return 100.0 * jnp.mean(_where_known(distance, distance < _PCK_MM), axis=-1)


def auc(pred: Float[Array, "*#b J 3"], target: Float[Array, "*#b J 3"]) -> Float[Array, "*b"]:
    """Mean of 3DPCK over the thresholds 0, 5, ..., 150 mm, percent (Mehta et al., 2017)."""
    distance = _MM * known_distance(pred, target)
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


def nearest(error: Float[Array, "B n"]) -> Int[Array, "B"]:
    """The index of the least error of each example, the first of equal ones; -1 where one of its errors is not finite."""
    return jnp.where(jnp.all(jnp.isfinite(error), axis=1), jnp.argmin(error, axis=1), -1)


def known_distance(pred: Float[Array, "*#b D"], target: Float[Array, "*#b D"]) -> Float[Array, "*b"]:
    """Distance of points, with gradient 0 where it is 0; NaN where a number is not finite."""
    distance = distances.norm(pred - target)
    return jnp.where(jnp.isfinite(distance), distance, jnp.nan)


def _where_known(distance: Float[Array, "*b"], value: Array) -> Float[Array, "*b"]:
    """What was counted of distances, NaN where the distance is NaN: a comparison with NaN is false and not unknown."""
    return jnp.where(jnp.isnan(distance), jnp.nan, value)
