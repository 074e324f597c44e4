"""Coarser meshes: quadric edge collapse, and the nearest points of a coarse surface (Garland and Heckbert, 1997; as coma).

Vertices of the coarse mesh are a subset of those of the fine one: an edge collapses to the cheaper of its two ends, and no
vertex moves. NumPy and SciPy in float64; a mesh of 6,890 vertices takes about a second.
"""

import heapq

import numpy as np
import scipy.spatial
import scipy.spatial.distance
from jaxtyping import Float, Int

MOST_NEIGHBOURS = 10
"""Vertices beside itself that a vertex of a coarse mesh may have."""

_CHUNK = 1000  # Points that are compared with all faces at once.
_UPPER = np.triu_indices(4)  # A symmetric 4 x 4 matrix as its ten upper entries, row after row.
_Quadric = tuple[float, ...]


def collapse(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], target: int
) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "G 3"]]:
    """Removes vertices of a closed mesh, the cheapest first, until `target` are left.

    The cost of keeping the end p of an edge is (p, 1)^T (Q_a + Q_b) (p, 1), where Q of a vertex is the sum of the outer
    products of the planes of its faces (unit normals, whatever the area), and of those of all vertices that collapsed into
    it. An edge is passed over as long as its collapse would leave no closed surface (its ends have other common neighbours
    than the two corners opposite of it, or one of these would keep fewer than three neighbours) or a vertex with more than
    `MOST_NEIGHBOURS`.

    Args:
      vertices: in any unit; the order of the collapses does not depend on it.
      faces: closed: two at every edge.
      target: vertices to keep.

    Returns:
      The kept vertices in rising order, and the faces of the coarse mesh, which number these.

    Raises:
      ValueError: the mesh is not closed, or this many vertices cannot be removed.
    """
    mesh = _Mesh(vertices, faces)
    queue = mesh.all_costs()
    heapq.heapify(queue)
    left = len(vertices)
    while left > target:
        if not queue:
            raise ValueError(
                f"A mesh of {len(vertices)} vertices was to be reduced to {target}, and {left} is as far as it goes: every "
                "other collapse would tear its surface."
            )
        _, kept, gone, stamps = heapq.heappop(queue)
        if stamps == mesh.stamps(kept, gone) and mesh.can_collapse(kept, gone):
            for entry in mesh.collapse(kept, gone):
                heapq.heappush(queue, entry)
            left -= 1
    return mesh.result()


class _Mesh:
    """A mesh that is being reduced: corners of faces, faces and neighbours of vertices, quadrics."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        points = np.asarray(vertices, np.float64)
        points = points - points.mean(axis=0)
        self._points = [tuple(point) for point in (points / np.abs(points).max()).tolist()]
        self._faces: dict[int, list[int]] = dict(enumerate(np.asarray(faces).tolist()))
        self._faces_of: list[set[int]] = [set() for _ in self._points]
        self._neighbours: list[set[int]] = [set() for _ in self._points]
        self._stamp = [0] * len(self._points)  # Rises whenever the costs at a vertex change.
        self._alive = [True] * len(self._points)
        for index, (a, b, c) in self._faces.items():
            for corner, others in ((a, (b, c)), (b, (c, a)), (c, (a, b))):
                self._faces_of[corner].add(index)
                self._neighbours[corner].update(others)
        for vertex, around in enumerate(self._neighbours):
            if len(around) < 3 or len(around) != len(self._faces_of[vertex]):
                raise ValueError(
                    f"The mesh is not closed at vertex {vertex}: it has {len(self._faces_of[vertex])} faces and "
                    f"{len(around)} neighbours, and as many of both were expected, at least three."
                )
        self._quadrics = _quadrics(points / np.abs(points).max(), np.asarray(faces))

    def stamps(self, a: int, b: int) -> tuple[int, int]:
        """Which costs of an edge are the present ones."""
        return self._stamp[a], self._stamp[b]

    def all_costs(self) -> list:
        """An entry of the queue for each edge: (cost, kept end, vanishing end, stamps)."""
        return [self._entry(a, b) for a, around in enumerate(self._neighbours) for b in sorted(around) if a < b]

    def can_collapse(self, kept: int, gone: int) -> bool:
        """Whether both ends are there and joined, and what is left is a closed surface of few neighbours."""
        if not (self._alive[kept] and self._alive[gone] and gone in self._neighbours[kept]):
            return False
        common = self._neighbours[kept] & self._neighbours[gone]
        together = len(self._neighbours[kept] | self._neighbours[gone]) - 2
        return (
            len(common) == 2
            and 3 <= together <= MOST_NEIGHBOURS
            and all(len(self._neighbours[opposite]) > 3 for opposite in common)
        )

    def collapse(self, kept: int, gone: int) -> list:
        """Moves the faces of `gone` to `kept`; returns the entries of the edges whose costs changed."""
        for index in self._faces_of[gone]:
            face = self._faces[index]
            if kept in face:
                for corner in face:
                    if corner != gone:
                        self._faces_of[corner].discard(index)
                del self._faces[index]
            else:
                face[face.index(gone)] = kept
                self._faces_of[kept].add(index)
        for other in self._neighbours[gone]:
            self._neighbours[other].discard(gone)
            if other != kept:
                self._neighbours[other].add(kept)
                self._neighbours[kept].add(other)
        self._alive[gone] = False
        a, b = self._quadrics[kept], self._quadrics[gone]
        self._quadrics[kept] = tuple(x + y for x, y in zip(a, b, strict=True))
        self._stamp[kept] += 1
        return [self._entry(kept, other) for other in sorted(self._neighbours[kept])]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The vertices that are left, and the faces, which number them."""
        alive = np.array(self._alive)
        return np.flatnonzero(alive), (np.cumsum(alive) - 1)[np.array([self._faces[i] for i in sorted(self._faces)])]

    def _entry(self, a: int, b: int) -> tuple[float, int, int, tuple[int, int]]:
        together = tuple(x + y for x, y in zip(self._quadrics[a], self._quadrics[b], strict=True))
        cost_a, cost_b = _cost(together, self._points[a]), _cost(together, self._points[b])
        kept, gone, cost = (a, b, cost_a) if (cost_a, a) <= (cost_b, b) else (b, a, cost_b)
        return cost, kept, gone, self.stamps(kept, gone)


def _quadrics(points: np.ndarray, faces: np.ndarray) -> list[_Quadric]:
    """The quadric of each vertex: the sum of the outer products of the planes (n, -n . p) of its faces."""
    a, b, c = (points[corner] for corner in faces.T)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.where(length > 0, length, 1.0)
    plane = np.concatenate([normal, -np.sum(normal * a, axis=1, keepdims=True)], axis=1)
    of_face = (plane[:, :, None] * plane[:, None])[:, *_UPPER]
    total = np.zeros((len(points), len(_UPPER[0])))
    np.add.at(total, faces.reshape(-1), np.repeat(of_face, 3, axis=0))
    return [tuple(row) for row in total.tolist()]


def _cost(q: _Quadric, point: tuple[float, ...]) -> float:
    x, y, z = point
    return (
        x * (q[0] * x + 2 * (q[1] * y + q[2] * z + q[3]))
        + y * (q[4] * y + 2 * (q[5] * z + q[6]))
        + z * (q[7] * z + 2 * q[8])
        + q[9]
    )


def nearest_on_surface(
    points: Float[np.ndarray, "P 3"], vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "G 3"]
) -> tuple[Int[np.ndarray, "P 3"], Float[np.ndarray, "P 3"]]:
    """The nearest point of a surface to each of some points, as a weighted mean of the corners of one face.

    Args:
      points: whose nearest points are wanted.
      vertices, faces: of the surface.

    Returns:
      The corners of the face, and their weights, which are not negative and sum to 1. The point that they make lies in the
      face, on its edge or in its corner, whichever is the nearest.
    """
    which, face = _candidates(points, vertices, faces)
    weights, distance = _nearest_in_triangle(points[which], vertices[faces[face]])
    order = np.lexsort((face, distance, which))  # Of equally near faces the first.
    first = order[np.r_[True, which[order][1:] != which[order][:-1]]]
    return faces[face[first]], weights[first]


def _candidates(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (point, face) among which each point has its nearest face."""
    corners = vertices[faces]
    centre = corners.mean(axis=1)
    radius = np.linalg.norm(corners - centre[:, None], axis=2).max(axis=1)
    # The surface is as near as the nearest of its vertices; a face within that distance has its centre a radius further.
    reach = scipy.spatial.KDTree(vertices[np.unique(faces)]).query(points)[0]
    found = []
    for start in range(0, len(points), _CHUNK):
        some = slice(start, start + _CHUNK)
        distance = scipy.spatial.distance.cdist(points[some], centre)
        which, face = np.nonzero(distance <= (reach[some, None] + radius[None]) * (1 + 1e-9))
        found.append((which + start, face))
    which, face = map(np.concatenate, zip(*found, strict=True))
    return which, face


def _nearest_in_triangle(
    point: Float[np.ndarray, "K 3"], corners: Float[np.ndarray, "K 3 3"]
) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K"]]:
    """Weights of the three corners for the nearest point of each triangle, and the squared distance to it."""
    a, b, c = (corners[:, k] for k in range(3))
    choices = [_foot(point, a, b, c)]
    for k in range(3):  # On the edge from corner k to the next one.
        start, end = corners[:, k], corners[:, (k + 1) % 3]
        along = end - start
        share = np.sum((point - start) * along, axis=1) / np.maximum(np.sum(along**2, axis=1), 1e-300)
        weights = np.zeros((len(point), 3))
        weights[:, (k + 1) % 3] = np.clip(share, 0.0, 1.0)
        weights[:, k] = 1.0 - weights[:, (k + 1) % 3]
        choices.append(weights)
    weights = np.stack(choices)
    inside = (weights >= 0).all(axis=2)
    distance = np.sum((np.einsum("nkc,kca->nka", weights, corners) - point[None]) ** 2, axis=2)
    best = np.where(inside, distance, np.inf).argmin(axis=0)
    rows = np.arange(len(point))
    return weights[best, rows], distance[best, rows]


def _foot(point: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Float[np.ndarray, "K 3"]:
    """Weights of the foot of the perpendicular on the plane of each triangle; negative ones where there is no plane."""
    u, v, w = b - a, c - a, point - a
    uu, uv, vv, uw, vw = (np.sum(x * y, axis=1) for x, y in ((u, u), (u, v), (v, v), (u, w), (v, w)))
    area = uu * vv - uv**2
    flat = area <= 1e-14 * uu * vv
    second = (vv * uw - uv * vw) / np.where(flat, 1.0, area)
    third = (uu * vw - uv * uw) / np.where(flat, 1.0, area)
    found = np.stack([1.0 - second - third, second, third], axis=1)
    return np.where(flat[:, None], -1.0, found)
