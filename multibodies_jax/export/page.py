"""One self-contained HTML page of a photograph and its weighted bodies, and an index page of several.

A page opens from the disk, needs no network and no library: its viewer (`assets/viewer.js`) is plain WebGL 2. Bodies are
stored as 16 bits per coordinate, which is exact to 0.02 mm for a body of 2 m.
"""

import base64
import dataclasses
import html
import importlib.resources
import io as memory
import json
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from multibodies_jax import io
from multibodies_jax.export import camera
from multibodies_jax.export import scene as scenes
from multibodies_jax.geometry import centring, joints
from multibodies_jax.vis import render

_LONGEST_PX = 1280  # Of the photograph in the page; coordinates stay those of the original.
_THUMBNAIL_PX = 360
_LEVELS = 65535
# Hidden joints that are drawn on the photograph: limbs and the head's top; the face and the trunk's inner joints are not.
_LIMBS = tuple(
    k for k, name in enumerate(joints.J24) if name in ("head_top", "neck") or name.partition("_")[2] in
    ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Entry:
    """One page on the index page.

    Attributes:
      link: its file, relative to the index page; a path, not yet an URL.
      title: of the photograph.
      text: what one sees there.
      picture: the photograph with the most probable bodies, small.
    """

    link: str
    title: str
    text: str
    picture: UInt8[np.ndarray, "H W 3"]


def write(scene: scenes.Scene, photo: UInt8[np.ndarray, "H W 3"], path: str | os.PathLike) -> None:
    """Writes the page of a scene; its slider goes through the sets of every person (`scenes.Person.choices`).

    Over the photograph bodies are seen through the crop's camera, as the model saw them; in space they stand before the
    photograph's camera (`export.camera`).

    Args:
      scene: what to show.
      photo: the upright photograph.
      path: the file; replaced when the new one is whole.

    Raises:
      SceneError: the photograph has another size than the predictions say.
      OSError: the file cannot be written.
    """
    io.write_text(path, encode(scene, photo))


def encode(scene: scenes.Scene, photo: UInt8[np.ndarray, "H W 3"]) -> str:
    """The text of the page; see `write`."""
    width, height = scene.image_size
    if photo.shape[:2] != (height, width):
        raise scenes.SceneError(
            f"The photograph has {photo.shape[1]} x {photo.shape[0]} pixels, the predictions of {scene.image} are of one "
            f"with {width} x {height}: give the photograph that was predicted from."
        )
    lens = camera.Lens(scene.focal_px, scene.focal_source).sentence(scene.image_size)
    name, number = html.escape(scene.image), len(scene.people)
    picture = _data_url(_smaller(photo, _LONGEST_PX))
    colors = [f"rgb({' '.join(str(round(255 * x)) for x in color)})" for color in scenes.SPREAD_COLORS]
    return _fill(
        "page.html",
        {
            "title": f"{name}: {number} {'person' if number == 1 else 'people'}, weighted bodies",
            "heading": name,
            "style": _fill("page.css", {"ramp": ", ".join(colors)}),
            "width": str(width),
            "height": str(height),
            "photograph": f'<img src="{picture}" alt="The photograph {name}">',
            "most_spread": f"{1000 * scenes.MOST_SPREAD:.0f}",
            "about": html.escape(f"{scene.about}; {lens}."),
            "data": _json(_content(scene)),
            "script": _asset("viewer.js"),
        },
    )


def write_index(entries: Sequence[Entry], path: str | os.PathLike, title: str = "Weighted bodies") -> None:
    """Writes the page that links the pages of a folder, with a small picture of each.

    Args:
      entries: in the order to show them.
      path: the file; replaced when the new one is whole.
      title: of the page.

    Raises:
      OSError: the file cannot be written.
    """
    cards = [
        f'<li><a href="{html.escape(urllib.parse.quote(entry.link))}"><img src="{_data_url(entry.picture)}" alt="{html.escape(entry.title)} '
        f'with the most probable bodies"><strong>{html.escape(entry.title)}</strong></a><span>{html.escape(entry.text)}'
        "</span></li>"
        for entry in entries
    ]
    io.write_text(path, _fill("index.html", {"title": html.escape(title), "cards": "\n".join(cards)}))


def thumbnail(scene: scenes.Scene, photo: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photograph, at most 360 pixels wide and high, with the most probable body of every person."""
    small = _smaller(photo, _THUMBNAIL_PX)
    shrink = np.diag([small.shape[1] / photo.shape[1], small.shape[0] / photo.shape[0], 1.0])
    for person in sorted(scene.people, key=lambda person: -person.weighted()[0][1].joints24[0, 2]):
        _, body, _ = person.weighted()[0]
        seen = scene.vertices(body) @ body.crop_view[:, :3].T + body.crop_view[:, 3]
        matrix = shrink @ person.crop_intrinsics
        small = render.draw_bodies(small, [seen], scene.faces, matrix, [scenes.COLORS[0]], alpha=0.85)
    return small


def _content(scene: scenes.Scene) -> dict[str, Any]:
    if len(scene.skinning) > _LEVELS:
        raise scenes.SceneError(f"The body has {len(scene.skinning)} vertices; a page takes at most {_LEVELS}.")
    return {
        "size": list(scene.image_size),
        "vertices": len(scene.skinning),
        "faces": _base64(scene.faces.astype("<u2").tobytes()),
        "joints": list(joints.J24),
        "limbs": list(_LIMBS),
        "colors": [list(color) for color in scenes.COLORS],
        "chosen": max(person.chosen for person in scene.people),
        "people": [_person(scene, person) for person in scene.people],
    }


def _person(scene: scenes.Scene, person: scenes.Person) -> dict[str, Any]:
    tint = None
    if person.vertex_spread is not None:
        tint = _base64(np.round(255 * scenes.spread_colors(person)).astype(np.uint8).tobytes())
    return {
        "number": person.number,
        "keypoints": np.round(person.keypoints, 2).tolist(),
        "spread_mm": np.round(1000 * person.joint_spread, 1).tolist(),
        "vertex_tint": tint,
        "sets": {
            n: {"bodies": list(choice.bodies), "probabilities": np.round(choice.probabilities, 6).tolist()}
            for n, choice in person.choices.items()
        },
        "bodies": [_body(scene, person, body) for body in person.bodies],
    }


def _body(scene: scenes.Scene, person: scenes.Person, body: scenes.Body) -> dict[str, Any]:
    packed, low, step = quantize(scene.vertices(body))
    hips = centring.midhip(body.joints24)
    return {
        "index": body.index,
        "vertices": _base64(packed.astype("<u2").tobytes()),
        "low": low.tolist(),
        "step": step.tolist(),
        "pixels": (person.crop_intrinsics @ body.crop_view).tolist(),
        "focal_px": float(person.crop_intrinsics[0, 0]),
        "joints": np.round(body.joints24, 4).tolist(),
        "hips": np.round(hips, 4).tolist(),
    }


def quantize(
    points: Float[np.ndarray, "V 3"],
) -> tuple[np.ndarray, Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Points as 16-bit steps: `low + step * packed` is within half a step of them."""
    low = points.min(axis=0)
    step = np.maximum(points.max(axis=0) - low, 1e-9) / _LEVELS
    return np.round((points - low) / step).astype(np.uint16), low, step


def _smaller(photo: UInt8[np.ndarray, "H W 3"], longest: int) -> UInt8[np.ndarray, "h w 3"]:
    image = Image.fromarray(photo)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _data_url(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    buffer = memory.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{_base64(buffer.getvalue())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return importlib.resources.files("multibodies_jax.export").joinpath("assets", name).read_text(encoding="utf-8")


def _fill(name: str, values: Mapping[str, str]) -> str:
    """An asset with its {{names}} replaced, in one pass: what is put in is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], _asset(name))
