"""Command line: `multibodies data NAME[/CONFIG] --data_dir=DIR`."""

import argparse
import dataclasses
import sys
import time
from typing import Any

import tfds_builders
from multibodies_jax import programs
from tfds_builders import archives, building, listing, verification

USAGE = """
  multibodies data list [--manual_dir=DIR] [--data_dir=DIR]
  multibodies data NAME[/CONFIG] --data_dir=DIR [--manual_dir=DIR] [options]
  multibodies data verify NAME[/CONFIG] --data_dir=DIR [options]"""

EPILOG = """Builds a dataset that is missing (one that is there is checked); lists what every set needs and what of it is
under --manual_dir; or verifies a built one: checksums, counts, ranges, projections, a picture of examples. Options that are not at their defaults rename the config, so
sets never overwrite each other; give `verify` the options the set was built with.
Exit codes: 0 done, 1 failed, 2 wrong arguments."""

OK, FAILED, USAGE_ERROR = 0, 1, 2
_BUILD_FLAGS = ("num_processes", "manual_dir", "beam_runner", "beam_options")  # How, not what.
_ARCHIVE_FLAGS = _BUILD_FLAGS[1:]


@programs.guarded
def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    try:
        args = vars(parser.parse_args(programs.start(argv)))
    except SystemExit as e:  # argparse has said what is wrong.
        return int(e.code or OK)
    words, data_dir = args.pop("words"), args.pop("data_dir")
    try:
        if words == ["list"]:
            return _list(data_dir, args)
        if len(words) == 1:
            return _build(words[0], data_dir, **args)
        if len(words) == 2 and words[0] == "verify":
            return _verify(words[1], data_dir, {k: v for k, v in args.items() if k not in _BUILD_FLAGS})
        raise ValueError(f"Cannot read {' '.join(words)!r} as a command. Usage:{USAGE}")
    except (ValueError, FileNotFoundError) as e:
        print(f"error: {programs.words(e)}", file=sys.stderr)
        return USAGE_ERROR
    except building.BuildError as e:
        print(f"error: {programs.words(e)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "Interrupted: no half-built set is left; one made from an archive goes on where it stopped.",
            file=sys.stderr,
        )
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multibodies data",
        usage=USAGE.strip(),
        description="Datasets: " + ", ".join(tfds_builders.known_names()) + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("words", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--data_dir", default="data", help="where datasets are built and read (default: data)")
    parser.add_argument("--manual_dir", help="the archive of a dataset that a person must download")
    parser.add_argument("--num_processes", type=int, help="worker processes (default: one per CPU)")
    parser.add_argument(
        "--beam_runner", help="build with Apache Beam, for instance on FlinkRunner (requirements-beam.txt)"
    )
    parser.add_argument("--beam_options", help="options of the runner: name=value,name=value")
    for name, fields in _option_fields().items():
        helps = dict.fromkeys(field.metadata["help"] for field in fields)
        default = f" (default: {fields[0].default})" if fields[0].default != "" else ""
        parser.add_argument(f"--{name}", type=type(fields[0].default), help="; ".join(helps) + default)
    return parser


def _option_fields() -> dict[str, list[dataclasses.Field]]:
    """The options of all sets by name; several sets may have one of the same name."""
    fields: dict[str, list[dataclasses.Field]] = {}
    for cls in tfds_builders.BUILDERS.values():
        for field in dataclasses.fields(cls.OPTIONS):
            if field.metadata["help"]:
                fields.setdefault(field.name, []).append(field)
    return fields


def _list(data_dir: str, options: dict[str, Any]) -> int:
    if unknown := sorted(set(options) - {"manual_dir"}):
        raise ValueError(f"`list` takes --manual_dir and --data_dir, not --{', --'.join(unknown)}.")
    for name in tfds_builders.BUILDERS:
        print("\n".join(listing.describe(name, data_dir, **options)))
    return OK


def _build(name: str, data_dir: str, **options: Any) -> int:
    _check_options(name, options)
    start = time.monotonic()
    builder = tfds_builders.build(name, data_dir, **options)
    seconds = time.monotonic() - start
    splits = ", ".join(f"{split} {info.num_examples}" for split, info in builder.info.splits.items())
    print(f"{builder.info.full_name}\n  in {builder.data_path}\n  splits: {splits}")
    print("".join(f"    {line}\n" for line in archives.report(builder)), end="")
    print(f"  {building.size_on_disk(builder.data_path) / 2**20:.1f} MiB on disk, {seconds:.1f} s")
    return OK


def _verify(name: str, data_dir: str, options: dict[str, Any]) -> int:
    _check_options(name, options)
    builder = tfds_builders.make_builder(name, data_dir, **options)
    if not builder.data_path.exists():
        raise building.BuildError(f"{builder.data_path} does not exist. Build it: multibodies data {name} ...")
    report = verification.verify(builder)
    print("\n".join(report.lines))
    return OK if report.passed else FAILED


def _check_options(name: str, options: dict[str, Any]) -> None:
    """On the command line an option that does nothing is a mistake."""
    name = name.partition("/")[0]
    if name not in tfds_builders.BUILDERS:
        return  # `make_builder` says what there is.
    given = [flag for flag in _ARCHIVE_FLAGS if flag in options]
    if given and not issubclass(tfds_builders.BUILDERS[name], archives.ArchiveBuilder):
        raise ValueError(f"{name} is generated: it needs no --{', --'.join(given)}.")
    if unknown := sorted(set(options) - {*tfds_builders.option_names(name), *_BUILD_FLAGS}):
        raise ValueError(f"{name} has no option --{', --'.join(unknown)}.")


if __name__ == "__main__":
    sys.exit(main())
