"""Chooses another number of bodies of a saved prediction, without the network.

multibodies requantize FILE.npz --n=3 --out=OTHER.npz --weights=prior
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from multibodies_jax import programs


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 for a file or an n that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="multibodies requantize", description="Chooses another number of bodies from all M hypotheses of a file."
    )
    parser.add_argument("file", help="an .npz that `multibodies predict` wrote")
    parser.add_argument("--n", type=int, required=True, help="number of bodies, 1 to M")
    parser.add_argument("--out", required=True, help="the .npz to write; may be the same file")
    parser.add_argument(
        "--weights", help="of the hypotheses: prior, uniform, scores or scores_and_prior (default: as in the file)"
    )
    values = parser.parse_args(programs.start(argv))
    from multibodies_jax.export import weighting  # Late: --help answers at once.
    from multibodies_jax.prediction import predict, prediction_file

    try:
        note = weighting.kept_temperature(prediction_file.load(values.file), values.weights)
        record = prediction_file.requantize(values.file, values.n, values.out, values.weights)
    except (ValueError, OSError) as error:
        print(f"error: {programs.words(error)}", file=sys.stderr)
        return 2
    if note:
        print(note, file=sys.stderr)
    print(f"{predict.HEADER}\n{predict.row(pathlib.Path(values.out).stem, record)}")
    print(f"Weights of the hypotheses: {weighting.in_words(record)}. Written to {values.out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
