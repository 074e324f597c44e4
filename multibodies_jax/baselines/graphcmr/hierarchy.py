"""The two levels of a body's mesh between which GraphCMR works: its own vertices, and a quarter of them.

  coarse x = x[kept]                              coarse vertices are a subset of the fine ones
  fine   x = sum_k weights_k x[corners_k]         the nearest point of the coarse surface
  mean over a coarse vertex and its neighbours = mean_k x[neighbours_k]

(Kolotouros et al., CVPR 2019, section 3.2; the levels as in coma, Ranjan et al., 2018.) The published file for SMPL lets the
weights of 248 vertices sum to 0.918 to 1.022, so that a mesh that is moved changes its shape. Here the nearest point is
held to the edge, and all weights sum to 1.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int

from multibodies_jax import io
from multibodies_jax.baselines.graphcmr import decimation
from multibodies_jax.body import smpl

FACTOR = 4
CLOSED = decimation.MOST_NEIGHBOURS + 1
"""Vertices over which a graph convolution takes a mean: at most ten neighbours and the vertex."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _ByContent:
    """Arrays that are compared, hashed and shown by their content, so that a flax module can have them as an attribute."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over the names, types, shapes and numbers of the arrays."""
        return io.sha256_of_arrays(self.arrays())[:16]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _ByContent) and other.fingerprint == self.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Hierarchy(_ByContent):
    """How the coarse mesh of N vertices belongs to the fine one of V.

    Attributes:
      neighbours: of each coarse vertex itself, then its neighbours; what is left of the `CLOSED` places holds the vertex.
      kept: the fine vertex that each coarse one is, rising.
      corners: of the coarse face on which each fine vertex lies.
      weights: of these three corners.
    """

    neighbours: Int[np.ndarray, "N K"]
    kept: Int[np.ndarray, "N"]
    corners: Int[np.ndarray, "V 3"]
    weights: Float[np.ndarray, "V 3"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Template(_ByContent):
    """The rest mesh of a body as the network reads it.

    Attributes:
      vertices: the middle of the bounding box is 0, and the largest coordinate of any vertex 1.
    """

    vertices: Float[np.ndarray, "V 3"]


def of_body(body: smpl.SmplModel) -> Hierarchy:
    """The levels of a body's mesh; worked out once in a process (about a second for 6,890 vertices)."""
    vertices, faces = np.asarray(body.v_template, np.float64), np.asarray(body.faces)
    return _of_bytes(vertices.tobytes(), faces.astype(np.int64).tobytes())


@functools.lru_cache(maxsize=2)
def _of_bytes(vertices: bytes, faces: bytes) -> Hierarchy:
    return of_mesh(np.frombuffer(vertices).reshape(-1, 3), np.frombuffer(faces, np.int64).reshape(-1, 3))


def of_mesh(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Hierarchy:
    """The levels of a closed mesh: a quarter of its vertices, rounded up.

    Raises:
      ValueError: as `decimation.collapse`.
    """
    points = np.asarray(vertices, np.float64)
    kept, coarse = decimation.collapse(points, faces, -(-len(points) // FACTOR))
    corners, weights = decimation.nearest_on_surface(points, points[kept], coarse)
    corners[kept], weights[kept] = np.arange(len(kept))[:, None], [1.0, 0.0, 0.0]
    return Hierarchy(
        neighbours=neighbour_table(len(kept), coarse),
        kept=kept.astype(np.int32),
        corners=corners.astype(np.int32),
        weights=weights.astype(np.float32),
    )


def template_of(vertices: Float[np.ndarray, "V 3"]) -> Template:
    """The rest mesh moved and scaled as GraphCMR does it."""
    points = np.asarray(vertices, np.float64)
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    return Template((points / np.abs(points).max()).astype(np.float32))


def edges_of(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "E 2"]:
    """Every edge of a mesh in both directions, once each, in rising order."""
    pairs = np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])
    return np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)


def neighbour_table(num: int, faces: Int[np.ndarray, "G 3"]) -> Int[np.ndarray, "N K"]:
    """`Hierarchy.neighbours` of a mesh with `num` vertices."""
    return table_of_edges(num, edges_of(faces))


def table_of_edges(num: int, edges: Int[np.ndarray, "E 2"]) -> Int[np.ndarray, "N K"]:
    """`Hierarchy.neighbours` of a graph, from its edges in both directions and in rising order.

    Raises:
      ValueError: a vertex has more neighbours than there are places.
    """
    start, end = edges.T
    counts = np.bincount(start, minlength=num)
    if counts.max() >= CLOSED:
        raise ValueError(
            f"Vertex {counts.argmax()} of the coarse mesh has {counts.max()} neighbours; at most {CLOSED - 1} have a place."
        )
    table = np.repeat(np.arange(num, dtype=np.int32)[:, None], CLOSED, axis=1)
    table[start, 1 + np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)] = end
    return table
