"""3x3 convolutions of stride 1 in 16 products for four places instead of 36: Winograd's F(2x2, 3x3), on processors.

    kernel = winograd.transformed(kernel)          # (3, 3, C, K) -> (4, 4, C, K), once
    y = winograd.convolve(x, kernel)               # as the convolution that is padded by one place, to float32 rounding

An image is read in tiles of 4x4 places that overlap by two. With the matrices below, a tile d and a kernel g give the 2x2
places A^T [(G g G^T) * (B^T d B)] A, where * takes products place by place, and sums over channels make these products of
matrices (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.1). Measured by
`python -m benchmarks.layers` (docs/benchmarks.md).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]], np.float32)
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]], np.float32)
_TILE, _STEP = 4, 2
_TILES_AT_ONCE = 800  # With those of many images at once the gain is lost (docs/benchmarks.md).


def transformed(kernel: Float[np.ndarray, "3 3 C K"]) -> Float[np.ndarray, "4 4 C K"]:
    """A kernel in the form that `convolve` takes."""
    return _on_both_sides(_G, kernel)


def is_transformed(kernel: Any) -> bool:
    """Whether a kernel, or None, has that form."""
    return kernel is not None and len(kernel.shape) == 4 and kernel.shape[:2] == (_TILE, _TILE)


def restored(kernel: Float[np.ndarray, "4 4 C K"]) -> Float[np.ndarray, "3 3 C K"]:
    """The kernel that was transformed, to float32 rounding."""
    return _on_both_sides(np.linalg.pinv(_G.astype(np.float64)).astype(np.float32), kernel)


def plain(params: Any) -> Any:
    """A tree of parameters with every transformed kernel restored."""
    return jax.tree.map(lambda leaf: restored(leaf) if is_transformed(leaf) else leaf, params)


def convolve(x: Float[Array, "B H W C"], kernel: Float[Array, "4 4 C K"]) -> Float[Array, "B H W K"]:
    """The convolution with a transformed kernel, padded by one place; few images at a time."""
    tiles = [-(-side // _STEP) for side in x.shape[1:3]]
    images = max(1, _TILES_AT_ONCE // (tiles[0] * tiles[1]))
    if images >= len(x):
        return _convolve(x, kernel)
    return jax.lax.map(lambda image: _convolve(image[None], kernel)[0], x, batch_size=images)


def _convolve(x: Float[Array, "B H W C"], kernel: Float[Array, "4 4 C K"]) -> Float[Array, "B H W K"]:
    b, h, w, c = x.shape
    rows, columns = -(-h // _STEP), -(-w // _STEP)
    padded = jnp.pad(x, ((0, 0), (1, _STEP * rows - h + 1), (1, _STEP * columns - w + 1), (0, 0)))
    half = _combined(_B, [padded[:, :, j : j + _STEP * columns - 1 : _STEP] for j in range(_TILE)])
    read = _combined(_B, [half[:, :, i : i + _STEP * rows - 1 : _STEP] for i in range(_TILE)])
    products = jnp.einsum("ijrc,ijck->ijrk", read.reshape(_TILE, _TILE, -1, c), kernel)
    half = _combined(_A, list(products))
    y = _combined(_A, [half[:, j] for j in range(_TILE)])  # (2, 2, tiles, K), columns first.
    y = y.reshape(_STEP, _STEP, b, rows, columns, -1).transpose(2, 3, 1, 4, 0, 5)
    return y.reshape(b, _STEP * rows, _STEP * columns, -1)[:, :h, :w]


def _on_both_sides(
    matrix: Float[np.ndarray, "N M"], kernel: Float[np.ndarray, "M M C K"]
) -> Float[np.ndarray, "N N C K"]:
    return np.moveaxis(np.tensordot(matrix, np.tensordot(matrix, kernel, (1, 0)), (1, 1)), 0, 1)


def _combined(matrix: Float[np.ndarray, "N M"], values: list[Array]) -> Array:
    """The columns of `matrix` as sums of values along a new leading axis."""
    return jnp.stack([_sum(column, values) for column in matrix.T])


def _sum(signs: Float[np.ndarray, "N"], values: list[Array]) -> Array:
    """A sum of values with the signs 1, 0 or -1."""
    first, *others = (value if sign > 0 else -value for sign, value in zip(signs, values, strict=True) if sign)
    return sum(others, first)
