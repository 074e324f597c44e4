"""Isotropic remeshing of one half of a mirror-symmetric surface to an exact number of vertices.

A closed mesh without handles has F = 2V - 4, so that V = 6890 gives F = 13776. Only x >= 0 is meshed, an open disc
whose rim lies in the plane x = 0, and mirrored afterwards: V = 2 h + m for h vertices off the plane and m on it. An
interior split or collapse changes V by 2 and one on the rim by 1, so every V is reached. The rounds of split, collapse,
flip and tangential smoothing follow Botsch and Kobbelt (2004), each on an independent set of edges at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from multibodies_jax.embedded.mannequin.triangles import (
    Edges,
    Faces,
    Verts,
    compact,
    edge_table,
    normals,
    scaled_normals,
    to_corners,
)

Size = Callable[[np.ndarray], np.ndarray]  # The wanted edge length at points (n, 3).


def snap(verts: np.ndarray) -> np.ndarray:
    """Rounds to about a micrometre: otherwise the last bit, which differs between CPUs, would steer the remeshing."""
    return np.round(verts * 2.0**20) / 2.0**20


def mirrored_count(verts: Verts) -> int:
    """The number of vertices once the half is mirrored."""
    return 2 * len(verts) - int((verts[:, 0] == 0.0).sum())


def _relative_length(verts: Verts, ends: np.ndarray, size: Size) -> np.ndarray:
    a, b = verts[ends[:, 0]], verts[ends[:, 1]]
    return np.linalg.norm(a - b, axis=1) / size((a + b) / 2)


def _tie_break(num: int) -> np.ndarray:
    return 1e-9 * np.arange(num) / num


def split(
    verts: Verts, faces: Faces, size: Size, above: float, limit: int | None = None, rim: bool | None = None
) -> tuple[Verts, Faces, int]:
    """Halves edges whose relative length exceeds `above`, no two of them in one face, the longest first.

    Args:
      verts, faces: the half mesh.
      size: the wanted edge length at a point.
      above: threshold on length / size.
      limit: largest number of edges.
      rim: only edges on the rim (True) or off it (False).

    Returns:
      The new mesh and the number of edges halved.
    """
    edges = edge_table(faces)
    length = _relative_length(verts, edges.ends, size)
    if rim is not None:
        length = np.where(edges.rim == rim, length, -1.0)
    length = length + _tie_break(len(length))
    longest = edges.of_face[np.arange(len(faces)), length[edges.of_face].argmax(1)]
    number = np.arange(len(length))
    longest_in_both = (longest[edges.faces[:, 0]] == number) & (edges.rim | (longest[edges.faces[:, 1]] == number))
    chosen = np.flatnonzero((length > above) & longest_in_both)
    if limit is not None:
        chosen = chosen[np.argsort(-length[chosen])][:limit]
    if not len(chosen):
        return verts, faces, 0
    middle = snap(verts[edges.ends[chosen]].mean(1))
    middle[edges.rim[chosen], 0] = 0.0
    new_vertex = np.full(len(length), -1)
    new_vertex[chosen] = len(verts) + np.arange(len(chosen))
    hit = new_vertex[edges.of_face] >= 0
    rows = np.flatnonzero(hit.any(1))
    k = hit[rows].argmax(1)
    a, b, c = faces[rows, k], faces[rows, (k + 1) % 3], faces[rows, (k + 2) % 3]
    m = new_vertex[edges.of_face[rows, k]]
    faces = faces.copy()
    faces[rows] = np.stack([a, m, c], 1)
    return np.concatenate([verts, middle]), np.concatenate([faces, np.stack([m, b, c], 1)]), len(chosen)


class _Merge(NamedTuple):
    """Pairs of vertices to become one."""

    keep: np.ndarray
    drop: np.ndarray
    position: np.ndarray

    def only(self, which: np.ndarray) -> "_Merge":
        return _Merge(self.keep[which], self.drop[which], self.position[which])


def _collapsible(verts: Verts, edges: Edges, short: np.ndarray) -> np.ndarray:
    """Short edges whose collapse keeps the mesh a disc (link condition) and its rim in the plane."""
    on_plane = verts[:, 0] == 0.0
    chord = on_plane[edges.a] & on_plane[edges.b] & ~edges.rim
    ok = short & ~chord
    link = sp.csr_matrix((np.ones(len(edges.ends)), (edges.a, edges.b)), (len(verts), len(verts)))
    link = link + link.T
    candidates = np.flatnonzero(ok)
    common = np.asarray(link[edges.a[candidates]].multiply(link[edges.b[candidates]]).sum(1)).ravel()
    ok[candidates] = common == np.where(edges.rim[candidates], 1, 2)
    return ok


def _shortest_around(edges: Edges, length: np.ndarray, num_verts: int) -> np.ndarray:
    """Edges (finite `length`) with none shorter among those that touch a neighbour of their ends."""
    at_vertex = np.full(num_verts, np.inf)
    np.minimum.at(at_vertex, edges.a, length)
    np.minimum.at(at_vertex, edges.b, length)
    around = at_vertex.copy()
    np.minimum.at(around, edges.a, at_vertex[edges.b])
    np.minimum.at(around, edges.b, at_vertex[edges.a])
    return np.flatnonzero(np.isfinite(length) & (length <= around[edges.a]) & (length <= around[edges.b]))


def _merge_of(verts: Verts, ends: np.ndarray) -> _Merge:
    """Ends meet in the middle, or stay on the plane x = 0 where one of them is on it."""
    on_plane = verts[:, 0] == 0.0
    swap = on_plane[ends[:, 1]] & ~on_plane[ends[:, 0]]
    keep, drop = np.where(swap[:, None], ends[:, ::-1], ends).T
    middle = snap((verts[keep] + verts[drop]) / 2)
    return _Merge(keep, drop, np.where((on_plane[keep] & ~on_plane[drop])[:, None], verts[keep], middle))


def _merged(verts: Verts, faces: Faces, merge: _Merge) -> tuple[Verts, Faces, np.ndarray]:
    """The mesh after a merge, with the dropped vertices and dead faces still in it, and which faces are dead."""
    target = np.arange(len(verts))
    target[merge.drop] = merge.keep
    verts = verts.copy()
    verts[merge.keep] = merge.position
    faces = target[faces]
    return verts, faces, (faces == np.roll(faces, 1, 1)).any(1)


def _folding(verts: Verts, faces: Faces, merge: _Merge, size: Size) -> np.ndarray:
    """Which pairs would turn a face over or make an overlong edge."""
    new_verts, new_faces, dead = _merged(verts, faces, merge)
    owner = np.full(len(verts), -1)
    owner[merge.keep] = owner[merge.drop] = np.arange(len(merge.keep))
    touched = np.flatnonzero((owner[faces] >= 0).any(1) & ~dead)
    turn = (normals(verts, faces[touched]) * normals(new_verts, new_faces[touched])).sum(1)
    corner = new_verts[new_faces[touched]]
    longest = np.linalg.norm(corner - np.roll(corner, 1, 1), axis=2).max(1) / size(corner.mean(1))
    folding = np.zeros(len(merge.keep), bool)
    folding[owner[faces[touched]][(turn < 0.5) | (longest > 1.45)].max(1)] = True
    return folding


def collapse(
    verts: Verts, faces: Faces, size: Size, below: float, limit: int | None = None, rim: bool | None = None
) -> tuple[Verts, Faces, int]:
    """Removes edges whose relative length is less than `below`; arguments and result as in `split`."""
    edges = edge_table(faces)
    length = _relative_length(verts, edges.ends, size) + _tie_break(len(edges.ends))
    candidate = _collapsible(verts, edges, (length < below) & (True if rim is None else edges.rim == rim))
    for _ in range(3):
        chosen = _shortest_around(edges, np.where(candidate, length, np.inf), len(verts))
        if limit is not None:
            chosen = chosen[np.argsort(length[chosen])][:limit]
        if not len(chosen):
            break
        merge = _merge_of(verts, edges.ends[chosen])
        folding = _folding(verts, faces, merge, size)
        if folding.all() or (folding.any() and limit is not None):
            candidate[chosen[folding]] = False
            continue
        verts, faces, dead = _merged(verts, faces, merge.only(~folding))
        return *compact(verts, faces[~dead]), int((~folding).sum())
    return verts, faces, 0


def _angle(verts: Verts, apex: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    u, v = verts[a] - verts[apex], verts[b] - verts[apex]
    return np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), (u * v).sum(1))


def _flip_once(verts: Verts, faces: Faces) -> tuple[Faces, int]:
    edges = edge_table(faces)
    inner = np.flatnonzero(~edges.rim)
    (f0, f1), (a, b) = edges.faces[inner].T, edges.ends[inner].T
    c, d = faces[f0].sum(1) - a - b, faces[f1].sum(1) - a - b
    gain = _angle(verts, c, a, b) + _angle(verts, d, a, b) - np.pi
    normal, num = normals(verts, faces), len(verts)
    new_key = np.minimum(c, d) * num + np.maximum(c, d)
    on_plane = verts[:, 0] == 0.0
    ok = (gain > 0.02) & (c != d) & ~np.isin(new_key, edges.a * num + edges.b)
    ok &= ~(on_plane[c] & on_plane[d]) & ((normal[f0] * normal[f1]).sum(1) > 0.6)
    # p is the apex of the face in which the edge runs from a to b.
    forward = ((faces[f0] == a[:, None]) & (np.roll(faces[f0], -1, 1) == b[:, None])).any(1)
    p, q = np.where(forward, c, d), np.where(forward, d, c)
    new0, new1 = np.stack([a, q, p], 1), np.stack([b, p, q], 1)
    mean = normal[f0] + normal[f1]
    ok &= ((normals(verts, new0) * mean).sum(1) > 0.5) & ((normals(verts, new1) * mean).sum(1) > 0.5)
    score = np.where(ok, gain, -1.0) + _tie_break(len(inner))
    best = np.full(len(faces), -np.inf)
    np.maximum.at(best, f0, score)
    np.maximum.at(best, f1, score)
    chosen = np.flatnonzero(ok & (score >= best[f0]) & (score >= best[f1]))
    chosen = chosen[np.unique(new_key[chosen], return_index=True)[1]]
    faces = faces.copy()
    faces[f0[chosen]], faces[f1[chosen]] = new0[chosen], new1[chosen]
    return faces, len(chosen)


def flip(verts: Verts, faces: Faces, rounds: int = 4) -> Faces:
    """Swaps edges whose opposite angles sum to more than pi (Delaunay), where the surface is flat enough."""
    for _ in range(rounds):
        faces, changed = _flip_once(verts, faces)
        if not changed:
            break
    return faces


def smooth(verts: Verts, faces: Faces, size: Size, project: Size, strength: float = 0.6) -> Verts:
    """Moves vertices along the surface towards the centre of their faces, then back onto it; the rim stays in plane."""
    center = verts[faces].mean(1)
    normal = scaled_normals(verts, faces)
    weight = np.linalg.norm(normal, axis=1) / size(center) ** 2
    target = to_corners(faces, weight[:, None] * center, len(verts))
    target /= to_corners(faces, weight, len(verts))[:, None]
    vertex_normal = to_corners(faces, normal, len(verts))
    on_plane = verts[:, 0] == 0.0
    target[on_plane] = _rim_targets(verts, faces, size)[on_plane]
    vertex_normal[on_plane, 0] = 0.0
    vertex_normal /= np.linalg.norm(vertex_normal, axis=1, keepdims=True)
    step = target - verts
    step -= (step * vertex_normal).sum(1, keepdims=True) * vertex_normal
    moved = verts + strength * step
    moved[on_plane, 0] = 0.0
    moved = snap(project(moved))
    moved[on_plane, 0] = 0.0
    return moved


def _rim_targets(verts: Verts, faces: Faces, size: Size) -> Verts:
    """For rim vertices the centre of their two rim edges; elsewhere nothing meaningful."""
    edges = edge_table(faces)
    rim = edges.ends[edges.rim]
    middle = verts[rim].mean(1)
    weight = np.linalg.norm(verts[rim[:, 0]] - verts[rim[:, 1]], axis=1) / size(middle)
    center, total = np.zeros_like(verts), np.zeros(len(verts))
    for end in rim.T:
        np.add.at(center, end, weight[:, None] * middle)
        np.add.at(total, end, weight)
    return center / np.maximum(total, 1e-30)[:, None]


def _one_round(verts: Verts, faces: Faces, size: Size, project: Size, smoothings: int) -> tuple[Verts, Faces]:
    for _ in range(12):
        verts, faces, changed = collapse(verts, faces, size, 4 / 5)
        if not changed:
            break
    for _ in range(6):
        verts, faces, changed = split(verts, faces, size, 4 / 3)
        if not changed:
            break
    faces = flip(verts, faces)
    for _ in range(smoothings):
        verts = smooth(verts, faces, size, project)
        faces = flip(verts, faces, 2)
    return verts, faces


def _to_count(verts: Verts, faces: Faces, size: Size, num_verts: int) -> tuple[Verts, Faces]:
    """Splits the longest or collapses the shortest edges until the mirrored mesh has exactly `num_verts` vertices."""
    for _ in range(200):
        missing = num_verts - mirrored_count(verts)
        if missing == 0:
            return verts, faces
        rim = missing % 2 == 1  # Only the rim changes the count by one.
        limit = 1 if rim else abs(missing) // 2
        if missing > 0:
            verts, faces, _ = split(verts, faces, size, 0.0, limit, rim)
        else:
            verts, faces, _ = collapse(verts, faces, size, 9.0, limit, rim)
    raise RuntimeError(f"Remeshing did not reach {num_verts} vertices; it has {mirrored_count(verts)}.")


def remesh_half(
    verts: Verts, faces: Faces, size: Size, project: Size, num_verts: int, progress: Callable[[str], None]
) -> tuple[Verts, Faces]:
    """Remeshes a half surface so that its mirrored mesh has exactly `num_verts` vertices.

    Args:
      verts, faces: an open mesh of x >= 0 with its rim at exactly x = 0.
      size: the wanted edge length at a point, up to a common factor that is found here.
      project: moves points onto the surface.
      num_verts: of the mirrored mesh.
      progress: called with a text in each round.

    Returns:
      The half mesh.

    Raises:
      RuntimeError: if the number cannot be reached.
    """
    verts, scale, rounds = snap(verts), 1.15, 9
    for i in range(rounds):
        verts, faces = _one_round(verts, faces, lambda p, s=scale: s * size(p), project, 1 if i < 3 else 2)
        progress(f"remeshing {i + 1}/{rounds}: {mirrored_count(verts)} vertices, edges x {scale:.3f}")
        if 1 < i < rounds - 1:
            scale *= float(np.clip((mirrored_count(verts) / num_verts) ** 0.5, 0.92, 1.08))

    def scaled(p: np.ndarray) -> np.ndarray:
        return scale * size(p)

    verts, faces = _to_count(verts, faces, scaled, num_verts)
    for _ in range(10):
        faces = flip(verts, faces, 2)
        verts = smooth(verts, faces, scaled, project, 0.5)
    return verts, flip(verts, faces, 2)
