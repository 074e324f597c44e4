"""TFDS builders of this project's datasets. Importing registers them: `tfds.data_source("synthetic_bodies")` works.

multibodies data NAME[/CONFIG] --data_dir=DIR
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.a3dpw.a3dpw_dataset_builder import Builder as A3DPW
from tfds_builders.ah36m.ah36m_dataset_builder import Builder as AH36M
from tfds_builders.amass.amass_dataset_builder import Builder as Amass
from tfds_builders.building import BaseBuilder, BuildError, check, open_split
from tfds_builders.coco2014.coco2014_dataset_builder import Builder as Coco2014
from tfds_builders.h36m.h36m_dataset_builder import Builder as Human36M
from tfds_builders.lsp.lsp_dataset_builder import Builder as Lsp
from tfds_builders.lspet.lspet_dataset_builder import Builder as Lspet
from tfds_builders.mpi_inf_3dhp.mpi_inf_3dhp_dataset_builder import Builder as MpiInf3dhp
from tfds_builders.mpii.mpii_dataset_builder import Builder as Mpii
from tfds_builders.pose2sim_demo.pose2sim_demo_dataset_builder import Builder as Pose2SimDemo
from tfds_builders.synthetic_bodies.synthetic_bodies_dataset_builder import Builder as SyntheticBodies
from tfds_builders.synthetic_poses.synthetic_poses_dataset_builder import Builder as SyntheticPoses
from tfds_builders.threedpw.threedpw_dataset_builder import Builder as ThreeDPW

__all__ = ["BUILDERS", "BuildError", "build", "check", "make_builder", "source"]

BUILDERS = {
    cls.name: cls
    for cls in (
        *(SyntheticBodies, SyntheticPoses, Human36M, AH36M, ThreeDPW, A3DPW),
        *(MpiInf3dhp, Lsp, Lspet, Mpii, Coco2014, Amass, Pose2SimDemo),
    )
}


def build(
    name: str,
    data_dir: str | os.PathLike,
    *,
    num_processes: int | None = None,
    manual_dir: str | os.PathLike | None = None,
    beam_runner: str = "",
    beam_options: str = "",
    **options: Any,
) -> BaseBuilder:
    """Builds a set if it is missing, and checks that it is whole if it is there.

    Args:
      name: of the set, "NAME" or "NAME/CONFIG"; the config is the base one ("clean"), options rename it. A set made from
        an archive that is built can also be named as its folder is ("h36m/official-jpeg90"), without options.
      data_dir: the folder of all sets.
      num_processes: worker processes, by default one per CPU. The set is the same with any number.
      manual_dir: where the files are that a person must download; only for sets that say so.
      beam_runner: build a set made from an archive with Apache Beam, for instance on "FlinkRunner"; the set is the same.
      beam_options: of the runner, "name=value,name=value".
      **options: of this or any other builder; those of other builders are left aside, so that one dictionary of options
        serves several sets.

    Returns:
      The TFDS builder; `as_data_source(split=split)` reads from it.

    Raises:
      ValueError: an unknown name, config or option, or a value that makes no sense.
      BuildError: it could not be built, is being built by another process, or is damaged.
    """
    builder = make_builder(name, data_dir, **options)
    builder.num_processes = num_processes
    builder.beam_runner, builder.beam_options = beam_runner, beam_options
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return builder


def source(name: str, split: str, data_dir: str | os.PathLike, **options: Any) -> Sequence[dict[str, Any]]:
    """Returns the random-access examples of one split; builds the set first if it is missing.

    Args:
      name: as for `build`, as are `data_dir` and `options`.
      split: "train", "validation" or "test", or a TFDS slice of one ("train[:100]").

    Returns:
      A sequence of dictionaries (`README.md`), in the order of the example ids.

    Raises:
      ValueError: as `build`, or an unknown split.
      BuildError: as `build`.
    """
    builder = build(name, data_dir, **options)
    if split.split("[")[0] not in builder.info.splits:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(builder.info.splits)}.")
    return open_split(builder, split)


def make_builder(name: str, data_dir: str | os.PathLike, **options: Any) -> Any:
    """The builder of a set with some options, as `build`, but builds nothing."""
    name, _, base = name.partition("/")
    if name not in BUILDERS:
        raise ValueError(f"There is no dataset {name!r}. Known: {', '.join(known_names())}.")
    cls = BUILDERS[name]
    bases = [config.name for config in cls.BUILDER_CONFIGS]
    base = base or bases[0]
    if base not in bases:
        return _stored_builder(name, base, os.fspath(data_dir), options)
    every_option = set().union(*(option_names(other) for other in BUILDERS))
    if unknown := sorted(set(options) - every_option):
        raise ValueError(f"Unknown option(s) {', '.join(unknown)}. {name} knows {', '.join(option_names(name))}.")
    chosen = cls.OPTIONS(**{key: value for key, value in options.items() if key in option_names(name)})
    return cls(data_dir=os.fspath(data_dir), config=cls.make_config(base, chosen))


def _stored_builder(name: str, config_name: str, data_dir: str, options: dict[str, Any]) -> Any:
    """The builder of a set that is built, named as its folder is."""
    config = BUILDERS[name].stored_config(data_dir, config_name)
    if config is None:
        raise ValueError(
            f"{name} has no config {config_name!r}. Known: {', '.join(known_names(name))}, and those built in {data_dir}."
        )
    if given := sorted(set(options) & set(option_names(name))):
        raise ValueError(f"{name}/{config_name} is built; its options are in its name. Leave {', '.join(given)} out.")
    return BUILDERS[name](data_dir=data_dir, config=config)


def parse_options(text: str) -> dict[str, Any]:
    """Options of any builders written as "name=value,name=value", each in the type of its default.

    Raises:
      ValueError: something that is no option, or a value of another type.
    """
    types = {field.name: type(field.default) for cls in BUILDERS.values() for field in dataclasses.fields(cls.OPTIONS)}
    options = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in types:
            raise ValueError(f"Builder options are name=value,name=value of {', '.join(sorted(types))}; got {part!r}.")
        try:
            options[name] = types[name](value)
        except ValueError as error:
            raise ValueError(f"The option {name} is of type {types[name].__name__}, got {value!r}.") from error
    return options


def option_names(name: str) -> list[str]:
    """The options of a set."""
    return [field.name for field in dataclasses.fields(BUILDERS[name].OPTIONS)]


def known_names(name: str = "") -> list[str]:
    """All sets that can be built, as NAME/CONFIG; or those of one name."""
    return [f"{n}/{c.name}" for n, cls in BUILDERS.items() for c in cls.BUILDER_CONFIGS if name in ("", n)]
