"""Rebuilds the embedded body: python -m multibodies_jax.embedded.mannequin --out=DIR"""

import argparse
import sys
from pathlib import Path

from multibodies_jax import programs
from multibodies_jax.embedded.mannequin import build, triangles


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@programs.guarded
def main() -> int:
    """Writes the body's files; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m multibodies_jax.embedded.mannequin",
        description="Builds the procedural mannequin (SMPL's format, no licensed data) in about 20 seconds.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder that receives the files")
    directory = parser.parse_args(programs.start()).out
    try:
        body, companions = build.build(_tell)
    except ImportError as e:
        sys.exit(str(e))
    for name, value in triangles.report(body["v_template"], body["f"]).items():
        sys.stdout.write(f"{name} {value:g}\n")
    for path in build.write(body, companions, directory):
        sys.stdout.write(f"{path} {path.stat().st_size / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
