"""Reads GraphCMR's `mesh_downsampling.npz`: the levels of SMPL's mesh, in arrays of Python objects, without running them.

The file holds rows of sparse matrices, A (adjacency of each level), D (coarse vertices among the fine ones) and U (fine
vertices from the coarse ones), rows of faces F, and meshes M, which are licensed, and are not looked at. GraphCMR uses the
first step of the three levels.
"""

import pathlib

import numpy as np
from jaxtyping import Int

from multibodies_jax import untrusted
from multibodies_jax.baselines.graphcmr import hierarchy
from multibodies_jax.body import pickles
from multibodies_jax.convert import placing

_LARGEST = 2**26  # Bytes of a member; those of the published file have a few million.
_ADVICE = "Take mesh_downsampling.npz of GraphCMR's data (https://github.com/nkolot/GraphCMR, fetch_data.sh)."


def read(path: pathlib.Path, faces: Int[np.ndarray, "F 3"] | None = None) -> hierarchy.Hierarchy:
    """The two levels between which GraphCMR works.

    Args:
      path: of the file.
      faces: of the body that the levels should be of; None: it is not known.

    Raises:
      ConversionError: it is damaged, no such file, wants to construct other objects than arrays and sparse matrices, its
        matrices do not fit together, or it is of another mesh than `faces`.
      FileNotFoundError: there is no such file.
    """
    with untrusted.open_npz(path, _ADVICE, placing.ConversionError, _LARGEST) as file:
        try:
            rows = {name: pickles.load_objects(file.content(name), f"{path}: {name}") for name in ("A", "D", "U")}
        except (pickles.RefusedError, ValueError) as error:
            raise placing.ConversionError(f"{error}. {_ADVICE}") from error
    wrong = [name for name, found in rows.items() if len(found) < 1 + (name == "A") or not _all_sparse(found)]
    if wrong:
        raise placing.ConversionError(
            f"{path}: {', '.join(wrong)} should hold sparse matrices of numbers: A two or more, D and U one. {_ADVICE}"
        )
    fine, coarse = rows["A"][:2]
    down, up = rows["D"][0], rows["U"][0]
    size, small = fine.shape[0], coarse.shape[0]
    expected = ((fine, (size, size)), (coarse, (small, small)), (down, (small, size)), (up, (size, small)))
    if any(matrix.shape != shape for matrix, shape in expected):
        shapes = ", ".join(str(matrix.shape) for matrix, _ in expected)
        raise placing.ConversionError(f"{path}: the matrices of the first step have the shapes {shapes}. {_ADVICE}")
    if faces is not None and not np.array_equal(_edges(fine), hierarchy.edges_of(faces)):
        raise placing.ConversionError(
            f"{path} belongs to another mesh: its finest level has {size:,} vertices and {len(_edges(fine)) // 2:,} edges, "
            f"which are not those of the body's {faces.max() + 1:,} vertices. Give the body that it was made for (--body.dir)."
        )
    try:
        neighbours = hierarchy.table_of_edges(small, _edges(coarse))
    except ValueError as error:
        raise placing.ConversionError(f"{path}: {error}") from error
    kept = _selected(path, down)
    corners, weights = _corners(path, up)
    exact = np.zeros((small, 3))
    exact[np.arange(small), (corners[kept] == np.arange(small)[:, None]).argmax(axis=1)] = 1
    if not np.array_equal(weights[kept], exact.astype(np.float32)):
        raise placing.ConversionError(f"{path}: D and U disagree: a vertex that D keeps is not itself in U. {_ADVICE}")
    return hierarchy.Hierarchy(neighbours=neighbours, kept=kept, corners=corners, weights=weights)


def _all_sparse(found: list) -> bool:
    return all(
        isinstance(matrix, pickles.Sparse)
        and isinstance(matrix.values, np.ndarray)
        and matrix.values.dtype.kind in "fiu"
        and bool(np.isfinite(matrix.values).all())
        for matrix in found
    )


def _edges(matrix: pickles.Sparse) -> Int[np.ndarray, "E 2"]:
    """The places that are not zero, in rising order."""
    used = matrix.values != 0
    return np.unique(np.stack([matrix.rows[used], matrix.columns[used]], axis=1).astype(np.int64), axis=0)


def _selected(path: pathlib.Path, matrix: pickles.Sparse) -> Int[np.ndarray, "N"]:
    """The column of the one in each row."""
    order = np.argsort(matrix.rows, kind="stable")
    kept = matrix.columns[order].astype(np.int32)
    whole = np.array_equal(matrix.rows[order], np.arange(matrix.shape[0]))
    if not whole or np.any(matrix.values != 1) or np.any(np.diff(kept) <= 0):
        raise placing.ConversionError(f"{path}: D should have a single 1 in each row, in rising columns. {_ADVICE}")
    return kept


def _corners(path: pathlib.Path, matrix: pickles.Sparse) -> tuple[np.ndarray, np.ndarray]:
    """The three columns of each row and their weights; what a row lacks is column 0 with the weight 0."""
    order = np.lexsort((matrix.columns, matrix.rows))
    rows = matrix.rows[order]
    counts = np.bincount(rows, minlength=matrix.shape[0])
    if np.any((counts < 1) | (counts > 3)):
        raise placing.ConversionError(f"{path}: U should have one to three elements in each row. {_ADVICE}")
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    corners, weights = np.zeros((len(counts), 3), np.int32), np.zeros((len(counts), 3), np.float32)
    corners[rows, place], weights[rows, place] = matrix.columns[order], matrix.values[order]
    return corners, weights
