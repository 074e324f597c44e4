"""The sharpness of the probabilities of clusters: what they become to say how often the truth lies there.

It is not in 3D Multi-bodies, whose probabilities of clusters are their masses.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

MOST_SHARPNESS = 100.0  # A fitted one is at most 4.


def sharpened(prob: Float[Array | np.ndarray, "*batch n"], sharpness: float) -> Float[Array | np.ndarray, "*batch n"]:
    """p_k = m_k^s / sum_j m_j^s of the masses m of clusters: above 1 the sharpness s parts them, below it levels them.

    The mass of a cluster counts how many hypotheses a network spent there, which need not be how often the truth lies there.
    This is temperature scaling (Guo et al., ICML 2017), of clusters; evaluation fits s to the validation split. It is not in
    3D Multi-bodies, where s is 1, of which the masses are returned. Of s = 0 all clusters are equal, except those without
    any mass, which keep none.
    """
    return prob if sharpness == 1 else _sharpened(jnp.asarray(prob, jnp.float32), jnp.float32(sharpness))


@jax.jit
def _sharpened(prob: Float[Array, "*batch n"], sharpness: Float[Array, ""]) -> Float[Array, "*batch n"]:
    without = prob == 0  # NaN stays NaN.
    return jax.nn.softmax(jnp.where(without, -jnp.inf, sharpness * jnp.log(jnp.where(without, 1.0, prob))), axis=-1)


def check_sharpness(sharpness: float) -> None:
    """Raises where the sharpness of probabilities is not from 0 to `MOST_SHARPNESS`."""
    if not 0 <= sharpness <= MOST_SHARPNESS:
        raise ValueError(
            f"The sharpness is {sharpness}; it has to be from 0 (all clusters alike) to {MOST_SHARPNESS:g}, and 1 leaves the "
            "masses of the clusters."
        )
