"""Software rendering with NumPy: a z-buffer over triangles, and shaded bodies drawn into images.

Needs neither OpenGL nor a display, and gives the same pixels on every machine. Cameras are those of the whole project:
x right, y down, z forward; the centre of the top-left pixel is (0.5, 0.5).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8

NEAR = 0.01  # Metres: triangles that reach nearer to the camera's plane are left out, not clipped.
UPRIGHT_TO_CAMERA = np.diag(
    [1.0, -1.0, -1.0]
)  # From y up, facing +z, to camera axes: a person who looks at the camera.

_SUPERSAMPLING = 2
_FRAGMENTS_AT_ONCE = 1_000_000  # Bounds the memory of large triangles.
_PANEL_DISTANCE = 8.0  # In half sizes of the body: a moderate perspective.
_PANEL_FILL = 0.94


def rasterize(
    xy_px: Float[np.ndarray, "V 2"],
    depth: Float[np.ndarray, "V"],
    faces: Integer[np.ndarray, "F 3"],
    height: int,
    width: int,
) -> tuple[Integer[np.ndarray, "height width"], Float[np.ndarray, "height width 3"]]:
    """Finds the nearest front-facing triangle at the centre of every pixel (a z-buffer).

    Triangles are grouped by the size of their box, so that each group is one dense array operation. Inverse depth and
    the weights divided by it are linear in the image, which makes both exact under perspective (Blinn, 1992,
    "Hyperbolic interpolation").

    Args:
      xy_px: projected vertices, pixels.
      depth: of the vertices along the optical axis. A triangle with a vertex nearer than `NEAR`, or that is not
        finite, is left out.
      faces: counter-clockwise seen from outside the body; back faces are culled.
      height: of the image.
      width: of the image.

    Returns:
      The triangle of each pixel (-1 where there is none), and the weights of its corners: perspective-correct, with
      the sum 1 (0 where there is no triangle).
    """
    faces = _visible_faces(xy_px, depth, faces)
    ids, faces = faces[:, 0], faces[:, 1:]
    corners = xy_px[faces]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    low = np.clip(np.floor(np.minimum(np.minimum(a, b), c)), 0, (width, height)).astype(np.int64)
    high = np.clip(np.ceil(np.maximum(np.maximum(a, b), c)), 0, (width, height)).astype(np.int64)
    box = (high - low).max(1, initial=0) * (high > low).all(1)
    groups = []
    for side in _box_sides(max(height, width)):
        group = np.flatnonzero((box <= side) & (2 * box > side))
        pieces = max(1, len(group) * side * side // _FRAGMENTS_AT_ONCE)
        groups += [_fragments(corners[part], part, low[part], side) for part in np.array_split(group, pieces)]
    row, column, triangle, weights = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    inside = (row < height) & (column < width)
    pixel, triangle, weights = (row * width + column)[inside], triangle[inside], weights[inside]

    weights = weights / depth[faces[triangle]]
    nearness = weights.sum(1)
    order = np.argsort(nearness, kind="stable")  # The nearest fragment of a pixel is written last, and stays.
    winner = np.full(height * width, -1)
    winner[pixel[order]] = order
    hit = winner >= 0
    winner = winner[hit]
    triangle_ids = np.full(height * width, -1)
    triangle_ids[hit] = ids[triangle[winner]]
    barycentric = np.zeros((height * width, 3))
    barycentric[hit] = weights[winner] / nearness[winner, None]
    return triangle_ids.reshape(height, width), barycentric.reshape(height, width, 3)


def _visible_faces(xy_px, depth, faces):
    """(F', 4): index and corners of the triangles that face the camera and lie in front of it."""
    usable = (depth > NEAR) & np.isfinite(depth) & np.isfinite(xy_px).all(1)
    ids = np.flatnonzero(usable[faces].all(1))
    faces = faces[ids]
    front = _twice_area(*np.moveaxis(xy_px[faces], 1, 0)) < -1e-9  # y points down, hence the sign.
    return np.concatenate([ids[front, None], faces[front]], axis=1)


def _twice_area(a, b, c):
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def _box_sides(longest: int) -> list[int]:
    """Powers of two from 1 to at least `longest`."""
    return [1 << k for k in range(int(longest - 1).bit_length() + 1)]


def _fragments(corners, triangles, low, side):
    """Pixels of the boxes [low, low + side) whose centres lie in the triangles: row, column, triangle, weights."""
    offset = np.arange(side)
    x = low[:, 0, None, None] + offset[None, None, :] + 0.5
    y = low[:, 1, None, None] + offset[None, :, None] + 0.5
    (ax, ay), (bx, by), (cx, cy) = np.moveaxis(corners, 0, 2)[..., None, None]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    b = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
    c = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
    t, i, j = np.nonzero((b >= 0) & (c >= 0) & (b + c <= 1))
    b, c = b[t, i, j], c[t, i, j]
    return low[t, 1] + i, low[t, 0] + j, triangles[t], np.stack([1 - b - c, b, c], axis=1)


def interpolate(
    values: Float[np.ndarray, "V C"],
    faces: Integer[np.ndarray, "F 3"],
    triangles: Integer[np.ndarray, "P"],
    barycentric: Float[np.ndarray, "P 3"],
) -> Float[np.ndarray, "P C"]:
    """Interpolates values at the vertices to points given by triangle and barycentric weights."""
    a, b, c = faces[triangles].T
    u, v, w = barycentric.astype(values.dtype).T[:, :, None]
    return u * values[a] + v * values[b] + w * values[c]


def vertex_normals(verts: Float[np.ndarray, "V 3"], faces: Integer[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals at the vertices: the mean of the adjacent faces' normals, weighted by area."""
    a, b, c = verts[faces[:, 0]], verts[faces[:, 1]], verts[faces[:, 2]]
    across = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    normals = np.stack([np.bincount(faces.ravel(), across[:, k], len(verts)) for k in range(3)], axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals.astype(verts.dtype)


def project(
    points: Float[np.ndarray, "*batch 3"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "*batch 2"]:
    """Projects points of the camera frame to pixels (perspective, no distortion).

    A point on the camera's plane gives no finite pixel; `rasterize` and the drawing functions leave such triangles out.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return (points @ intrinsics[:2].T.astype(points.dtype)) / points[..., 2:]


def draw_bodies(
    image: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[Float[np.ndarray, "V 3"]] | Float[np.ndarray, "N V 3"],
    faces: Integer[np.ndarray, "F 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    colors: Sequence | np.ndarray,
    alpha: float | int = 0.9,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws shaded bodies over an image, hiding each other where they should.

    Edges are smoothed by 2 x 2 samples per pixel. Only the part of the image that the bodies cover is rendered.

    Args:
      image: left as it is.
      bodies: vertices in the camera frame, metres; there may be none. What lies behind the camera is left out.
      faces: triangles, the same for all bodies.
      intrinsics: of the image, pixels.
      colors: (N, 3): red, green, blue in [0, 1] for each body.
      alpha: opacity of the bodies, in [0, 1].

    Returns:
      A new image.

    Raises:
      ValueError: another number of colours than of bodies, or an alpha outside [0, 1].
    """
    colors = np.asarray(colors, float).reshape(-1, 3)
    if len(bodies) != len(colors):
        raise ValueError(f"draw_bodies needs one colour for each body, got {len(colors)} for {len(bodies)} bodies.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is an opacity in [0, 1], got {alpha}.")
    if not len(bodies):
        return image.copy()
    verts = np.concatenate(bodies).astype(np.float64)
    all_faces = np.concatenate([faces.astype(np.int64) + k * len(bodies[0]) for k in range(len(bodies))])
    xy_px = project(verts, intrinsics)
    window = _covered_window(xy_px[verts[:, 2] > NEAR], *image.shape[:2])
    if window is None:
        return image.copy()
    x0, y0, x1, y1 = window

    height, width = (y1 - y0) * _SUPERSAMPLING, (x1 - x0) * _SUPERSAMPLING
    triangles, barycentric = rasterize((xy_px - (x0, y0)) * _SUPERSAMPLING, verts[:, 2], all_faces, height, width)
    hit = triangles >= 0
    normals = interpolate(vertex_normals(verts, all_faces), all_faces, triangles[hit], barycentric[hit])
    body = triangles[hit] // len(faces)
    layer = np.zeros((height, width, 4))
    layer[hit, :3] = colors[body] * _shade(normals)[:, None]
    layer[hit, 3] = 1
    layer = alpha * downsample(np.clip(layer, 0, 1), _SUPERSAMPLING)

    result = image.copy()
    behind = result[y0:y1, x0:x1] / 255.0
    blended = behind * (1 - layer[..., 3:]) + layer[..., :3]
    result[y0:y1, x0:x1] = np.round(blended * 255).astype(np.uint8)
    return result


def _covered_window(xy_px, height, width):
    """The pixels that the box of the points touches: x0, y0, x1, y1, or None where that is outside the image."""
    xy_px = xy_px[np.isfinite(xy_px).all(1)]
    if not len(xy_px):
        return None
    x0, y0 = np.floor(np.clip(xy_px.min(0), 0, (width, height))).astype(int).tolist()
    x1, y1 = np.ceil(np.clip(xy_px.max(0), 0, (width, height))).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _shade(normals: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P"]:
    """Brightness under a sky above, a lamp over the left shoulder of the camera and a weak one at the camera."""
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    lamp = np.array([-0.45, -0.65, -0.61])
    sky = 0.5 - 0.5 * normals[:, 1]
    return 0.22 + 0.20 * sky + 0.50 * np.clip(normals @ lamp, 0, 1) + 0.22 * np.clip(-normals[:, 2], 0, 1)


def downsample(image: Float[np.ndarray, "H W C"], factor: int) -> Float[np.ndarray, "h w C"]:
    """Averages blocks of `factor` x `factor` pixels."""
    total = sum(image[i::factor, j::factor] for i in range(factor) for j in range(factor))
    return total / np.asarray(factor**2, image.dtype)


def look_at_body(
    verts: Float[np.ndarray, "V 3"], yaw: float | int
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "3 3"]]:
    """Turns a body about the vertical and places it before a camera that sees all of it.

    The distance depends on the body but not on the yaw, so views from several sides have one scale.

    Args:
      verts: in camera axes (y down, z forward) around any origin, metres; multiply upright bodies (y up) by
        `UPRIGHT_TO_CAMERA` first.
      yaw: radians about the downward axis; at +pi/2 one looks at the side that was on the right.

    Returns:
      The vertices in the frame of the new camera, and its intrinsics for an image of 1 x 1 pixel: scale the first two
      rows by the side of the image.
    """
    verts = np.asarray(verts, np.float64)
    centered = verts - (verts.min(0) + verts.max(0)) / 2
    half_size = max(np.abs(centered[:, 1]).max(), np.hypot(centered[:, 0], centered[:, 2]).max(), 1e-6)
    c, s = np.cos(yaw), np.sin(yaw)
    turned = centered @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    turned[:, 2] += _PANEL_DISTANCE * half_size
    # The nearest point may be half a size nearer than the centre: it too stays within the panel.
    focal = 0.5 * _PANEL_FILL * (_PANEL_DISTANCE - 1)
    return turned, np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1.0]])


def draw_panel(
    verts: Float[np.ndarray, "V 3"],
    faces: Integer[np.ndarray, "F 3"],
    yaw: float | int,
    size: int,
    color: Sequence | np.ndarray,
) -> UInt8[np.ndarray, "size size 3"]:
    """Draws one body alone on white, seen from `yaw` (0 is the view of the camera whose axes `verts` are in).

    Args:
      verts: as for `look_at_body`.
      faces: triangles.
      yaw: radians, as for `look_at_body`.
      size: side of the panel, pixels.
      color: red, green, blue in [0, 1].
    """
    verts_cam, intrinsics = look_at_body(verts, yaw)
    intrinsics[:2] *= size
    paper = np.full((size, size, 3), 255, np.uint8)
    return draw_bodies(paper, [verts_cam], faces, intrinsics, [color], alpha=1.0)
