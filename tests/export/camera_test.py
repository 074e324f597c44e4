"""The photograph's camera: focal lengths from EXIF, and bodies that stand where the crop's camera shows them."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from multibodies_jax.export import camera
from multibodies_jax.geometry import cameras, image_cameras

SIZE = (600, 400)
DIAGONAL = np.hypot(*SIZE)


def photo(path, ifd=None, size=SIZE):
    image, exif = Image.new("RGB", size, "grey"), Image.Exif()
    for tag, value in (ifd or {}).items():
        exif.get_ifd(0x8769)[tag] = value
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("ifd", "focal_px", "source"),
    [
        ({0xA405: 28}, 28 * DIAGONAL / np.hypot(36, 24), "exif"),
        ({0xA405: 28, 0xA002: 3000, 0xA003: 2000}, 28 * DIAGONAL / np.hypot(36, 24), "exif"),
        # 6 mm, 500 pixels per mm of a sensor of 3000 pixels, shrunk to 600: 6 x 500 / 5.
        ({0x920A: 6.0, 0xA20E: 5000.0, 0xA210: 3, 0xA002: 3000, 0xA003: 2000}, 600.0, "exif"),
        ({0x920A: 6.0}, 50 * DIAGONAL / np.hypot(36, 24), "assumed"),
        ({0xA405: 28, 0xA002: 2000, 0xA003: 2000}, 50 * DIAGONAL / np.hypot(36, 24), "assumed"),  # It was cut.
        ({0xA405: 60000}, 50 * DIAGONAL / np.hypot(36, 24), "assumed"),
        ({0xA405: 0}, 50 * DIAGONAL / np.hypot(36, 24), "assumed"),
        ({}, 50 * DIAGONAL / np.hypot(36, 24), "assumed"),
    ],
)
def test_the_focal_length_comes_from_exif_or_is_assumed(tmp_path, ifd, focal_px, source):
    found = camera.lens_of_photo(photo(tmp_path / "a.jpg", ifd))
    assert found.source == source
    assert found.focal_px == pytest.approx(focal_px, rel=1e-4)


def test_what_the_user_gives_comes_first(tmp_path):
    found = camera.lens_of_photo(photo(tmp_path / "a.jpg", {0xA405: 28}), focal_px=500)
    assert found == camera.Lens(500, "given")
    assert found.sentence(SIZE) == "focal length 500 px (30 mm on 35 mm film), as given"


@pytest.mark.parametrize("focal_px", [0, -5, 3, 1e6, float("nan")])
def test_no_focal_length_of_a_photograph(focal_px):
    with pytest.raises(ValueError, match="none of a photograph of 600 x 400 pixels; expected 72 to 72111 px"):
        camera.lens(SIZE, focal_px)


def random_view(seed, flat, num=5):
    """Bodies (as thick as `flat` metres) in a crop away from the middle of the image."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 0.4, (num, 24, 3)) * [1, 1, flat]
    cam = np.column_stack([rng.uniform(0.7, 1.1, num), rng.normal(0, 0.05, (num, 2))])
    return [jnp.asarray(x, jnp.float32) for x in (points, cam, np.ones(24), (450.0, 120.0), 0.9)]


def disagreement_px(points, cam, known, center, scale, focal_px, size=SIZE, focal=cameras.FOCAL):
    matrix = jnp.asarray(camera.intrinsics(focal_px, size))
    R, t = camera.place(points, cam, known, center, scale, matrix, focal)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
    placed = np.einsum("ab,mkb->mka", R, points) + np.asarray(t)[:, None]
    homogeneous = placed @ np.asarray(matrix).T
    crop = np.asarray(cameras.project_crop(points, cam, focal))
    seen = np.asarray(center) + crop * 100 * float(scale)
    return np.linalg.norm(homogeneous[..., :2] / homogeneous[..., 2:] - seen, axis=-1), R, np.asarray(t)


@pytest.mark.slow
def test_flat_bodies_seen_from_afar_agree_with_the_crop():
    error, _, t = disagreement_px(*random_view(0, flat=0.05), focal_px=7000.0)
    assert error.max() < 0.6 and (t[:, 2] > 50).all()


@pytest.mark.slow
def test_a_crop_of_the_photographs_focal_length_loses_nothing_on_the_axis():
    points, cam, known, _, scale = random_view(1, flat=1.0)
    lens = camera.lens(SIZE, 900.0)
    focal = camera.crop_focal(lens, float(scale))
    assert focal == 900 / (100 * float(scale))
    center = jnp.array(SIZE, jnp.float32) / 2
    assert disagreement_px(points, cam, known, center, scale, 900.0, focal=focal)[0].max() < 0.01
    assert disagreement_px(points, cam, known, center, scale, 900.0)[0].max() > 1


@pytest.mark.parametrize(
    ("focal_px", "expected"), [(60.0, image_cameras.SHORTEST_CROP_FOCAL), (50_000.0, cameras.FOCAL)]
)
def test_the_crops_focal_length_has_limits(focal_px, expected):
    assert camera.crop_focal(camera.Lens(focal_px, "exif"), 1.0) == pytest.approx(expected)


@pytest.mark.slow
def test_the_turn_towards_the_person_lowers_the_disagreement():
    """Thick bodies off the axis look sheared unless they are turned as the ray to the crop's centre."""
    view = random_view(1, flat=1.0)
    points, cam, _known, center, scale = view
    error, R, _ = disagreement_px(*view, focal_px=900.0)
    ray = np.array([(450 - 300) / 900, (120 - 200) / 900, 1])
    np.testing.assert_allclose(R[:, 2], ray / np.linalg.norm(ray), atol=1e-6)
    matrix = jnp.broadcast_to(jnp.asarray(camera.intrinsics(900.0, SIZE)), (5, 3, 3))
    seen = image_cameras.crop_to_image(cameras.project_crop(points, cam), jnp.tile(center, (5, 1)), jnp.full(5, scale))
    t = image_cameras.translation_from_keypoints(points, seen, jnp.ones((5, 24)), matrix)
    unturned = np.linalg.norm(image_cameras.project(points + t[:, None], matrix) - seen, axis=-1)
    assert error.mean() < 0.9 * unturned.mean()


def test_depth_follows_the_focal_length_and_the_size_in_the_image():
    """A person half as large in the photograph stands twice as far away: one lens, metric bodies."""
    points, cam, known, center, _ = random_view(2, flat=0.3)
    near = disagreement_px(points, cam, known, center, jnp.float32(0.8), 2000.0)[2]
    far = disagreement_px(points, cam, known, center, jnp.float32(0.4), 2000.0)[2]
    longer = disagreement_px(points, cam, known, center, jnp.float32(0.8), 4000.0)[2]
    np.testing.assert_allclose(far[:, 2], 2 * near[:, 2], rtol=0.02)
    np.testing.assert_allclose(longer[:, 2], 2 * near[:, 2], rtol=0.02)


def test_known_joints_decide_where_there_are_four():
    points, cam, _, center, scale = random_view(3, flat=1.0)
    known = jnp.asarray(np.arange(24) < 6, jnp.float32)
    error = disagreement_px(points, cam, known, center, scale, 600.0)[0]
    of_all = disagreement_px(points, cam, jnp.ones(24), center, scale, 600.0)[0]
    assert error[:, :6].mean() < of_all[:, :6].mean()
    few = disagreement_px(points, cam, jnp.asarray(np.arange(24) < 3, jnp.float32), center, scale, 600.0)[2]
    np.testing.assert_allclose(few, disagreement_px(points, cam, jnp.ones(24), center, scale, 600.0)[2], atol=1e-5)


def test_bodies_that_would_reach_into_the_lens_are_placed_by_origin_and_size():
    points, cam, known, center, scale = random_view(4, flat=10.0)
    _, R, t = disagreement_px(points, cam, known, center, scale, 100.0)
    by_size = 2 * 100.0 / (200 * 0.9 * np.asarray(cam)[:, 0])
    reaches_in = np.einsum("ab,mkb->mka", R, points)[..., 2].min(1) + t[:, 2] < 0.1
    assert reaches_in.any()
    np.testing.assert_allclose(t[reaches_in, 2], by_size[reaches_in], rtol=1e-5)
