"""Reads a GLB file by the glTF specification alone, without the writer's code: nodes, skins, animations, posed vertices."""

import json
import struct

import numpy as np
from scipy.spatial.transform import Rotation

COMPONENTS = {5121: np.uint8, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A parsed file: `json` is its JSON part."""

    def __init__(self, content: bytes):
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON" and size % 4 == 0
        self.json = json.loads(content[20 : 20 + size])
        binary_size, kind = struct.unpack_from("<I4s", content, 20 + size)
        assert kind == b"BIN\0" and 28 + size + binary_size == len(content)
        self.binary = content[28 + size :]

    def array(self, accessor: int) -> np.ndarray:
        its = self.json["accessors"][accessor]
        view = self.json["bufferViews"][its["bufferView"]]
        kind, width = COMPONENTS[its["componentType"]], WIDTHS[its["type"]]
        values = np.frombuffer(self.binary, kind, its["count"] * width, view["byteOffset"])
        return values.reshape(its["count"], width) if width > 1 else values

    def named(self, name: str) -> dict:
        (found,) = [node for node in self.json["nodes"] if node["name"] == name]
        return found

    def vertices(self, mesh_node: str, animation: str = "", frame: int = 0) -> np.ndarray:
        """The vertices as a viewer would show them: the skin's joints move them, whatever the parents of the mesh are."""
        node = self.named(mesh_node)
        moved = self._animated(animation, frame)
        parents = {child: k for k, its in enumerate(self.json["nodes"]) for child in its.get("children", [])}

        def world(k):
            its = self.json["nodes"][k]
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(
                moved.get((k, "rotation"), its.get("rotation", [0, 0, 0, 1]))
            ).as_matrix()
            local[:3, 3] = moved.get((k, "translation"), its.get("translation", [0, 0, 0]))
            return world(parents[k]) @ local if k in parents else local

        skin = self.json["skins"][node["skin"]]
        inverse_bind = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        bones = np.stack([world(k) for k in skin["joints"]]) @ inverse_bind
        attributes = self.json["meshes"][node["mesh"]]["primitives"][0]["attributes"]
        points = self.array(attributes["POSITION"]).astype(np.float64)
        points = np.column_stack([points, np.ones(len(points))])
        share, which = self.array(attributes["WEIGHTS_0"]), self.array(attributes["JOINTS_0"])
        return np.einsum("vk,vkab,vb->va", share, bones[which], points)[:, :3]

    def _animated(self, name: str, frame: int) -> dict:
        found = {}
        for animation in self.json.get("animations", []):
            if animation["name"] == name:
                for channel in animation["channels"]:
                    values = self.array(animation["samplers"][channel["sampler"]]["output"])
                    found[channel["target"]["node"], channel["target"]["path"]] = values[frame]
        return found
