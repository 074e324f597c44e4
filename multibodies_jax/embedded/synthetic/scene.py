"""Renders one synthetic person before a random camera, with everything annotated."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from multibodies_jax.embedded.synthetic import appearance, backgrounds, bodies
from multibodies_jax.geometry import boxes
from multibodies_jax.geometry.rotations_np import about, axis_angle_to_matrix, matrix_to_axis_angle
from multibodies_jax.vis import render

_SUPERSAMPLING = 2
_FOCAL = (2.5, 4.0)  # In image sides: a field of view of 14 to 23 degrees.
FILL = (0.74, 0.82)  # The longer side of the person's box, in image sides.
_MARGIN = 0.015  # Kept free around the person, in image sides.
_LARGEST_SHIFT = 0.1  # Of the person's box from the middle of the image.
_PLACING_TOLERANCE = 1e-4  # In image sides.
_MOST_PLACING_STEPS = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A rendered person: metres, radians and pixels of the image; the camera frame is x right, y down, z forward.

    Attributes:
      image: the picture.
      intrinsics: of the camera.
      pose: axis-angle, with the root in the camera frame.
      betas: shape coefficients.
      translation: from the model's own frame to the camera: the posed mesh plus this is `verts_cam`.
      verts_cam: the mesh.
      joints24_cam: the J24 keypoints.
      kp2d: their projections.
      box_center: of the box around all keypoints, as `boxes.visible_box` has it.
      box_scale: side of that box / 200.
    """

    image: UInt8[np.ndarray, "size size 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    pose: Float[np.ndarray, "24 3"]
    betas: Float[np.ndarray, "S"]
    translation: Float[np.ndarray, "3"]
    verts_cam: Float[np.ndarray, "V 3"]
    joints24_cam: Float[np.ndarray, "24 3"]
    kp2d: Float[np.ndarray, "24 2"]
    box_center: Float[np.ndarray, "2"]
    box_scale: float


def render_person(
    body: bodies.Body,
    pose: Float[np.ndarray, "24 3"],
    betas: Float[np.ndarray, "S"],
    rng: np.random.Generator,
    image_size: int = 128,
) -> Scene:
    """Renders a person seen from a random side, in random clothes, light and surroundings.

    The camera goes around the person at about eye level (yaw uniform, pitch N(5, 10) degrees downwards, roll N(0, 3)
    degrees); all of the person is in the image.

    Args:
      body: the model.
      pose: axis-angle with an upright root: y up, facing +z.
      betas: shape coefficients.
      rng: decides everything else; the same state gives the same picture in every process.
      image_size: side of the image, pixels.
    """
    pose = pose.astype(np.float32)
    root = camera_rotation(rng) @ axis_angle_to_matrix(pose[0])
    pose_cam = np.concatenate([matrix_to_axis_angle(root)[None].astype(np.float32), pose[1:]])
    verts = bodies.pose_body(body, pose_cam, betas)
    focal = rng.uniform(*_FOCAL) * image_size
    intrinsics = np.array([[focal, 0, image_size / 2], [0, focal, image_size / 2], [0, 0, 1]], np.float32)
    translation = place(verts, intrinsics, image_size, rng)
    verts_cam = verts + translation
    joints24_cam = body.j24_regressor @ verts_cam
    kp2d = render.project(joints24_cam, intrinsics)
    center, scale = boxes.visible_box(kp2d, np.ones(24, np.float32))
    return Scene(
        image=_photograph(body, verts_cam, intrinsics, image_size, rng),
        intrinsics=intrinsics,
        pose=pose_cam,
        betas=betas,
        translation=translation,
        verts_cam=verts_cam,
        joints24_cam=joints24_cam,
        kp2d=kp2d,
        box_center=np.asarray(center),
        box_scale=float(scale),
    )


def camera_rotation(rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """From upright (y up, facing +z) to the camera's axes."""
    yaw, pitch, roll = rng.uniform(-180, 180), rng.normal(5, 10), rng.normal(0, 3)
    turns = [about(axis, np.array(angle)) for axis, angle in (("z", roll), ("x", pitch), ("y", yaw))]
    return turns[0] @ turns[1] @ render.UPRIGHT_TO_CAMERA @ turns[2]


def place(verts, intrinsics, image_size, rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """The translation at which the person fills its share of the image, somewhere near the middle.

    Each step corrects size and place as if the person were flat: three or four are enough, unless somebody lies along
    the line of sight.
    """
    focal = intrinsics[0, 0]
    low, high = verts.min(0), verts.max(0)
    wanted_side = rng.uniform(*FILL) * image_size
    offset = rng.uniform(-1, 1, 2)
    depth = focal * max(high[:2] - low[:2]) / wanted_side
    translation = np.array([0, 0, depth], np.float32) - (low + high) / 2
    for _ in range(_MOST_PLACING_STEPS):
        xy = render.project(verts + translation, intrinsics)
        low_px, high_px = xy.min(0), xy.max(0)
        room = (image_size - wanted_side * (high_px - low_px) / max(high_px - low_px)) / 2 - _MARGIN * image_size
        target = image_size / 2 + offset * np.minimum(room, _LARGEST_SHIFT * image_size)
        shift, growth = target - (low_px + high_px) / 2, max(high_px - low_px) / wanted_side
        if max(*np.abs(shift), abs(growth - 1) * wanted_side) < _PLACING_TOLERANCE * image_size:
            break
        center = (low + high)[2] / 2 + translation[2]
        translation[:2] += shift * center / focal
        translation[2] += center * (growth - 1)
    return translation


def _photograph(body, verts_cam, intrinsics, image_size, rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    outfit, light = appearance.Outfit.draw(rng), appearance.Light.draw(rng)
    background = backgrounds.draw(rng, image_size)
    side = image_size * _SUPERSAMPLING
    xy = render.project(verts_cam, intrinsics) * _SUPERSAMPLING
    triangles, barycentric = render.rasterize(xy, verts_cam[:, 2], body.faces, side, side)
    hit = triangles >= 0

    normals = render.vertex_normals(verts_cam, body.faces)
    values = np.concatenate([normals, verts_cam, body.clothes_frame], axis=1)
    values = render.interpolate(values, body.faces, triangles[hit], barycentric[hit])
    normals, points, rest = _unit(values[:, :3]), values[:, 3:6], values[:, 6:]
    layer = np.zeros((side, side, 4), np.float32)
    layer[hit, :3] = appearance.shade(appearance.colors(rest, outfit), normals, _unit(-points), light)
    layer[hit, 3] = 1
    layer = render.downsample(layer, _SUPERSAMPLING)
    return _develop(background * (1 - layer[..., 3:]) + layer[..., :3], rng)


def _develop(image: Float[np.ndarray, "S S 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    """Lens blur, exposure and sensor noise."""
    image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.2, 0.7))
    image = image * np.float32(rng.uniform(0.85, 1.1))
    image += np.float32(rng.uniform(0, 0.02)) * rng.standard_normal(image.shape, np.float32)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _unit(vectors: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(1, keepdims=True)), 1e-9)
