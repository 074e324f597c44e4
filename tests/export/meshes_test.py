"""OBJ and PLY: small readers get the vertices, faces, colours and probabilities back."""

import dataclasses

import numpy as np
import pytest

from multibodies_jax.export import meshes, scene
from tests.helpers import made_predictions

FLIP = [1.0, -1.0, -1.0]


def test_obj_has_an_object_for_each_body(tmp_path):
    made = made_predictions.made()
    meshes.write_obj(made, tmp_path / "set.obj")
    rows = [line.split() for line in (tmp_path / "set.obj").read_text(encoding="utf-8").splitlines()]
    assert [row[1] for row in rows if row[0] == "o"] == [name for name, *_ in made.weighted()]
    vertices = np.array([row[1:] for row in rows if row[0] == "v"], float).reshape(3, -1, 3)
    faces = np.array([row[1:] for row in rows if row[0] == "f"], int).reshape(3, -1, 3)
    probabilities = [float(row[2]) for row in rows if row[:2] == ["#", "probability"]]
    for k, (_, _, body, probability) in enumerate(made.weighted()):
        np.testing.assert_allclose(vertices[k], made.vertices(body) * FLIP, atol=1e-6)
        np.testing.assert_array_equal(faces[k] - 1 - 60 * k, made.faces)
        assert probabilities[k] == pytest.approx(probability, abs=1e-6)


def _fields(header):
    """Names and types of what a PLY has for each vertex."""
    kinds = {"float": "<f4", "uchar": "u1", "ushort": "<u2"}
    words = (line.split() for line in header.decode("ascii").splitlines() if line.startswith("property"))
    return [(name, kinds[kind]) for _, kind, *_, name in words if kind != "list"]


@pytest.mark.parametrize("spread_colors", [False, True])
def test_ply_is_read_back(tmp_path, spread_colors):
    made = made_predictions.made(vertex_spread=True)
    meshes.write_ply(made, tmp_path / "set.ply", spread_colors)
    header, _, content = (tmp_path / "set.ply").read_bytes().partition(b"end_header\n")
    lines, fields = header.decode("ascii").splitlines(), _fields(header)
    counts = [int(line.split()[2]) for line in lines if line.startswith("element")]
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"] and counts == [180, 60]
    vertices = np.frombuffer(content, fields, counts[0])
    faces = np.frombuffer(content, [("count", "u1"), ("corners", "<u4", (3,))], counts[1], vertices.nbytes)
    assert vertices.nbytes + faces.nbytes == len(content) and (faces["count"] == 3).all()
    for k, (_, person, body, probability) in enumerate(made.weighted()):
        mine = vertices[60 * k : 60 * (k + 1)]
        points = np.stack([mine["x"], mine["y"], mine["z"]], axis=1)
        np.testing.assert_allclose(points, made.vertices(body) * FLIP, atol=1e-6)
        assert (mine["body"] == k).all() and mine["probability"] == pytest.approx(probability)
        color = np.stack([mine["red"], mine["green"], mine["blue"]], axis=1)
        expected = scene.spread_colors(person) if spread_colors else np.array([scene.COLORS[k]])
        assert np.abs(color - 255 * expected).max() <= 0.5 + 1e-6
        np.testing.assert_array_equal(faces["corners"][20 * k : 20 * (k + 1)], made.faces + 60 * k)


def test_ply_numbers_more_bodies_than_a_byte_can(tmp_path):
    made = made_predictions.made()
    meshes.write_ply(dataclasses.replace(made, people=made.people * 86), tmp_path / "set.ply")  # 258 bodies.
    header, _, content = (tmp_path / "set.ply").read_bytes().partition(b"end_header\n")
    vertices = np.frombuffer(content, _fields(header), 258 * 60)
    np.testing.assert_array_equal(vertices["body"], np.repeat(np.arange(258), 60))
