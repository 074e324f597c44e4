"""Writes predictions as files that other programs open: GLB, OBJ, PLY, BVH, CSV and HTML pages.

multibodies export OUT/photo_0.npz --format=glb

docs/files.md says what is in each format. Predictions of one photograph make one scene.
"""

import argparse
import sys
from collections.abc import Sequence

from multibodies_jax import programs


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 1 where a file cannot be written, 2 for what cannot be used."""
    parser = argparse.ArgumentParser(
        prog="multibodies export", description="Writes predictions as files that other programs open (docs/files.md)."
    )
    parser.add_argument("files", nargs="+", help=".npz files that `multibodies predict` wrote, or folders of them")
    parser.add_argument("--format", required=True, help="glb, obj, ply, bvh, html or csv")
    parser.add_argument("--out", help="file, or folder (default: beside the predictions)")
    parser.add_argument("--n", type=int, help="another number of bodies, 1 to M (default: the one in the file)")
    parser.add_argument("--photo", help="html: the photograph, or its folder (default: beside the predictions)")
    parser.add_argument(
        "--focal", type=float, help="focal length of the photograph, pixels (default: that in the file)"
    )
    parser.add_argument("--colors", default="body", help="glb, ply: colour by body or by spread (default: body)")
    parser.add_argument(
        "--body.dir", dest="body_dir", default="", help="folder of the licensed body of the predictions"
    )
    values = parser.parse_args(programs.start(argv))
    from multibodies_jax.body import body_files  # Late: --help answers at once.
    from multibodies_jax.prediction import export_files
    from multibodies_jax.training import setup

    setup.enable_compilation_cache()
    try:
        body = body_files.load(values.body_dir)
    except (ValueError, OSError) as error:
        return _tell(str(error), 2)
    chosen = values.out, values.n, values.photo, values.focal, values.colors
    try:
        for path in export_files.export(values.files, values.format, body, *chosen):
            print(f"Written: {path}")
    except ValueError as error:
        return _tell(str(error), 2)
    except OSError as error:
        where = values.out or "the folder of the predictions"
        return _tell(f"{where} cannot be written ({error}); choose another place with --out=PATH.", 1)
    return 0


def _tell(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
