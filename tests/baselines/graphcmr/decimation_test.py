"""Edge collapse against a slow loop over the whole mesh, and nearest points against all points of all faces."""

import numpy as np
import pytest
import scipy.optimize

from multibodies_jax.baselines.graphcmr import decimation
from tests.helpers import sphere_body


def _edges(faces):
    pairs = np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])
    return np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)


def _greedy(vertices, faces, target):
    """All costs anew in every step, as matrices."""
    planes = []
    for a, b, c in vertices[faces]:
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal)
        planes.append(np.append(normal, -normal @ a))
    quadrics = {v: sum(np.outer(p, p) for p, face in zip(planes, faces, strict=True) if v in face) for v in range(len(vertices))}  # fmt: skip
    faces, alive = faces.copy(), set(range(len(vertices)))
    while len(alive) > target:
        around = {v: set(faces[(faces == v).any(axis=1)].ravel()) - {v} for v in alive}
        costs = []
        for a in alive:
            for b in around[a]:
                common = around[a] & around[b]
                fits = len(common) == 2 and 3 <= len(around[a] | around[b]) - 2 <= 10
                if fits and all(len(around[c]) > 3 for c in common):
                    point = np.append(vertices[a], 1.0)
                    costs.append((point @ (quadrics[a] + quadrics[b]) @ point, a, b))
        _, kept, gone = min(costs)
        quadrics[kept] = quadrics[kept] + quadrics[gone]
        faces = np.where(faces == gone, kept, faces)
        faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
        alive.discard(gone)
    return sorted(alive)


def test_the_cheapest_end_of_the_cheapest_edge_stays():
    vertices, faces = sphere_body.bumpy(1)
    kept, _ = decimation.collapse(vertices, faces, 14)
    assert kept.tolist() == _greedy(vertices, faces, 14)


@pytest.mark.parametrize("target", [41, 4])
def test_the_coarse_mesh_is_closed_and_turned_outwards(target):
    vertices, faces = sphere_body.bumpy(2)
    kept, coarse = decimation.collapse(vertices, faces, target)
    edges, counts = _edges(coarse)
    assert len(kept) == target and np.unique(coarse).tolist() == list(range(target))
    assert (counts == 2).all() and target - len(edges) + len(coarse) == 2  # Euler.
    degrees = np.bincount(edges.ravel())
    assert degrees.min() >= 3 and degrees.max() <= decimation.MOST_NEIGHBOURS
    assert np.linalg.det(vertices[kept][coarse]).sum() > 0


def test_scale_place_and_a_flat_neighbourhood_change_nothing():
    vertices, faces = sphere_body.bumpy(2)
    expected = decimation.collapse(vertices, faces, 60)[0]
    np.testing.assert_array_equal(decimation.collapse(1000 * vertices + 5, faces, 60)[0], expected)


def test_a_mesh_with_a_hole_and_too_few_vertices_are_refused():
    vertices, faces = sphere_body.icosphere(1)
    with pytest.raises(ValueError, match="not closed at vertex"):
        decimation.collapse(vertices, faces[1:], 20)
    with pytest.raises(ValueError, match=r"reduced to 3, and 4 is as far as it goes"):
        decimation.collapse(vertices, faces, 3)


def test_the_nearest_point_is_that_of_a_minimiser_over_every_face():
    vertices, faces = sphere_body.bumpy(1)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(6, 3)) * rng.uniform(0.3, 2, (6, 1))
    corners, weights = decimation.nearest_on_surface(points, vertices, faces)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert weights.min() >= 0 and {tuple(c) for c in corners} <= {tuple(f) for f in faces}
    found = np.linalg.norm(np.einsum("pk,pka->pa", weights, vertices[corners]) - points, axis=1)
    for point, distance in zip(points, found, strict=True):
        # min |sum w_k v_k - p| over w >= 0 with sum w = 1, which the large last row asks for.
        least = min(
            np.linalg.norm(vertices[f].T @ w / w.sum() - point)
            for f in faces
            for w in [scipy.optimize.nnls(np.vstack([vertices[f].T, [1e5] * 3]), np.append(point, 1e5))[0]]
        )
        assert distance == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize(
    ("point", "weights"),
    [
        ((0.25, 0.25, 3), (0.5, 0.25, 0.25)),  # Above the face.
        ((0.5, -2, 1), (0.5, 0.5, 0)),  # Beside an edge.
        ((2, 2, 0), (0, 0.5, 0.5)),
        ((-1, -1, 0), (1, 0, 0)),  # Beyond a corner.
    ],
)
def test_the_nearest_point_of_one_triangle(point, weights):
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    got = decimation.nearest_on_surface(np.array([point], float), triangle, np.array([[0, 1, 2]]))[1]
    np.testing.assert_allclose(got[0], weights, atol=1e-12)


def test_a_face_without_area_is_its_edges():
    line = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    corners, weights = decimation.nearest_on_surface(np.array([[2.0, 1, 0]]), line, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(weights[0] @ line[corners[0]], [2, 0, 0], atol=1e-12)
