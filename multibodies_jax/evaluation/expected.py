"""The expected body: weighted hypotheses as one body that is none of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.body import smpl
from multibodies_jax.geometry import centring, nearest_rotation
from multibodies_jax.hypotheses import weights
from multibodies_jax.hypotheses.hypotheses import Hypotheses


@jax.jit
def expected_body(hyps: Hypotheses, log_weights: Float[Array, "B M"], joint_model: smpl.JointModel) -> Hypotheses:
    """The weighted mean of every rotation, of the shape and of the camera.

    A mean rotation is the one with the least weighted squared distance (Frobenius norm) to those of the hypotheses: the
    projection of their mean matrix onto the rotations (Moakher, "Means and averaging in the group of rotations", 2002).

    Args:
      hyps: leading axes (B, M).
      log_weights: unnormalised.
      joint_model: the body contracted with the J24 regressor.

    Returns:
      One body for each example, (B, 1), not scored.
    """
    share = weights.normalized(log_weights)
    mean = exact.einsum("bm,bmjac->bjac", share, hyps.rotmats)
    rotmats = nearest_rotation.to_rotation(mean)[:, None]
    betas, cam = (exact.einsum("bm,bmi->bi", share, x)[:, None] for x in (hyps.betas, hyps.cam))
    points = smpl.joints(joint_model, rotmats, betas)
    midhip = centring.midhip(points)
    return Hypotheses(rotmats, betas, cam, points - midhip[..., None, :], midhip, jnp.zeros(midhip.shape[:-1]))
