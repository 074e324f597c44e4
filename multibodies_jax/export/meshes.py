"""Posed meshes of a scene as OBJ and PLY: x right, y up, z towards the viewer, metres; NumPy only."""

import os

import numpy as np
from jaxtyping import Float

from multibodies_jax import io
from multibodies_jax.export import scene as scenes
from multibodies_jax.vis import render

_PLY_FIELDS = (
    *((name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")),
    *((name, "u1") for name in ("red", "green", "blue")),
    ("body", "<u2"),
    ("probability", "<f4"),
)
_PLY_VERTEX = np.dtype(list(_PLY_FIELDS))
_PLY_FACE = np.dtype([("count", "u1"), ("corners", "<u4", (3,))])
_PLY_NAMES = {"<f4": "float", "u1": "uchar", "<u2": "ushort"}


def write_obj(scene: scenes.Scene, path: str | os.PathLike) -> None:
    """Writes the chosen bodies as one OBJ file: an object for each, its probability in the comment above it.

    Raises:
      OSError: the file cannot be written.
    """
    lines = [f"# {scene.image}: x right, y up, z to the viewer; metres; the camera at the origin"]
    first = 1
    for name, _, body, probability in scene.weighted():
        lines += [f"# probability {probability:.6f}", f"o {name}"]
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in _vertices(scene, body).tolist()]
        lines += [f"f {a} {b} {c}" for a, b, c in (scene.faces + first).tolist()]
        first += len(body.rest_vertices)
    io.write_text(path, "\n".join(lines) + "\n")


def write_ply(scene: scenes.Scene, path: str | os.PathLike, spread_colors: bool = False) -> None:
    """Writes the chosen bodies as one binary PLY file; each vertex has the number and the probability of its body.

    Args:
      scene: what to write.
      path: the file.
      spread_colors: colour each vertex by its spread over all hypotheses, not by its body.

    Raises:
      SceneError: the colours are wanted and the scene has no spread of the vertices.
      OSError: the file cannot be written.
    """
    vertices, faces, comments = [], [], []
    for rank, (name, person, body, probability) in enumerate(scene.weighted()):
        points = _vertices(scene, body)
        part = np.zeros(len(points), _PLY_VERTEX)
        normals = render.vertex_normals(points, scene.faces)
        for names, columns in ((("x", "y", "z"), points), (("nx", "ny", "nz"), normals)):
            for axis, column in enumerate(names):
                part[column] = columns[:, axis]
        color = scenes.spread_colors(person) if spread_colors else np.array(scenes.COLORS[rank % len(scenes.COLORS)])
        for channel, column in enumerate(("red", "green", "blue")):
            part[column] = np.round(255 * color[..., channel])
        part["body"], part["probability"] = rank, probability
        corners = np.zeros(len(scene.faces), _PLY_FACE)
        corners["count"], corners["corners"] = 3, scene.faces + rank * len(points)
        vertices.append(part)
        faces.append(corners)
        comments.append(f"comment body {rank} is {name}, probability {probability:.6f}")
    fields = [f"property {_PLY_NAMES[kind]} {name}" for name, kind in _PLY_FIELDS]
    header = [
        *("ply", "format binary_little_endian 1.0"),
        "comment x right, y up, z to the viewer; metres; the camera at the origin",
        *comments,
        *(f"element vertex {sum(map(len, vertices))}", *fields),
        *(f"element face {sum(map(len, faces))}", "property list uchar uint vertex_indices", "end_header", ""),
    ]
    content = b"".join(array.tobytes() for array in (*vertices, *faces))
    io.write_bytes(path, "\n".join(header).encode("ascii") + content)


def _vertices(scene: scenes.Scene, body: scenes.Body) -> Float[np.ndarray, "V 3"]:
    return scenes.to_y_up(scene.vertices(body))
