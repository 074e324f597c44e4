"""GraphCMR's levels of a mesh, read from arrays of objects: what is right comes back, all else is refused by name."""

import numpy as np
import pytest
import scipy.sparse

from multibodies_jax.baselines.graphcmr import hierarchy
from multibodies_jax.convert import mesh_downsampling, placing
from tests.helpers import peer_files, sphere_body

BODY = sphere_body.body()
FACES = np.asarray(BODY.faces)


@pytest.fixture(scope="module")
def levels():
    return hierarchy.of_body(BODY)


def _dense(levels):
    up = np.zeros((len(levels.corners), len(levels.kept)), np.float32)
    np.add.at(up, (np.arange(len(up))[:, None], levels.corners), levels.weights)
    return up


def test_the_levels_come_back_and_the_mesh_beside_them_is_not_looked_at(tmp_path, levels):
    peer_files.mesh_downsampling(tmp_path / "file.npz", levels, FACES)
    found = mesh_downsampling.read(tmp_path / "file.npz", FACES)
    np.testing.assert_array_equal(_dense(found), _dense(levels))
    np.testing.assert_array_equal(np.sort(found.neighbours), np.sort(levels.neighbours))
    np.testing.assert_array_equal(found.kept, levels.kept)
    assert found == mesh_downsampling.read(tmp_path / "file.npz")


def _objects(*matrices):
    array = np.empty(len(matrices), object)
    array[:] = matrices
    return array


def _eye(*shape):
    return scipy.sparse.coo_matrix(np.eye(*shape))


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("A", lambda up: _objects(_eye(162)), "A should hold sparse matrices"),
        ("A", lambda up: _objects(_eye(162), np.eye(41)), "A should hold sparse matrices"),
        ("A", lambda up: np.eye(3), "a row of objects was expected"),
        ("D", lambda up: _objects(peer_files.Hostile()), "posix.abort, which could run code"),
        ("D", lambda up: _objects(_eye(40, 162)), r"have the shapes .*\(40, 162\)"),
        ("D", lambda up: _objects(2 * _eye(41, 162)), "a single 1 in each row"),
        ("D", lambda up: _objects(scipy.sparse.coo_matrix(np.eye(41, 162)[::-1])), "a single 1 in each row"),
        ("D", lambda up: _objects(scipy.sparse.coo_matrix(np.roll(np.eye(41, 162), 121, 1))), "D and U disagree"),
        ("U", lambda up: _objects(scipy.sparse.coo_matrix(np.ones((162, 41)))), "one to three elements in each row"),
        ("U", lambda up: _objects(scipy.sparse.coo_matrix(np.nan * up)), "U should hold sparse matrices of numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_name(tmp_path, levels, name, make, words):
    peer_files.mesh_downsampling(tmp_path / "file.npz", levels, FACES, **{name: make(_dense(levels))})
    with pytest.raises(placing.ConversionError, match=f"(?s)file.npz.*{words}.*GraphCMR's data"):
        mesh_downsampling.read(tmp_path / "file.npz", FACES)


def test_levels_of_another_mesh_are_refused(tmp_path, levels):
    peer_files.mesh_downsampling(tmp_path / "file.npz", levels, FACES)
    other = np.where(FACES == 5, 6, np.where(FACES == 6, 5, FACES))  # As many vertices, in another order.
    with pytest.raises(placing.ConversionError, match=r"belongs to another mesh: .* 162 vertices and 480 edges"):
        mesh_downsampling.read(tmp_path / "file.npz", other)
    with pytest.raises(FileNotFoundError):
        mesh_downsampling.read(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    with pytest.raises(placing.ConversionError, match=r"text.npz cannot be read.*fetch_data"):
        mesh_downsampling.read(tmp_path / "text.npz")
