"""Image files of any kind as upright 8-bit RGB, or an error that names the file and the cause."""

import os
import pathlib

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from multibodies_jax import untrusted

EXTENSIONS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_BESIDE = (".csv", ".json", ".md", ".npz", ".txt", ".xml", ".yaml", ".yml")  # What lies beside images and is none.
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageError(ValueError):
    """An image that cannot be read; the message names the file and the cause."""


def load_image(path: str | os.PathLike) -> UInt8[np.ndarray, "H W 3"]:
    """Reads an image as it is meant to be seen.

    The EXIF orientation is applied, grey, palette and CMYK become RGB, transparency is laid on white, and 16 bits are
    scaled to 8. Of an animation the first frame is read.

    Args:
      path: a file of one of `untrusted.IMAGE_FORMATS`, of up to 200 megapixels; its name does not matter.

    Raises:
      ImageError: there is no such file, it is truncated, damaged, too large to be a photograph, or no image.
    """
    try:
        with untrusted.open_image(path) as image:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)), np.uint8)
    except Exception as error:  # Decoders raise almost anything on damaged files, SyntaxError among it.
        raise ImageError(f"{path}: cannot be read as an image ({error or type(error).__name__}).") from error


def to_bytes(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "H W 3"]:
    """An upright RGB image as bytes: it has bytes already, or floats from 0 (black) to 1 (white).

    Raises:
      ImageError: it has another shape or type, or a number that is no float from 0 to 1; how to convert is said.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(
            f"An image is an array (height, width, 3) of red, green and blue, got the shape {image.shape}."
        )
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise ImageError(f"An image has uint8 from 0 to 255, or floats from 0 to 1; got {image.dtype}: convert it.")
    least, most = float(image.min()), float(image.max())
    if not (least >= 0 and most <= 1):  # NaN is neither.
        raise ImageError(
            f"An image of floats goes from 0 to 1, got {least:g} to {most:g}: undo what normalised it, or give "
            "image.astype('uint8') of values from 0 to 255."
        )
    return np.round(255 * image).astype(np.uint8)


def find_images(path: str | os.PathLike) -> list[pathlib.Path]:
    """The image itself, or all images of a folder (not of its sub-folders) in the order of their names.

    Hidden files are left out; macOS writes some beside the images, with the same endings.

    Raises:
      ImageError: there is no such file or folder, or the folder has no file with one of `EXTENSIONS`.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ImageError(f"{path}: no such file or folder; give an image or a folder of images.")
    images = sorted(file for file in _visible(path) if file.suffix.lower() in EXTENSIONS)
    if not images:
        there = ", ".join(file.name for file in passed_over(path)[:5])
        raise ImageError(
            f"{path}: no images in this folder{f' (there are {there})' if there else ''}; files that count end in "
            f"{', '.join(EXTENSIONS)}."
        )
    return images


def passed_over(path: str | os.PathLike) -> list[pathlib.Path]:
    """What `find_images` leaves out of a folder although it may be an image (.heic, .avif, videos); of a file nothing."""
    path = pathlib.Path(path)
    if not path.is_dir():
        return []
    return sorted(file for file in _visible(path) if file.suffix.lower() not in (*EXTENSIONS, *_BESIDE))


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder that are not hidden; a link to nothing is one that cannot be read, and is said to be."""
    files = (file for file in folder.iterdir() if not file.name.startswith("."))
    return [file for file in files if file.is_file() or (file.is_symlink() and not file.exists())]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("it has floating-point pixels, whose white is not known; convert it to 8 or 16 bits")
    if image.mode in _SIXTEEN_BITS:
        image = _to_eight_bits(image)
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow would cut values above 255 off instead of scaling them."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its integer pixels have more than 16 bits; convert it to 8 or 16 bits")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))
