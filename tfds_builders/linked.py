"""Sets that hold paths of images instead of pixels (`--store=path`): reading cuts the window out of the image file."""

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from multibodies_jax import untrusted
from tfds_builders.building import BuildError
from tfds_builders.sources import pictures


class Linked(Sequence):
    """The examples of a set with their images, as if it held them."""

    def __init__(self, source: Any, root: str, advice: str):
        """Opens a set.

        Args:
          source: random-access examples whose `image` is a path.
          root: the folder that the paths are relative to.
          advice: what to do where an image is not there any more.
        """
        self._source, self._root, self._advice = source, pathlib.Path(root), advice

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        """An example; its image is read now.

        Raises:
          BuildError: the file is not there any more, is no image, or is another one than when the set was built.
        """
        return self._with_image(self._source[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))  # TFDS's sources raise ValueError at their end, not IndexError.

    def __getitems__(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Several examples."""
        return [self._with_image(record) for record in self._source.__getitems__(indices)]

    def _with_image(self, record: dict[str, Any]) -> dict[str, Any]:
        try:
            path = untrusted.inside(self._root, record["image"].decode())
            image = pictures.Reader()(path)
        except ValueError as e:
            raise BuildError(f"{e} {self._advice}") from e
        if image.shape[1::-1] != tuple(record["image_size"]):
            size, was = "{} x {}".format(*image.shape[1::-1]), "{} x {}".format(*record["image_size"])
            raise BuildError(f"{path} has {size} pixels, but had {was} when the set was built. {self._advice}")
        x, y, width, height = record["window"]
        return record | {"image": image[y : y + height, x : x + width]}
