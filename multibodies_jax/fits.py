r"""multibodies fits {export WORKDIR FOLDER | import WORKDIR FILE...}

    multibodies fits import runs/spin static_fits/*_fits.npy     # before it trains: the fits that it starts from
    multibodies fits export runs/spin FOLDER                     # the best fits so far, as SPIN stores them

Files are SPIN's: SET_fits.npy, (N, 82) in float64, 72 of pose (axis-angle, root first) and 10 of shape, row by row those of the
training set. `python -m multibodies_jax.fits` is the same.
"""

import argparse
import pathlib
import shutil
import sys

import numpy as np

from multibodies_jax import io, programs


@programs.guarded
def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 1 (cannot write), 2 (bad input, nothing was written)."""
    arguments = _parser().parse_args(programs.start(argv))
    try:
        if arguments.command == "export":
            lines = export_fits(arguments.workdir, arguments.folder)
        else:
            lines = import_fits(arguments.workdir, arguments.files)
    except (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        sys.stderr.write(f"error: {programs.words(error)}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {programs.words(error)}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def export_fits(workdir: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Writes the best fits of the last checkpoint of a training with fits in the loop, one file for each set.

    Returns:
      What was written, as lines.

    Raises:
      ValueError: there is no such checkpoint, it is damaged, or the folder has an .npz of one of the sets.
      OSError: the folder cannot be written.
    """
    from multibodies_jax.baselines.spin import targets  # Late: --help answers at once.
    from multibodies_jax.data import fit_files
    from multibodies_jax.training import checkpoints

    items, metadata, step = checkpoints.restore(workdir / "checkpoints")
    memory, about = items["state"].get("memory"), metadata.get("targets")
    if not memory or not about:
        raise ValueError(
            f"{workdir} was not trained with fits in the loop: its checkpoint has none. configs/spin.py trains with them."
        )
    store = targets.Store(**memory)
    threshold = metadata["config"]["spin"]["threshold"]
    lines, found = [], targets.split(store, dict(about["sets"]), threshold)
    for name in found:
        if (other := folder / f"{fit_files.stem(name)}.npz").exists():
            raise ValueError(f"{other} has fits of {name}, which would be read instead of an .npy: move it away first.")
    for name, fits in found.items():
        path = fit_files.write(folder, name, fits, plain=True)
        lines.append(
            f"{path}: {len(fits.valid)} fits of {name} at step {step}, {np.mean(fits.valid):.0%} of them good labels"
        )
    return lines


def import_fits(workdir: pathlib.Path, files: list[pathlib.Path]) -> list[str]:
    """Puts files of fits where the training of a work directory starts from them; all are checked before one is copied.

    Whether they have as many rows as their sets is checked when the training starts.

    Returns:
      What was copied, as lines.

    Raises:
      ValueError: a file is no file of fits, has numbers that are not finite, or a name that no file of fits has; two are of
        one set; or the work directory has checkpoints already.
      FileNotFoundError: a file is not there.
    """
    from multibodies_jax.baselines.spin import targets  # Late, as above.
    from multibodies_jax.data import fit_files
    from multibodies_jax.training import checkpoints

    for stage in ("stage1", "checkpoints"):
        if (step := checkpoints.latest_step(workdir / stage)) is not None:
            raise ValueError(
                f"{workdir} has trained for {step} steps from other fits: import into a new work directory, and train there "
                f"(--config.init={workdir} starts from these weights)."
            )
    read = {path: fit_files.read(path) for path in files}
    if wrong := [path for path in files if not path.stem.endswith(fit_files.ENDING)]:
        raise ValueError(f"{wrong[0]} is not called SET{fit_files.ENDING}.npy or .npz, as lsp-orig_fits.npy.")
    names = [path.stem for path in read]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"{' and '.join(str(path) for path in read if path.stem == twice)} are fits of one set: give one of them."
        )
    lines = []
    for path, fits in read.items():
        target = workdir / targets.FIRST_FOLDER / path.name
        with io.replacing(target) as temporary:
            shutil.copyfile(path, temporary)
        target.with_suffix(".npy" if target.suffix == ".npz" else ".npz").unlink(missing_ok=True)  # An earlier import.
        lines.append(f"{target}: {len(fits.valid)} fits")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multibodies fits",
        description="Fits of SMPL to training examples, as SPIN stores them: out of and into a work directory.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("export", help="write the best fits of a training with fits in the loop")
    into = commands.add_parser("import", help="let a training start from fits")
    for command in (out, into):
        command.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR", help="of configs/spin.py")
    out.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="receives SET_fits.npy of every set")
    into.add_argument("files", type=pathlib.Path, metavar="FILE", nargs="+", help="SET_fits.npy or .npz")
    return parser


if __name__ == "__main__":
    sys.exit(main())
