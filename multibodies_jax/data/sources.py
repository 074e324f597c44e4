"""The one door to datasets: a TFDS set, built if it is missing, or a list in SPIN's format, by its name in the config."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from configs import default
from multibodies_jax.data import spin_lists


def dataset_options(config: Any) -> dict[str, Any]:
    """The builder options of all sets of a config."""
    import tfds_builders

    options = tfds_builders.parse_options(config.data.options)
    fields = {"poses": "data.people", "body_dir": "body.dir"}
    if twice := [name for name in fields if name in options]:
        raise ValueError(f"config.data.options has {twice[0]}: set config.{fields[twice[0]]} instead.")
    return options | {"poses": _people(config)[1], "body_dir": config.body.dir or ""}


def _people(config: Any) -> tuple[str, str]:
    """The dataset of the people and the file of poses that it is drawn from, or ""."""
    import tfds_builders

    people = config.data.people
    if people.partition("/")[0] in tfds_builders.BUILDERS:
        return people, ""
    if pathlib.Path(people).exists():
        return "synthetic_poses", people
    raise ValueError(
        f"config.data.people={people!r} is neither a file or folder of poses nor a dataset; the datasets of people are "
        f"{', '.join(tfds_builders.known_names('synthetic_poses') + tfds_builders.known_names('amass'))}."
    )


def open_source(config: Any, name: str, split: str) -> Any:
    """The random-access examples of a split: of a SPIN-format list (`spin/...`), or of a set, built if it is missing.

    Several names with commas between them are one source, of which each set is a share in proportion to its size.
    """
    if "," in name:
        from multibodies_jax.data import pipeline  # Late: it imports Grain, which prediction has no use for.

        return pipeline.Concatenated([open_source(config, one.strip(), split) for one in name.split(",")])
    if name.startswith(spin_lists.PREFIX):
        return spin_lists.open_set(name, split, _lists(config), default.optional(config, "data.image_dir"))
    import tfds_builders

    return tfds_builders.source(name, split, config.data.dir, **dataset_options(config))


def build_data(config: Any) -> None:
    """Builds what training reads, if it is missing."""
    for name in (_people(config)[0], *(config.data.sets or ())):
        open_source(config, name, "train")


def open_first(config: Any, splits: Mapping[str, Sequence[str]]) -> None:
    """Opens sets before anything that costs time reads them: every name is looked up first, then what is missing is built.

    Args:
      config: of the experiment.
      splits: name of a set, as in the config -> splits of it.

    Raises:
      ValueError: a set, a list, a split or the people do not exist, or `data.npz_dir` or `data.image_dir` are wrong.
      BuildError: a set cannot be built.
    """
    _people(config)
    wanted = [(one.strip(), split) for name, some in splits.items() for split in some for one in name.split(",")]
    check_boxes(config, [name for name, _ in wanted])
    built = [(name, split) for name, split in wanted if not name.startswith(spin_lists.PREFIX)]
    for name, split in wanted:
        if (name, split) in built:
            source_name(config, name)
        else:
            open_source(config, name, split)
    for name, split in built:
        open_source(config, name, split)


def check_boxes(config: Any, names: Sequence[str]) -> None:
    """Refuses sets together whose boxes were made in different ways (`spin_lists.check_same_boxes`)."""
    every = [one.strip() for name in names for one in name.split(",")]
    spin_lists.check_same_boxes(every, _lists(config))


def _lists(config: Any) -> str | None:
    """The folder of SPIN-format lists."""
    return default.optional(config, "data.npz_dir")


def source_name(config: Any, name: str) -> str:
    """The full name of a set, with its version and every option not at its default, or its files' fingerprints."""
    if name.startswith(spin_lists.PREFIX):
        return spin_lists.describe(name, _lists(config))
    import tfds_builders

    return tfds_builders.make_builder(name, config.data.dir, **dataset_options(config)).info.full_name


def load_people(config: Any, split: str) -> tuple[Float[np.ndarray, "N 24 3"], Float[np.ndarray, "N 10"]]:
    """Poses (axis-angle, upright root) and shapes of all people of a split, in memory; read-only.

    Every stage of a training asks for the same people, and reading them takes 0.15 ms each: they are kept.
    """
    source = open_source(config, _people(config)[0], split)
    key = (str(config.data.dir), source_name(config, _people(config)[0]), split)
    if key not in _kept_people:
        rows = source.__getitems__(range(len(source)))  # All at once: many times faster than one by one.
        poses, betas = np.stack([r["pose"] for r in rows]), np.stack([r["betas"] for r in rows])
        poses.setflags(write=False)
        betas.setflags(write=False)
        while len(_kept_people) >= _MOST_KEPT:
            del _kept_people[next(iter(_kept_people))]
        _kept_people[key] = poses, betas
    return _kept_people[key]


_kept_people: dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]] = {}
_MOST_KEPT = 3  # Splits; 60,000 people are 20 MB.
