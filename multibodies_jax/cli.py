"""What `run.py` calls: turns flags into one of the modes and errors into messages."""

import ast
import pathlib
import sys
import tempfile
import traceback
from typing import Any

import jax
from absl import flags, logging

import tfds_builders
from multibodies_jax import io
from multibodies_jax.training import config_checks, multihost, setup

MODES = ("train", "evaluate", "predict", "all")
_BAD_INPUT = (ValueError, FileNotFoundError, NotADirectoryError)
_FAILURES = (OSError, FloatingPointError, tfds_builders.BuildError)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses absl flags; a misspelt or ill-typed config field is a message with exit status 2, not a traceback."""
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError, TypeError, ValueError, OSError, flags.Error) as e:
        _exit(
            f"{_text(e)}\nEvery field of a config is listed and explained in configs/default.py; `python run.py --help` lists the flags."
        )
    path = pathlib.Path(_config_file())
    if not path.is_file():
        known = (
            ", ".join(f"configs/{p.name}" for p in sorted(pathlib.Path("configs").glob("[!_]*.py")))
            or "none here: run from the project's folder"
        )
        _exit(f"there is no config file {path}. Known: {known}.")
    if len(rest) > 1:
        _exit(f"unknown arguments {rest[1:]}: values are set with --config.FIELD=VALUE; see `python run.py --help`.")
    return rest


def main(argv: list[str]) -> None:
    """Runs the mode asked for; returns normally or exits with 1 (failure), 2 (bad input) or 130 (interrupted)."""
    del argv  # Nothing positional: parse_flags refused it.
    values = flags.FLAGS
    config_file = pathlib.Path(_config_file())
    workdir = pathlib.Path(values.workdir or pathlib.Path("runs") / config_file.stem)
    logging.set_verbosity(logging.WARNING)
    setup.enable_compilation_cache()
    try:
        if values.distributed:
            multihost.initialize()
        _run(values.mode, values.config, workdir, values)
    except (*_BAD_INPUT, *_FAILURES) as e:
        _exit(f"{e}{_keep_traceback(workdir)}", 2 if isinstance(e, _BAD_INPUT) else 1)
    except KeyboardInterrupt:
        _exit("interrupted; the same command continues from the last checkpoint.", 130)


def _run(mode: str, config, workdir: pathlib.Path, values) -> None:
    # Imported late: `--help` and misspelt flags answer at once.
    from multibodies_jax.evaluation import evaluate
    from multibodies_jax.prediction import predict
    from multibodies_jax.training import loop

    config_checks.validate(config)
    if jax.process_count() > 1 and mode != "train":
        raise ValueError(
            f"Several processes only train: use --mode=train, and --mode={mode} in one process afterwards."
        )
    if multihost.is_first():
        print(f"{mode}: {workdir} ({jax.device_count()} {jax.devices()[0].platform} device(s))", flush=True)
    if mode in ("train", "all"):
        loop.train(config, workdir)
    if mode in ("evaluate", "all"):
        evaluate.evaluate(config, workdir)
    if mode == "predict":
        if not values.images:
            raise ValueError(
                "--mode=predict needs --images=FILE_OR_FOLDER (and --people=coco.json for boxes and keypoints)."
            )
        failed = predict.predict(config, workdir, values.images, values.people, values.n, values.out)
        if failed:
            sys.exit(1)


def _config_file() -> str:
    flag: Any = flags.FLAGS["config"]  # A flag of ml_collections, which knows where its value came from.
    return (flag.config_filename or "").partition(":")[0]  # configs/NAME.py:ARGUMENT


def _text(error: BaseException) -> str:
    """An error's message; that of a KeyError, and of ml_collections, is the repr of a text.

    ml_collections puts the traceback of a config file around what the file says is wrong with its argument.
    """
    try:
        text = str(ast.literal_eval(str(error)))
    except (ValueError, SyntaxError):
        text = str(error)
    flag, _, trace = text.partition(": Error whilst parsing config file:")
    last = trace.rstrip().rpartition("\n")[2]
    return f"{flag}: {last.removeprefix('ValueError: ')}" if last.startswith("ValueError: ") else text


def _keep_traceback(workdir: pathlib.Path) -> str:
    """Writes the traceback of the error being handled where it does no harm, and says where."""
    try:
        path = (workdir if workdir.is_dir() else pathlib.Path(tempfile.gettempdir())) / "multibodies_jax_error.log"
        io.write_text(path, traceback.format_exc())
        return f"\n(Full traceback: {path})"
    except OSError:
        return ""


def _exit(message: str, code: int = 2) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
