"""The picture of a prediction: the evidence, and each chosen body over the image and from the side."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from multibodies_jax.body import smpl
from multibodies_jax.data import crops
from multibodies_jax.geometry import boxes
from multibodies_jax.vis import render, stick_figure

PANEL_PX = 300
_COLUMNS = 6  # Panels in a row, the one with the evidence included.
MARGIN_PX, CAPTION_PX = 6, 24
MOST_ZOOM_OUT = 3.0  # Bodies reach beyond the crop where it hides limbs; a failure must not shrink everything.
_BODY = (0.55, 0.70, 0.92)
OUTSIDE_GREY = 236  # Grey outside the image.
_mesh = jax.jit(smpl.mesh)
_INK, BOX_COLOR, _KEYPOINT = (30, 30, 30), (240, 160, 0), (220, 30, 90)


def draw(image: UInt8[np.ndarray, "H W 3"], record: Mapping[str, np.ndarray], body: smpl.SmplModel) -> Image.Image:
    """Draws a prediction as a sheet of panels.

    Args:
      image: the upright image.
      record: with representatives (`prediction_file.choose`).
      body: builds the meshes, of the n representatives only.

    Returns:
      The picture; its lowest line says what the model was trained on.
    """
    verts = np.asarray(_mesh(body, jnp.asarray(record["rotmats"]), jnp.asarray(record["betas"])))
    faces = np.asarray(body.faces)
    center, scale = region(record)
    transform = boxes.affine(center, scale, PANEL_PX)
    background = _window(image, transform)
    intrinsics = np.vstack([transform, [0, 0, 1]]) @ record["intrinsics"].astype(np.float64)

    known = int((record["keypoints"][:, 2] > 0).sum())
    panels = [_caption([_evidence(background, record, transform), _blank()], f"{known} keypoints, crop")]
    for i, body_verts in enumerate(verts):
        placed = body_verts + record["translation"][i]
        over = render.draw_bodies(background, [placed], faces, intrinsics, [_BODY], alpha=0.85)
        side = render.draw_panel(body_verts, faces, np.pi / 2, PANEL_PX, _BODY)
        error = record["error_px"][i]
        text = f"p = {record['probabilities'][i]:.2f}" + (f"   {error:.1f} px" if np.isfinite(error) else "")
        panels.append(_caption([over, side], text))
    return _sheet(panels, f"{record['image']}, person {record['person']}. Trained on {record['trained_on']}.")


def region(record: Mapping[str, np.ndarray]) -> tuple[Float[np.ndarray, "2"], float]:
    """The square to show: the crop, widened to the bodies that reach beyond it, up to `MOST_ZOOM_OUT` half crops.

    Args:
      record: as in `draw`.

    Returns:
      (2,) centre in pixels of the image, and scale: the side in units of `boxes.SIDE` (200 px).
    """
    half = boxes.half_side(float(record["box_scale"]))
    box_center = record["box_center"].astype(np.float64)
    joints_camera = record["joints24_camera"].reshape(-1, 3).astype(np.float64)
    points = render.project(joints_camera[joints_camera[:, 2] > render.NEAR], record["intrinsics"])
    points = np.concatenate([points, box_center[None]])  # At least one, should all bodies be behind the camera.
    low = np.clip(points.min(0) - 0.1 * half, box_center - MOST_ZOOM_OUT * half, box_center - 1.1 * half)
    high = np.clip(points.max(0) + 0.1 * half, box_center + 1.1 * half, box_center + MOST_ZOOM_OUT * half)
    return (low + high) / 2, float((high - low).max()) / boxes.SIDE


def _window(image: UInt8[np.ndarray, "H W 3"], transform: Float[np.ndarray, "2 3"]) -> UInt8[np.ndarray, "P P 3"]:
    inside = crops.warp(np.full_like(image, 255), transform, PANEL_PX).astype(np.float32) / 255
    return (crops.warp(image, transform, PANEL_PX) + (1 - inside) * OUTSIDE_GREY).round().astype(np.uint8)


def _evidence(background, record: Mapping[str, np.ndarray], transform) -> UInt8[np.ndarray, "P P 3"]:
    """The image with the crop and the known keypoints."""
    picture = Image.fromarray(background)
    pen = ImageDraw.Draw(picture)
    half = boxes.half_side(float(record["box_scale"]))
    corners = np.stack([record["box_center"] - half, record["box_center"] + half])
    (x0, y0), (x1, y1) = corners @ transform[:, :2].T + transform[:, 2]
    pen.rectangle((x0, y0, x1, y1), outline=BOX_COLOR, width=2)
    points = record["keypoints"][:, :2] @ transform[:, :2].T + transform[:, 2]
    known = record["keypoints"][:, 2] > 0
    for a, b in stick_figure.J24_EDGES:
        if known[a] and known[b]:
            pen.line((*points[a], *points[b]), fill=_KEYPOINT, width=2)
    for x, y in points[known]:
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_KEYPOINT, outline="white")
    return np.asarray(picture)


def _blank() -> UInt8[np.ndarray, "P P 3"]:
    return np.full((PANEL_PX, PANEL_PX, 3), 255, np.uint8)


def _caption(stack: list, text: str) -> Image.Image:
    """Panels one above the other under a line of text."""
    picture = Image.new("RGB", (PANEL_PX, CAPTION_PX + PANEL_PX * len(stack)), "white")
    _text(picture, (4, 2), text)
    for i, panel in enumerate(stack):
        picture.paste(Image.fromarray(panel), (0, CAPTION_PX + i * PANEL_PX))
    return picture


def _text(picture: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(picture).text(place, text, fill=_INK, font=ImageFont.load_default(size=16))


def _sheet(panels: list[Image.Image], footer: str) -> Image.Image:
    width, height = panels[0].size
    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    size = (columns * (width + MARGIN_PX) + MARGIN_PX, rows * (height + MARGIN_PX) + MARGIN_PX + CAPTION_PX)
    sheet = Image.new("RGB", size, "white")
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        sheet.paste(panel, (MARGIN_PX + column * (width + MARGIN_PX), MARGIN_PX + row * (height + MARGIN_PX)))
    _text(sheet, (MARGIN_PX + 4, size[1] - CAPTION_PX), footer)
    return sheet
