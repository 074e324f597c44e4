"""What `list` says: what every set needs, where to register, what of it is there, its splits."""

import pathlib

import tfds_builders
from tfds_builders.archives import ArchiveBuilder
from tfds_builders.building import BuildError


def describe(name: str, data_dir: str, manual_dir: str | None = None) -> list[str]:
    """Lines for people about a set and its configs.

    Args:
      name: of the set, without a config.
      data_dir: where it would be built.
      manual_dir: an archive, or a folder of archives named after the sets (`manual_dir/h36m`).
    """
    cls = tfds_builders.BUILDERS[name]
    is_archive = issubclass(cls, ArchiveBuilder)
    needs = str(cls.MANUAL_DOWNLOAD_INSTRUCTIONS) if is_archive else "nothing, it is generated"
    lines = [f"{name}: {(cls.__doc__ or '').splitlines()[0]}", *_indented(f"needs: {needs.strip()}")]
    for full_name in tfds_builders.known_names(name):
        builder = tfds_builders.make_builder(full_name, data_dir)
        splits = ", ".join(f"{split} {_count(expected)}" for split, expected in builder.expected().items())
        lines += [f"  {full_name}: {builder.builder_config.description}", f"    splits: {splits}"]
        if is_archive and manual_dir is not None:
            inner = pathlib.Path(manual_dir) / name
            builder.manual_dir = inner if inner.is_dir() else pathlib.Path(manual_dir)
            lines.append(f"    found: {_found(builder)}")
        built = f"built in {builder.data_path}" if builder.data_path.exists() else f"not built in {data_dir}"
        lines.append(f"    {built}")
    return lines


def _found(builder: ArchiveBuilder) -> str:
    """How many parts of each split can be read from the archive, or what is wrong with it."""
    try:
        parts = {split: len(builder.tasks(split)) for split in builder.expected()}
    except (BuildError, OSError, ValueError) as e:
        return f"not usable: {str(e).partition(builder.needs())[0].strip()}"  # What it needs is said above.
    return f"{', '.join(f'{split} {count} tasks' for split, count in parts.items())} in {builder.manual_dir}"


def _count(expected: int | None) -> str:
    return "(not known)" if expected is None else f"{expected:,}"


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
