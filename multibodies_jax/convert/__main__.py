"""multibodies convert {spin,multibodies,graphcmr,resnet50} FILE OUT"""

import argparse
import pathlib
import sys

from multibodies_jax import convert, programs


@programs.guarded
def main(argv: list[str] | None = None) -> int:
    """Runs one conversion; returns the exit status: 0, 1 (cannot write), 2 (bad input, nothing was written)."""
    arguments = _parser().parse_args(programs.start(argv))
    from multibodies_jax.convert import backward, forward, graphcmr  # Late: --help answers at once.

    try:
        _check(arguments)
        if arguments.kind == "graphcmr" and arguments.reverse:
            lines = graphcmr.convert_back(arguments.file, arguments.out, arguments.sampling)
        elif arguments.kind == "graphcmr":
            lines = graphcmr.convert(arguments.file, arguments.out, arguments.sampling, arguments.body_dir)
        elif arguments.reverse:
            lines = backward.convert(arguments.kind, arguments.file, arguments.out, arguments.body_dir)
        else:
            lines = forward.convert(*(getattr(arguments, name) for name in ("kind", "file", "out", "flow", "body_dir")))
    except (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        sys.stderr.write(f"error: {programs.words(error)}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {programs.words(error)}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.flow and (arguments.reverse or arguments.kind != "multibodies"):
        raise ValueError("--flow is for converting a file of 3D-Multibodies: no other has a flow.")
    its = arguments.kind == "graphcmr"
    if its != (arguments.sampling is not None):
        raise ValueError(
            "--mesh_downsampling=FILE belongs to GraphCMR, and `convert graphcmr` needs it, there and back: weights mean "
            "nothing without the levels of the mesh that they were trained on."
        )
    if its and not arguments.reverse and arguments.body_dir is None:
        raise ValueError(
            "`convert graphcmr` needs --body.dir=FOLDER of the SMPL files, whose mesh the weights are for."
        )
    without_body = ("spin", "graphcmr", "resnet50") if arguments.reverse else ("resnet50",)
    if arguments.body_dir is not None and arguments.kind in without_body:
        raise ValueError(f"--body.dir has no use here: a file of {arguments.kind} holds nothing of a body.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multibodies convert",
        description="Converts PyTorch checkpoints to work directories, and back. PyTorch is not needed.",
    )
    parser.add_argument(
        "kind", choices=convert.KINDS, help="SPIN, 3D-Multibodies, GraphCMR, or torchvision's ResNet-50"
    )
    parser.add_argument(
        "file", type=pathlib.Path, metavar="FILE", help="the checkpoint (with --reverse: a work directory)"
    )
    parser.add_argument(
        "out", type=pathlib.Path, metavar="OUT", help="the new work directory (with --reverse: the new file)"
    )
    parser.add_argument("--flow", type=pathlib.Path, metavar="FILE", help="multibodies: take the flow of this file")
    parser.add_argument(
        "--mesh_downsampling",
        dest="sampling",
        type=pathlib.Path,
        metavar="FILE",
        help="graphcmr: the levels of the mesh, GraphCMR's mesh_downsampling.npz",
    )
    parser.add_argument("--reverse", action="store_true", help="write a file of torch.save from a work directory")
    parser.add_argument(
        "--body.dir",
        dest="body_dir",
        metavar="DIR",
        help="SMPL files of the weights: ties the work directory to them (with --reverse: fills the body's buffers)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
