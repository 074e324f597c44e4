"""Shows a prediction live in the browser, where joints can be dragged to where they must be.

multibodies view OUT/photo_0.npz
"""

import argparse
import importlib.util
import pathlib
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from multibodies_jax import programs

if TYPE_CHECKING:
    import numpy as np

    from multibodies_jax.prediction import session

INSTALL = 'pip install "viser>=1.1"'


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 1 without viser, 2 for what cannot be used."""
    parser = argparse.ArgumentParser(
        prog="multibodies view",
        description="Shows a prediction in the browser: the photograph, the n bodies, all hypotheses; and refines it to "
        "joints that you drag to where they must be.",
    )
    parser.add_argument("file", help="an .npz that `multibodies predict` wrote")
    parser.add_argument("--photo", help="the photograph, or its folder (default: beside the prediction)")
    parser.add_argument("--workdir", help="the model that made the prediction (default: the embedded weights)")
    parser.add_argument(
        "--weights", help="of the hypotheses: prior, uniform, scores or scores_and_prior (default: as in the file)"
    )
    parser.add_argument("--out", help="the .npz that the button Save writes (default: the same file)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine only)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at; 0 takes a free one (default: 8080)")
    parser.add_argument("--body.dir", dest="body_dir", default="", help="folder of the licensed body of the prediction")
    values = parser.parse_args(programs.start(argv))
    if importlib.util.find_spec("viser") is None:
        return _tell(f"The viewer needs viser, which is not installed: {INSTALL}", 1)
    from multibodies_jax.prediction import viewer  # Late: --help answers at once.
    from multibodies_jax.training import setup

    setup.enable_compilation_cache()
    try:
        photograph, state = _open(values.file, values.photo, values.workdir, values.body_dir, values.weights)
        page = viewer.Page(state, photograph, values.out or values.file, values.host, values.port)
    except (ValueError, OSError) as error:
        return _tell(str(error), 2)
    for line in filter(None, (state.note, state.blocked)):
        print(line)
    print(f"Open {page.url} in a browser; Ctrl+C ends it.", flush=True)
    ended = threading.Event()

    def prepare() -> None:
        for n in range(1, viewer.MOST_BODIES + 1):
            if not ended.is_set():
                state.prepare((n,))

    compiling = threading.Thread(target=prepare)
    compiling.start()
    try:
        page.wait()
    except KeyboardInterrupt:
        pass
    finally:
        ended.set()
        page.stop()
        compiling.join()
    return 0


def _open(
    file: str, photo: str | None, workdir: str | None, body_dir: str, weights: str | None
) -> "tuple[np.ndarray, session.Session]":
    """The photograph and a session; without usable embedded weights, a session that places no joints."""
    from multibodies_jax.body import body_files
    from multibodies_jax.data import images
    from multibodies_jax.export import weighting
    from multibodies_jax.prediction import export_files, prediction, prediction_file, predictor, pretrained, session
    from multibodies_jax.training import packed

    model, reason = None, ""
    if workdir:
        model = predictor.load(workdir)
    else:
        try:
            model = pretrained.load_pretrained()
        except packed.PackedError as error:
            reason = f"{error} Or give a model of your own with --workdir=DIR."
    body = model.bodies.files if workdir and model and not body_dir else body_files.load(body_dir)
    opened = prediction.load(file, body=body)
    if "index" not in opened.record:
        raise prediction_file.PredictionError(f"{file} has no representatives; `multibodies requantize` chooses some.")
    if weights is not None:
        note = weighting.kept_temperature(opened.record, weights)
        opened = opened.requantize(opened.n, weights)
        if note:
            print(note, file=sys.stderr)
    path = export_files.find_photo(str(opened.record["image"]), pathlib.Path(file), photo)
    picture = images.load_image(path)
    if list(picture.shape[1::-1]) != opened.record["image_size"].tolist():
        raise ValueError(
            f"{path} has {picture.shape[1]} x {picture.shape[0]} pixels, the prediction is of a photograph of "
            f"{' x '.join(map(str, opened.record['image_size'].tolist()))}: give the right one with --photo=FILE."
        )
    return picture, session.Session(opened, model, reason)


def _tell(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
