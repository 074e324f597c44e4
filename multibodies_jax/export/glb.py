"""Binary glTF 2.0 of a scene: skinned bodies with 24 named bones, over time if they move; NumPy only.

Each body is a node with its skeleton and its mesh. Its mesh is bound in the rest pose of SMPL, and what SMPL adds for the
pose ("correctives") is part of the bound vertices: a still is exact, and the frames of a motion share the correctives of
the body, since glTF has none that follow the pose. Axes are those of glTF: x right, y up, z towards the viewer, metres; the camera
of the photograph is a node at the origin.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import json
import math
import os
import struct
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax import io
from multibodies_jax.export import scene as scenes
from multibodies_jax.geometry import rotations_np
from multibodies_jax.vis import render

_FLOAT, _UINT8, _UINT32 = 5126, 5121, 5125
_VERTICES, _INDICES = 34962, 34963  # Targets of a buffer view.
_MAGIC, _JSON_CHUNK, _BINARY_CHUNK = b"glTF", b"JSON", b"BIN\0"
_NEAR, _FAR = 0.05, 1000.0  # Metres, of the camera.


def write(scene: scenes.Scene, path: str | os.PathLike, spread_colors: bool = False) -> None:
    """Writes a GLB file.

    `extras` of a body's node and of its mesh: `probability`, `person`, `hypothesis`, and `joint_spread_m` by bone. Those
    of the scene: what it was made of.

    Args:
      scene: what to write: the chosen set of every person.
      path: the file; replaced when the new one is whole.
      spread_colors: colour each vertex by its spread over all hypotheses (`scenes.build(vertex_spread=True)`).

    Raises:
      SceneError: the colours are wanted and the scene has no spread of the vertices.
      OSError: the file cannot be written.
    """
    io.write_bytes(path, encode(scene, spread_colors))


def encode(scene: scenes.Scene, spread_colors: bool = False) -> bytes:
    """The bytes of the file; see `write`."""
    file = _File()
    indices = file.add(scene.faces.astype(np.uint32).reshape(-1), _UINT32, "SCALAR", _INDICES)
    bones, shares = scene.bone_influences()
    bone_accessor = file.add(bones.astype(np.uint8), _UINT8, "VEC4", _VERTICES)
    share_accessor = file.add(shares, _FLOAT, "VEC4", _VERTICES)
    shared = {"JOINTS_0": bone_accessor, "WEIGHTS_0": share_accessor}
    roots = [_add_camera(file, scene)]
    for rank, (name, person, body, probability) in enumerate(scene.weighted()):
        extras = {
            "probability": probability,
            "person": person.number,
            "hypothesis": body.index,
            "joint_spread_m": dict(zip(scenes.BONES, person.bone_spread.tolist(), strict=True)),
        }
        colors = scenes.spread_colors(person) if spread_colors else None
        base = (
            (1.0, 1.0, 1.0) if spread_colors else _linear(np.array(scenes.COLORS[rank % len(scenes.COLORS)])).tolist()
        )
        material = file.append(
            "materials",
            name=name,
            pbrMetallicRoughness={"baseColorFactor": [*base, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8},
        )
        attributes = _add_vertices(file, scene, body, colors) | shared
        mesh = file.append(
            "meshes", name=name, primitives=[{"attributes": attributes, "indices": indices, "material": material}]
        )
        skeleton = _add_skeleton(file, body)
        skin = _add_skin(file, name, body, skeleton)
        # A skinned mesh ignores its parents, so it is one of the scene's own nodes.
        roots.append(file.append("nodes", name=name, children=[skeleton], extras=extras))
        roots.append(file.append("nodes", name=f"{name}_mesh", mesh=mesh, skin=skin, extras=extras))
        if body.motion is not None:
            _add_motion(file, name, body, skeleton, scene.frames_per_second)
    return file.encode(roots, _about(scene))


def _add_vertices(file: "_File", scene: scenes.Scene, body: scenes.Body, colors) -> dict[str, int]:
    """The bound vertices, correctives included, with smooth normals."""
    bound = (body.rest_vertices + body.correctives).astype(np.float32)
    attributes = {
        "POSITION": file.add(bound, _FLOAT, "VEC3", _VERTICES, limits=True),
        "NORMAL": file.add(_unit(render.vertex_normals(bound, scene.faces)), _FLOAT, "VEC3", _VERTICES),
    }
    if colors is not None:
        attributes["COLOR_0"] = file.add(_linear(colors).astype(np.float32), _FLOAT, "VEC3", _VERTICES)
    return attributes


def _linear(colors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Colours of a screen (sRGB) as the linear ones that glTF stores."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def _unit(normals: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """Normals of length 1; a vertex without faces points up."""
    up = np.array([0, 1, 0], np.float32)
    return np.where(np.linalg.norm(normals, axis=1, keepdims=True) < 0.5, up, normals)


def _add_skeleton(file: "_File", body: scenes.Body) -> int:
    """The bones as nodes, each with its place relative to its parent; the number of the root's node."""
    rotations, root = scenes.y_up_pose(body.rotations[None], (body.translation + body.rest_joints[0])[None])
    quaternions = _quaternions(rotations)[0]
    first = file.count("nodes")
    for bone, (name, parent) in enumerate(zip(scenes.BONES, scenes.PARENTS, strict=True)):
        place = root[0] if parent < 0 else body.rest_joints[bone] - body.rest_joints[parent]
        children = [first + child for child, its in enumerate(scenes.PARENTS) if its == bone]
        file.append(
            "nodes",
            name=name,
            translation=place.tolist(),
            rotation=quaternions[bone].tolist(),
            **({"children": children} if children else {}),
        )
    return first


def _add_skin(file: "_File", name: str, body: scenes.Body, skeleton: int) -> int:
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (24, 1, 1))
    inverse_bind[:, :3, 3] = -body.rest_joints
    columns = inverse_bind.transpose(0, 2, 1).reshape(24, 16)  # glTF stores matrices column after column.
    matrices = file.add(columns, _FLOAT, "MAT4")
    bones = list(range(skeleton, skeleton + 24))
    return file.append("skins", name=name, joints=bones, inverseBindMatrices=matrices, skeleton=skeleton)


def _add_motion(file: "_File", name: str, body: scenes.Body, skeleton: int, frames_per_second: float | int) -> None:
    motion = body.motion
    assert motion is not None
    rotations, root = scenes.y_up_pose(motion.rotations, motion.translation + body.rest_joints[0])
    seconds = (np.arange(len(root)) / frames_per_second).astype(np.float32)
    time = file.add(seconds, _FLOAT, "SCALAR", limits=True)
    outputs = [("translation", skeleton, file.add(root.astype(np.float32), _FLOAT, "VEC3"))]
    for bone, turns in enumerate(np.moveaxis(_quaternions(rotations), 1, 0)):
        outputs.append(("rotation", skeleton + bone, file.add(turns.astype(np.float32), _FLOAT, "VEC4")))
    file.append(
        "animations",
        name=name,
        samplers=[{"input": time, "output": output, "interpolation": "LINEAR"} for _, _, output in outputs],
        channels=[{"sampler": k, "target": {"node": node, "path": path}} for k, (path, node, _) in enumerate(outputs)],
    )


def _quaternions(rotations: Float[np.ndarray, "T 24 3 3"]) -> Float[np.ndarray, "T 24 4"]:
    """x, y, z, w; neighbouring frames have the same sign, so that players turn the short way."""
    found = np.roll(rotations_np.matrix_to_quaternion(rotations), -1, axis=-1)
    against = np.sum(found[1:] * found[:-1], axis=-1) < 0
    signs = np.where(np.cumsum(against, axis=0) % 2, -1.0, 1.0)
    found[1:] *= signs[..., None]
    return found


def _add_camera(file: "_File", scene: scenes.Scene) -> int:
    width, height = scene.image_size
    camera = file.append(
        "cameras",
        name="photograph",
        type="perspective",
        perspective={
            "yfov": 2 * math.atan(height / 2 / scene.focal_px),
            "aspectRatio": width / height,
            "znear": _NEAR,
            "zfar": _FAR,
        },
    )
    extras = {
        "image": scene.image,
        "image_size": [width, height],
        "focal_px": scene.focal_px,
        "focal_source": scene.focal_source,
        "principal_point": scene.principal_point.tolist(),
    }
    return file.append("nodes", name="photograph", camera=camera, extras=extras)


def _about(scene: scenes.Scene) -> dict[str, Any]:
    return {"image": scene.image, "about": scene.about, "units": "metres", "axes": "x right, y up, z to the viewer"}


class _File:
    """The parts of a glTF file while it is built: JSON arrays, and one binary buffer."""

    def __init__(self):
        self._json: dict[str, list] = {"nodes": []}
        self._pieces: list[bytes] = []
        self._size = 0

    def count(self, kind: str) -> int:
        return len(self._json.get(kind, []))

    def append(self, kind: str, **entry: Any) -> int:
        """Adds an entry to an array of the JSON part; its index."""
        self._json.setdefault(kind, []).append(entry)
        return self.count(kind) - 1

    def add(self, array: np.ndarray, component: int, kind: str, target: int | None = None, limits: bool = False) -> int:
        """Adds an array to the buffer; the index of its accessor."""
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        view = {"buffer": 0, "byteOffset": self._size, "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        accessor: dict[str, Any] = {
            "bufferView": self.append("bufferViews", **view),
            "componentType": component,
            "count": len(array),
            "type": kind,
        }
        if limits:
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(axis=0).tolist(), "max": flat.max(axis=0).tolist()}
        self._pieces.append(content + b"\0" * (-len(content) % 4))
        self._size += len(self._pieces[-1])
        return self.append("accessors", **accessor)

    def encode(self, roots: list[int], extras: dict[str, Any]) -> bytes:
        """The whole file."""
        content = {
            "asset": {"version": "2.0", "generator": "multibodies_jax", "extras": extras},
            "scene": 0,
            "scenes": [{"nodes": roots}],
            "buffers": [{"byteLength": self._size}],
            **self._json,
        }
        text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        binary = b"".join(self._pieces)
        header = struct.pack("<4sII", _MAGIC, 2, 12 + 8 + len(text) + 8 + len(binary))
        chunks = ((text, _JSON_CHUNK), (binary, _BINARY_CHUNK))
        return header + b"".join(struct.pack("<I4s", len(chunk), kind) + chunk for chunk, kind in chunks)
