"""The best of M hypotheses, eq (1): which hypothesis is the nearest to the target, and the picking of it.

Only the nearest hypothesis is compared with the target in 3D, so that the others are free to differ from it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.hypotheses.hypotheses import Hypotheses


def nearest_hypothesis(
    error: Float[Array, "B M"], fallback: Float[Array, "B M"], joints3d_valid: Float[Array, "B J"]
) -> Int[Array, "B"]:
    """Eq (1): m* = argmin_m |X - X_m|, the hypothesis that is the nearest to the target; no gradient passes.

    Args:
      error: of the 3D joints of each hypothesis.
      fallback: the error that decides where an example has no 3D joints; the first of equal errors wins, so that an
        example without any annotation gets hypothesis 0.
      joints3d_valid: which 3D joints are annotated.
    """
    has_joints = jnp.any(joints3d_valid > 0, axis=1, keepdims=True)
    return jnp.argmin(jax.lax.stop_gradient(jnp.where(has_joints, error, fallback)), axis=1)


def pick(hyps: Hypotheses, best: Int[Array, "B"], mode0: bool) -> Hypotheses:
    """Eq (1): X_m*, the hypothesis that is trained, as the first of C = 1.

    With `mode0` C is 2, and the second is hypothesis 0: trained as if it were the nearest, it becomes a regressor of its
    own (the authors' implementation; not in the paper).
    """
    index = jnp.stack([best, jnp.zeros_like(best)] if mode0 else [best], axis=1)
    return hypotheses.pick(hyps, index)
