"""Triangle meshes as arrays: edges, normals, areas, volume, diffusion operators and a report of their quality."""

import dataclasses

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

# Sizes are not named: remeshing returns other numbers of vertices and faces than it was given.
Verts = Float[np.ndarray, "_ 3"]
Faces = Int[np.ndarray, "_ 3"]


@dataclasses.dataclass(frozen=True)
class Edges:
    """The undirected edges of a mesh.

    Attributes:
      ends: (E, 2) vertices, the smaller index first.
      of_face: (F, 3) edge k of a face runs from its corner k to the next one.
      faces: (E, 2) the faces at an edge; the second is -1 on the rim of an open mesh.
    """

    ends: np.ndarray
    of_face: np.ndarray
    faces: np.ndarray

    @property
    def rim(self) -> np.ndarray:
        return self.faces[:, 1] < 0

    @property
    def a(self) -> np.ndarray:
        return self.ends[:, 0]

    @property
    def b(self) -> np.ndarray:
        return self.ends[:, 1]


def edge_table(faces: Faces) -> Edges:
    """Finds the edges of a mesh in which at most two faces meet at an edge."""
    corners = np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2)
    low, high = np.sort(corners, 1).T
    base = int(faces.max()) + 1
    key, inverse = np.unique(low.astype(np.int64) * base + high, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    sorted_edges = inverse[order]
    first = np.r_[True, sorted_edges[1:] != sorted_edges[:-1]]
    edge_faces = np.full((len(key), 2), -1)
    edge_faces[sorted_edges[first], 0] = order[first] // 3
    edge_faces[sorted_edges[~first], 1] = order[~first] // 3
    return Edges(np.stack([key // base, key % base], 1), inverse.reshape(-1, 3), edge_faces)


def compact(verts: Verts, faces: Faces) -> tuple[Verts, Faces]:
    """Drops the vertices that no face uses."""
    used = np.zeros(len(verts), bool)
    used[faces] = True
    return verts[used], (np.cumsum(used) - 1)[faces]


def scaled_normals(verts: Verts, faces: Faces) -> Float[np.ndarray, "_ 3"]:
    """Outward face normals with twice the face's area as their length."""
    return np.cross(verts[faces[:, 1]] - verts[faces[:, 0]], verts[faces[:, 2]] - verts[faces[:, 0]])


def normals(verts: Verts, faces: Faces) -> Float[np.ndarray, "_ 3"]:
    """Outward unit normals of the faces."""
    n = scaled_normals(verts, faces)
    return n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-15)


def areas(verts: Verts, faces: Faces) -> Float[np.ndarray, "_"]:
    """Face areas, square metres."""
    return 0.5 * np.linalg.norm(scaled_normals(verts, faces), axis=1)


def volume(verts: Verts, faces: Faces) -> float:
    """The volume that a closed mesh encloses, cubic metres; positive when the normals point outwards."""
    corner = verts[faces]
    return float(np.einsum("ij,ij->", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])) / 6)


def to_corners(faces: Faces, values: np.ndarray, num_verts: int) -> np.ndarray:
    """Adds each face's value (F, ...) to its three corners."""
    total = np.zeros((num_verts, *values.shape[1:]))
    for k in range(3):
        np.add.at(total, faces[:, k], values)
    return total


def smooth_normals(verts: Verts, faces: Faces, rounds: int = 6) -> Verts:
    """Unit vertex normals, averaged over the neighbourhood `rounds` times."""
    n = to_corners(faces, scaled_normals(verts, faces), len(verts))
    for _ in range(rounds):
        n = n / np.linalg.norm(n, axis=1, keepdims=True)
        n = to_corners(faces, n[faces].sum(1), len(verts))
    return n / np.linalg.norm(n, axis=1, keepdims=True)


def cotangent_laplacian(verts: Verts, faces: Faces) -> tuple[sp.csc_matrix, Float[np.ndarray, "_"]]:
    """The stiffness matrix (positive semi-definite) and the area of each vertex, for heat flow on the surface."""
    rows, columns, values = [], [], []
    for k in range(3):
        i, j, apex = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        u, v = verts[i] - verts[apex], verts[j] - verts[apex]
        cotangent = np.clip(0.5 * (u * v).sum(1) / np.linalg.norm(np.cross(u, v), axis=1), 0.02, 10)
        rows += [i, j]
        columns += [j, i]
        values += [cotangent, cotangent]
    shape = (len(verts), len(verts))
    links = sp.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape)
    stiffness = sp.diags(np.asarray(links.sum(1)).ravel()) - links
    return sp.csc_matrix(stiffness), to_corners(faces, areas(verts, faces) / 3, len(verts))


def report(verts: Verts, faces: Faces) -> dict[str, float | int]:
    """Figures of a closed mesh: Euler characteristic, volume in litres, smallest angle in degrees and so on."""
    edges = edge_table(faces)
    corner = verts[faces]
    length = np.linalg.norm(corner - np.roll(corner, 1, 1), axis=2)
    u, v = np.roll(corner, -1, 1) - corner, np.roll(corner, -2, 1) - corner
    angle = np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=2), (u * v).sum(2)))
    return {
        "vertices": len(verts),
        "faces": len(faces),
        "euler": len(verts) - len(edges.ends) + len(faces),
        "open_edges": int(edges.rim.sum()),
        "volume_l": 1e3 * volume(verts, faces),
        "area_m2": float(areas(verts, faces).sum()),
        "smallest_area_mm2": 1e6 * float(areas(verts, faces).min()),
        "smallest_angle_deg": float(angle.min()),
        "median_edge_mm": 1e3 * float(np.median(length)),
    }
