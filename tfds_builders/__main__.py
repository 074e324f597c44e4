"""Command line: `python -m tfds_builders NAME[/CONFIG] --data_dir=DIR`."""

import argparse
import dataclasses
import sys
import time
from typing import Any

import tfds_builders
from tfds_builders import building, verification

USAGE = """
  python -m tfds_builders list
  python -m tfds_builders NAME[/CONFIG] --data_dir=DIR [--manual_dir=DIR] [options]
  python -m tfds_builders verify NAME[/CONFIG] --data_dir=DIR [options]"""

EPILOG = """Builds a dataset that is missing (one that is there is checked), or verifies a built one: counts, ranges,
projections, and a picture of some examples. Options that are not at their defaults rename the config, so
sets never overwrite each other; give `verify` the options the set was built with.
Exit codes: 0 done, 1 failed, 2 wrong arguments."""

OK, FAILED, USAGE_ERROR = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    try:
        args = vars(parser.parse_args(argv))
    except SystemExit as e:  # argparse has said what is wrong.
        return int(e.code or OK)
    words, data_dir = args.pop("words"), args.pop("data_dir")
    try:
        if words == ["list"]:
            return _list()
        if len(words) == 1:
            return _build(words[0], data_dir, **args)
        if len(words) == 2 and words[0] == "verify":
            args.pop("num_processes", None)
            return _verify(words[1], data_dir, args)
        raise ValueError(f"Cannot read {' '.join(words)!r} as a command. Usage:{USAGE}")
    except (ValueError, FileNotFoundError) as e:
        print(f"error: {e}", file=sys.stderr)
        return USAGE_ERROR
    except building.BuildError as e:
        print(f"error: {e}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("Interrupted: nothing half-built is left.", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders",
        usage=USAGE.strip(),
        description="Datasets: " + ", ".join(tfds_builders.known_names()) + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("words", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--data_dir", default="data", help="where datasets are built and read (default: data)")
    parser.add_argument("--manual_dir", help="files that a person must download, for datasets that need them")
    parser.add_argument("--num_processes", type=int, help="worker processes (default: one per CPU)")
    added = set()
    for cls in tfds_builders.BUILDERS.values():
        for field in dataclasses.fields(cls.OPTIONS):
            if field.metadata["help"] and field.name not in added:
                added.add(field.name)
                default = f" (default: {field.default})" if field.default != "" else ""
                parser.add_argument(f"--{field.name}", type=type(field.default), help=field.metadata["help"] + default)
    return parser


def _list() -> int:
    for name in tfds_builders.known_names():
        print(name)
    return OK


def _build(name: str, data_dir: str, **options: Any) -> int:
    _check_options(name, options)
    start = time.monotonic()
    builder = tfds_builders.build(name, data_dir, **options)
    seconds = time.monotonic() - start
    splits = ", ".join(f"{split} {info.num_examples}" for split, info in builder.info.splits.items())
    print(f"{builder.info.full_name}\n  in {builder.data_path}\n  splits: {splits}")
    print(f"  {building.size_on_disk(builder.data_path) / 2**20:.1f} MiB on disk, {seconds:.1f} s")
    return OK


def _verify(name: str, data_dir: str, options: dict[str, Any]) -> int:
    _check_options(name, options)
    builder = tfds_builders.make_builder(name, data_dir, **options)
    if not builder.data_path.exists():
        raise building.BuildError(f"{builder.data_path} does not exist. Build it: python -m tfds_builders {name} ...")
    report = verification.verify(builder)
    print("\n".join(report.lines))
    return OK if report.passed else FAILED


def _check_options(name: str, options: dict[str, Any]) -> None:
    """On the command line an option that does nothing is a mistake."""
    name = name.partition("/")[0]
    if name not in tfds_builders.BUILDERS:
        return  # `make_builder` says what there is.
    if options.get("manual_dir") and not tfds_builders.BUILDERS[name].MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise ValueError(f"{name} is generated: it needs no --manual_dir.")
    known = {*tfds_builders.option_names(name), "num_processes", "manual_dir"}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"{name} has no option --{', --'.join(unknown)}.")


if __name__ == "__main__":
    sys.exit(main())
