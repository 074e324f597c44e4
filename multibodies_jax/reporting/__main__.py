r"""Tables of many work directories: Markdown on the screen; Markdown, CSV, JSON and figures in a folder.

multibodies report table1 --workdirs=runs/hmr_0,runs/ours_0 --out=report/
multibodies report all --workdirs='runs/tables/*/*' --out=report/
multibodies report pages            # the generated pages of docs/, in a checkout
"""

import argparse
import pathlib
import sys

from multibodies_jax import programs, reporting


@programs.guarded
def main(argv: list[str] | None = None) -> int:
    """Makes one report; returns the exit status: 0, 1 (cannot write), 2 (bad input, nothing was written)."""
    argv = programs.start(argv)
    if argv[:1] == ["pages"]:
        return _pages(argv[1:])
    arguments = _parser().parse_args(argv)
    from multibodies_jax import io  # Late, as what follows: --help answers at once.
    from multibodies_jax.reporting import document, files, page_data, runs

    try:
        paths, left_out = runs.find(arguments.workdirs)
        cast = runs.cast(paths)
        doc = document.build(cast, arguments.what, left_out)
        names, text = files.write(arguments.out, cast, doc)
        if arguments.data is not None:
            io.write_text(arguments.data, page_data.to_csv(doc))
            training = arguments.data.with_name(f"{arguments.data.stem}_training.csv")
            io.write_text(training, page_data.training_csv(doc))
    except runs.RefusedError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except (FileExistsError, NotADirectoryError):
        data = f", and --data={arguments.data} a file in one" if arguments.data else ""
        sys.stderr.write(f"error: --out={arguments.out} has to be a folder, made if absent{data}; there is a file.\n")
        return 2
    except OSError as error:
        places = " or ".join(str(path) for path in (arguments.out, arguments.data) if path)
        sys.stderr.write(f"error: {places} cannot be written: {programs.words(error)}\n")
        return 1
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        words = f"{type(error).__name__}: {error}"
        sys.stderr.write(
            f"error: one of the work directories holds what no evaluation writes ({words}); nothing was written. Evaluate "
            "them again one by one, or leave out the one that was changed.\n"
        )
        return 2
    sys.stdout.write(f"{text}\nWritten to {arguments.out}: {', '.join(names)}\n")
    return 0


def _pages(argv: list[str]) -> int:
    """Writes the generated pages of the documentation, or compares them; 1 where `--check` finds a difference."""
    parser = argparse.ArgumentParser(
        prog="multibodies report pages", description="Generated pages of the documentation, and their figures."
    )
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path("."), metavar="DIR", help="the checkout (.)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where a page is out of date")
    arguments = parser.parse_args(argv)
    from multibodies_jax.reporting import page_figures, pages

    if not (arguments.root / pages.RESULTS).is_dir():
        sys.stderr.write(f"error: {arguments.root} has no {pages.RESULTS}; --root is the folder of a checkout.\n")
        return 2
    try:
        differing = pages.write(arguments.root, arguments.check)
        differing += page_figures.write(arguments.root, arguments.check)
    except pages.PageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: the pages cannot be written: {programs.words(error)}\n")
        return 1
    done = "Out of date" if arguments.check else "Written"
    sys.stdout.write(f"{done}: {', '.join(map(str, differing)) or 'nothing'}\n")
    return int(arguments.check and bool(differing))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multibodies report",
        description="Tables of evaluated work directories, with intervals, paired tests and figures.",
        epilog="Directories that differ in their seed only are one method. Refused, with the reason: directories without "
        "checkpoint or results, and those that differ in protocol, split, images, body, or in the images seen in training.",
    )
    parser.add_argument(
        "what",
        choices=reporting.WHATS,
        help="table1: methods and controls; table2: ablations; all: both, calibration, diagnostics and all figures",
    )
    parser.add_argument(
        "--workdirs",
        required=True,
        metavar="DIR,DIR,...",
        help="evaluated work directories; commas between them, * and ? as in a shell",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("report"), metavar="DIR", help="folder to write to (report)"
    )
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        metavar="FILE.csv",
        help="also write every number, one a line, for pages as those of docs/results, and FILE_training.csv beside it",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
