"""What the builders of the training sets share: people from an official archive, or from one of SPIN's lists."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from tfds_builders import archives, building
from tfds_builders.archives import BuildError, Skip
from tfds_builders.options import option
from tfds_builders.sources import rows, spin, trees

LIST = "spin"  # The config of SPIN's list.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(archives.ArchiveOptions):
    """Options of every training set."""

    static_fits: str = option(
        "",
        "{}",
        "fits of SMPL to the rows of SPIN's lists (NAME/spin): the folder static_fits, or a .npy or .npz of one set",
        file=True,
        read=("*.npy", "*.npz"),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.static_fits and not pathlib.Path(self.static_fits).exists():
            raise ValueError(f"There is no file or folder of fits {self.static_fits!r}.")


class TrainingSet(archives.ArchiveBuilder, skip_registration=True):
    """People in images; a subclass says where the official archive has them (`people`) and which lists there are."""

    OPTIONS = Options
    COUNTS: ClassVar[dict[str, dict[str, int | None]]]  # By config and split.
    LISTS: ClassVar[dict[str, tuple[str, ...]]]  # SPIN's list of each split that has one, by all its names.
    FITS: ClassVar[str]  # The fits to the list of the train split, in the folder static_fits.

    def people(self, root: pathlib.Path, split: str) -> tuple[pathlib.Path, Sequence[rows.Row | Skip]] | None:
        """The folder of the images and the people of a split of the official archive; None where it is not there."""
        raise NotImplementedError

    def expected(self) -> dict[str, int | None]:
        """The splits of the config."""
        return self.COUNTS[self.base]

    def tasks(self, split: str) -> Sequence[Any]:
        """Blocks of people, in the order of the annotations.

        Raises:
          BuildError: something is missing in the archive.
        """
        root = self.archive()
        if self.base == LIST:
            return self._listed(root, split)
        if self.options.static_fits:
            raise BuildError(
                f"--static_fits has the rows of SPIN's list: build {self.name}/{LIST}, not {self.name}/{self.base}."
            )
        found = self.people(root, split)
        if found is None:
            return []
        folder, people = found
        needed = list(dict.fromkeys(person.image for person in people if isinstance(person, rows.Row)))
        if absent := trees.absent(folder, needed):
            raise self.missing(f"image {absent[0]} ({len(absent)} of {len(needed)} are not there)")
        return rows.blocks(people, root, folder, self.name, split, self.options)

    @staticmethod
    def make(task: Any) -> Iterable[dict[str, Any] | Skip]:
        """The examples of a block; runs in a worker process."""
        return spin.make(task) if isinstance(task, spin.Task) else rows.make(task)

    def _listed(self, root: pathlib.Path, split: str) -> Sequence[spin.Task]:
        names = self.LISTS[split]
        path = next((found for name in names if (found := trees.find(root, name))), None)
        if path is None and next(iter(self.LISTS)) != split:
            return []
        if path is None:
            raise self.missing(names[0])
        fits = pathlib.Path(self.options.static_fits) if self.options.static_fits and split == "train" else None
        if fits is not None and fits.is_dir():
            fits /= self.FITS
        return spin.plan(path, root, self.name, split, self.options, fits)


def configs(descriptions: dict[str, str], options: Any) -> list[building.Config]:
    """The configs of a set, the first one its default."""
    return [building.Config(name=n, base=n, options=options, description=text) for n, text in descriptions.items()]
