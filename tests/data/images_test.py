"""Images of every kind become upright RGB; what is no image is refused with its name."""

import io

import numpy as np
import pytest
from PIL import Image

from multibodies_jax import untrusted
from multibodies_jax.data import images

RED, BLUE = (220, 30, 20), (20, 40, 230)


def _halves():
    """Red above blue, 12 high and 8 wide."""
    return np.concatenate([np.full((6, 8, 3), RED, np.uint8), np.full((6, 8, 3), BLUE, np.uint8)])


def _encode(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def test_rgb_is_read_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = images.load_image(tmp_path / "a.png")
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, pixels)


@pytest.mark.parametrize(
    ("orientation", "as_stored"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, 1)),
        (7, lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
        (8, lambda x: np.rot90(x, -1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, as_stored):
    upright = np.random.default_rng(1).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(as_stored(upright))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(images.load_image(tmp_path / "a.png"), upright)


def test_grey_and_its_alpha(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Image.fromarray(grey).save(tmp_path / "l.png")
    np.testing.assert_array_equal(images.load_image(tmp_path / "l.png"), np.repeat(grey[..., None], 3, axis=2))
    alpha = np.full_like(grey, 255)
    alpha[0] = 0
    Image.fromarray(np.stack([grey, alpha], axis=-1), mode="LA").save(tmp_path / "la.png")
    loaded = images.load_image(tmp_path / "la.png")
    assert (loaded[0] == 255).all()
    np.testing.assert_array_equal(loaded[1:, :, 0], grey[1:])


def test_transparency_shows_white_paper(tmp_path):
    rgba = np.dstack([_halves(), np.full((12, 8), 255, np.uint8)])
    rgba[:6, :, 3] = 0
    rgba[6:, :, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    loaded = images.load_image(tmp_path / "a.png")
    assert (loaded[:6] == 255).all()
    np.testing.assert_allclose(loaded[6:], np.broadcast_to((np.array(BLUE) + 255) / 2, (6, 8, 3)), atol=2)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.fromarray(_halves()).quantize(2)
    image.save(tmp_path / "p.png")
    np.testing.assert_allclose(images.load_image(tmp_path / "p.png"), _halves(), atol=3)
    top = image.getpixel((0, 0))
    image.save(tmp_path / "t.gif", transparency=top)
    loaded = images.load_image(tmp_path / "t.gif")
    assert (loaded[:6] == 255).all()
    np.testing.assert_allclose(loaded[6:], _halves()[6:], atol=3)


def test_cmyk_keeps_its_colours(tmp_path):
    Image.fromarray(_halves()).resize((64, 96), Image.Resampling.NEAREST).convert("CMYK").save(
        tmp_path / "a.jpg", quality=95
    )
    loaded = images.load_image(tmp_path / "a.jpg")
    np.testing.assert_allclose(loaded[10, 32], RED, atol=12)
    np.testing.assert_allclose(loaded[-10, 32], BLUE, atol=12)


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.load_image(tmp_path / "a.png")[0, :, 1], [0, 1, 128, 255])


def test_floating_point_and_wide_integers_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(images.ImageError, match="floating-point"):
        images.load_image(tmp_path / "f.tiff")
    Image.fromarray(np.full((2, 2), 100_000, np.int32)).save(tmp_path / "i.tiff")
    with pytest.raises(images.ImageError, match="more than 16 bits"):
        images.load_image(tmp_path / "i.tiff")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_a_truncated_file_is_refused_by_name(tmp_path, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    content = _encode(noise, format=kind)
    path = tmp_path / "cut.img"
    path.write_bytes(content)
    assert images.load_image(path).shape == (64, 64, 3)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(images.ImageError, match=r"cut\.img: cannot be read as an image"):
        images.load_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_rubbish_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(images.ImageError, match=r"a\.png"):
        images.load_image(tmp_path / "a.png")
    with pytest.raises(images.ImageError, match=r"absent\.png"):
        images.load_image(tmp_path / "absent.png")


def test_the_largest_photographs_of_phones_are_within_the_limit():
    assert 16_384 * 12_288 < untrusted.MOST_PIXELS < 2 * 16_384 * 12_288


def test_photographs_of_200_megapixels_are_read_and_larger_ones_refused(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow's limit is half of what phones take.
    assert images.load_image(tmp_path / "a.png").shape == (40, 40, 3) and Image.MAX_IMAGE_PIXELS == 500
    monkeypatch.setattr(untrusted, "MOST_PIXELS", 1599)
    with pytest.raises(images.ImageError, match="40 x 40 pixels are more than 1,599"):
        images.load_image(tmp_path / "a.png")


def test_no_image_starts_a_program(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "photo.eps")
    content = (tmp_path / "photo.eps").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(content)
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **_: started.append(args))
    with pytest.raises(images.ImageError, match="none of AVIF, BMP, GIF, JPEG"):
        images.load_image(tmp_path / "photo.jpg")
    assert not started


def test_what_a_folder_has_besides_images_is_named_and_hidden_files_are_left_out(tmp_path):
    for name in ("a.jfif", "b.jpg", "c.heic", "d.mp4", "people.json", "._b.jpg", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert [path.name for path in images.find_images(tmp_path)] == ["a.jfif", "b.jpg", "link.jpg"]  # It is said, then.
    assert [path.name for path in images.passed_over(tmp_path)] == ["c.heic", "d.mp4"]
    assert images.passed_over(tmp_path / "c.heic") == []
    for name in ("a.jfif", "b.jpg", "link.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(images.ImageError, match=r"there are c\.heic, d\.mp4"):
        images.find_images(tmp_path)


def test_folders_are_listed_in_order(tmp_path):
    for name in ("b.JPG", "a.png", "c.txt", "d.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.find_images(tmp_path)] == ["a.png", "b.JPG", "d.jpeg"]
    assert images.find_images(tmp_path / "c.txt") == [tmp_path / "c.txt"]  # A file is taken at its word.
    with pytest.raises(images.ImageError, match="no images in this folder"):
        images.find_images(tmp_path / "folder.png")
    with pytest.raises(images.ImageError, match="no such file or folder"):
        images.find_images(tmp_path / "absent")


def test_floats_from_0_to_1_are_bytes():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, axis=2)
    assert images.to_bytes(image) is image
    for kind in (np.float16, np.float32, np.float64):
        got = images.to_bytes((image / 255).astype(kind))
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 5, 3), 255.0), "floats goes from 0 to 1, got 255 to 255"),
        (np.full((4, 5, 3), -0.5), "got -0.5 to -0.5: undo what normalised it"),
        (np.full((4, 5, 3), np.nan), "got nan to nan"),
        (np.zeros((4, 5, 3), np.int64), "got int64"),
        (np.zeros((4, 5), np.uint8), r"got the shape \(4, 5\)"),
        (np.zeros((3, 4, 5), np.uint8), r"got the shape \(3, 4, 5\)"),
        (np.zeros((0, 5, 3)), r"got the shape \(0, 5, 3\)"),
    ],
)
def test_other_arrays_are_no_images(image, message):
    with pytest.raises(images.ImageError, match=message):
        images.to_bytes(image)
