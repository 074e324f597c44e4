"""The two levels of a mesh: what goes up comes down, nothing shifts, and the same body has the same levels."""

import numpy as np
import pytest

from multibodies_jax.baselines.graphcmr import hierarchy
from multibodies_jax.body import body_files
from tests.helpers import sphere_body


@pytest.fixture(scope="module")
def levels():
    return hierarchy.of_body(sphere_body.body())


def _up(levels, x):
    return np.einsum("vk,vka->va", levels.weights, x[levels.corners])


def test_coarse_vertices_stay_where_they_are_and_all_move_alike(levels):
    vertices = np.asarray(sphere_body.body().v_template)
    coarse = vertices[levels.kept]
    assert len(coarse) == 41 and (np.diff(levels.kept) > 0).all()
    np.testing.assert_array_equal(_up(levels, coarse)[levels.kept], coarse)
    shift = np.array([1.0, 2, 3])
    np.testing.assert_allclose(_up(levels, coarse + shift), _up(levels, coarse) + shift, atol=1e-6)
    assert levels.weights.min() >= 0 and np.linalg.norm(_up(levels, coarse) - vertices, axis=1).max() < 0.15


def test_neighbours_are_those_of_the_faces_and_free_places_hold_the_vertex():
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    table = hierarchy.neighbour_table(4, faces)
    assert table.shape == (4, 11) and (table[:, 4:] == np.arange(4)[:, None]).all()
    assert [sorted(row[:4]) for row in table.tolist()] == [[0, 1, 2, 3]] * 4 and table[:, 0].tolist() == [0, 1, 2, 3]


def test_more_than_ten_neighbours_have_no_place():
    fan = np.array([[0, k, k % 12 + 1] for k in range(1, 13)])
    with pytest.raises(ValueError, match="Vertex 0 of the coarse mesh has 12 neighbours; at most 10"):
        hierarchy.neighbour_table(13, fan)


def test_the_template_fills_the_box(levels):
    vertices = np.array([[0.0, -1, 2], [1, 3, 2], [0, 0, 2.5]])
    np.testing.assert_allclose(hierarchy.template_of(vertices).vertices, (vertices - [0.5, 1, 2.25]) / 2, rtol=1e-6)


def test_levels_are_equal_by_their_content(levels):
    same = hierarchy.of_mesh(*map(np.asarray, (sphere_body.body().v_template, sphere_body.body().faces)))
    other = hierarchy.Hierarchy(**levels.arrays() | {"kept": levels.kept + 1})
    assert same == levels and hash(same) == hash(levels) and repr(same) == repr(levels) and same is not levels
    assert other != levels and other.fingerprint != levels.fingerprint
    assert levels != hierarchy.Template(levels.weights)


@pytest.mark.slow
def test_the_embedded_body_has_the_levels_that_smpl_has():
    files = body_files.load()
    levels = hierarchy.of_body(files.smpl)
    assert levels.kept.shape == (1723,) and levels.neighbours.shape == (1723, 11)
    degrees = (levels.neighbours[:, 1:] != levels.neighbours[:, :1]).sum(axis=1)
    assert degrees.sum() == 2 * 5163 and (degrees.min(), degrees.max()) == (3, 10)  # Euler characteristic 2.
    vertices = np.asarray(files.smpl.v_template)
    off_mm = 1000 * np.linalg.norm(_up(levels, vertices[levels.kept]) - vertices, axis=1)
    assert np.median(off_mm) < 0.6 and off_mm.max() < 6
    assert levels is hierarchy.of_body(files.smpl)
