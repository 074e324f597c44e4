"""The similarity that lays one set of points over another (Procrustes)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax import exact

# B^(2^k) of a matrix B whose largest eigenvalue leads by a share g is of rank one when 2^k g is large: float32 resolves
# no smaller g than 2^-24 anyway.
_SQUARINGS = 24
_TRIANGLE = {
    (i, j): 4 * i - i * (i + 1) // 2 + j for i in range(4) for j in range(i, 4)
}  # Places in an upper triangle.


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
    covariance = exact.einsum("...ja,...jb->...ab", x, y)
    rotation = _best_rotation(covariance)
    size = jnp.sum(jnp.square(x), axis=(-2, -1))
    fit = exact.einsum("...ba,...ab->...", rotation, covariance)
    scale = jnp.where(size > 0, fit / jnp.where(size > 0, size, 1.0), 1.0)
    turned = exact.einsum("...ab,...jb->...ja", rotation, pred - pred_mean)
    return scale[..., None, None] * turned + target_mean


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

    One array per entry, so that the product of all sets is a few sums over long arrays, where a CPU would multiply small
    matrices one by one.
    """
    trace = entries[0] + entries[4] + entries[7] + entries[9]
    s = {pair: entries[place] / trace for pair, place in _TRIANGLE.items()}
    s |= {(j, i): value for (i, j), value in s.items()}
    return tuple(s[i, 0] * s[0, j] + s[i, 1] * s[1, j] + s[i, 2] * s[2, j] + s[i, 3] * s[3, j] for i, j in _TRIANGLE)
