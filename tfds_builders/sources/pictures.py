"""Images as their annotators saw them: pixels as stored, without the rotation that EXIF asks viewers for."""

import pathlib

import numpy as np
from jaxtyping import UInt8

from multibodies_jax import untrusted
from multibodies_jax.data import images


class Reader:
    """Reads RGB images; people who follow each other in one image cost one reading."""

    def __init__(self):
        self._path: pathlib.Path | None = None
        self._image = np.zeros((0, 0, 3), np.uint8)

    def __call__(self, path: pathlib.Path) -> UInt8[np.ndarray, "H W 3"]:
        """The image of a file.

        Raises:
          images.ImageError: it is cut short, damaged or no image.
        """
        if path != self._path:
            self._image, self._path = _read(path), path
        return self._image


def _read(path: pathlib.Path) -> UInt8[np.ndarray, "H W 3"]:
    try:
        with untrusted.open_image(path) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except Exception as error:  # Decoders raise almost anything on damaged files, SyntaxError among it.
        raise images.ImageError(f"{path}: cannot be read as an image ({error or type(error).__name__}).") from error
