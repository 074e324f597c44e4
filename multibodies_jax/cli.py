"""The console script `multibodies`: one command for each thing to do; errors become messages and exit statuses.

    multibodies train --config=configs/demo.py --workdir=runs/demo [--config.FIELD=VALUE ...]

`python -m multibodies_jax` is the same, and `python run.py --mode=train ...` the same as `multibodies train ...`. Every
import that costs time happens after the arguments are read, so that `--help` and a misspelt flag answer at once.
"""

import functools
import importlib
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import multibodies_jax
from multibodies_jax import cli_flags, compile_time, programs

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# The other commands: a module whose `main(argv)` returns the exit status, and what they do.
_PROGRAMS = {
    "requantize": ("multibodies_jax.prediction.requantize", "Choose another number of bodies of a saved prediction."),
    "view": (
        "multibodies_jax.prediction.view_command",
        "Show a prediction live in the browser; drag joints to where they must be.",
    ),
    "fetch": ("multibodies_jax.fetch", "Fetch the people detector's files (by npm, or from a file)."),
    "doctor": ("multibodies_jax.doctor", "Say what is installed, what is missing, and what to type."),
    "export": (
        "multibodies_jax.prediction.export_command",
        "Write predictions as GLB, OBJ, PLY, BVH, CSV or HTML pages.",
    ),
    "report": ("multibodies_jax.reporting.__main__", "Print tables of many evaluated work directories."),
    "tables": (
        "multibodies_jax.reporting.paper_runs",
        "Train and evaluate every method, then print the paper's tables.",
    ),
    "convert": (
        "multibodies_jax.convert.__main__",
        "Convert published PyTorch checkpoints to work directories, and back.",
    ),
    "fits": ("multibodies_jax.fits", "Fits of SMPL to training images, as SPIN stores them, both ways."),
    "data": ("tfds_builders.__main__", "Build, list or verify datasets."),
}
# What JAX says on processors and GPUs where a process with which this one computes is there no longer.
_GONE = re.compile(r"Gloo \w+ failed|remote process exited|oordination service .*(UNAVAILABLE|unavailable|heartbeat)")
_HELP = ("--help", "-h", "-help", "--helpfull", "--helpshort")


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The program `multibodies`.

    Args:
      argv: the arguments, without the program's name; None takes those of the process.

    Returns:
      The exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted, 75 out of time (`tables`).
    """
    arguments = programs.start(argv)
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in cli_flags.MODES:
        return run(rest, mode=command)
    if command in _PROGRAMS:
        return importlib.import_module(_PROGRAMS[command][0]).main(rest)
    if command in _HELP:
        print(_usage())
        return OK
    if command == "--version":
        print(f"multibodies_jax {multibodies_jax.__version__}")
        return OK
    wrong = f"there is no command {command!r}" if command else "a command is missing"
    return _tell(
        f"{wrong}; choose one of {', '.join((*cli_flags.MODES, *_PROGRAMS))} (multibodies --help explains them)."
    )


@programs.guarded
def run(argv: Sequence[str], mode: str | None = None) -> int:
    """Trains, evaluates or predicts; the program run.py, and the commands of `multibodies` in `cli_flags.MODES`.

    Args:
      argv: flags.
      mode: what to do; None takes it from the flag --mode (default: all).

    Returns:
      The exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    program, argv = f"multibodies {mode}" if mode else "python run.py", programs.start(argv)
    if any(argument in _HELP for argument in argv):
        print(cli_flags.usage_of(program, mode))
        return OK
    try:
        values, paths = cli_flags.parse(program, argv, mode)
    except cli_flags.RefusedError as error:
        return _tell(str(error))
    chosen: str = mode or values.mode
    workdir = pathlib.Path(values.workdir or pathlib.Path("runs") / pathlib.Path(cli_flags.config_file(values)).stem)
    # A prediction with the embedded weights has no work directory: its traceback does not belong to runs/demo.
    report_folder = None if chosen == "predict" and not (values.workdir or _names_config(argv)) else workdir
    try:
        with compile_time.measured() as spent:
            predicts = chosen == "predict"
            status = _predict(values, argv, paths, workdir) if predicts else _run(chosen, values, workdir)
        if spent.programs and chosen != "plan":
            _tell_time(spent)
        return status
    except KeyboardInterrupt:
        _end_soon(values, INTERRUPTED)
        more = (
            "every file that was written is whole"
            if chosen == "predict"
            else "the same command continues from the last checkpoint"
        )
        return _tell(f"interrupted; {more}.", INTERRUPTED)
    except Exception as error:
        status = FAILED if (others := _others(values, error)) else _status(error)
        _end_soon(values, FAILED if status is None else status)
        if status is None:
            fits = _what_fits(chosen, values.config, workdir) if programs.is_full(error) else ""
            print(programs.unexpected(error, report_folder, fits), file=sys.stderr, flush=True)
            return FAILED
        return _tell(f"{others or programs.words(error)}{programs.keep_traceback(report_folder)}", status)


def _run(mode: str, values: Any, workdir: pathlib.Path) -> int:
    import jax
    from absl import flags, logging

    from multibodies_jax.evaluation import checks, evaluate
    from multibodies_jax.training import loop, multihost, provenance, setup

    flags.FLAGS.mark_as_parsed()  # absl's logging warns of its own flags otherwise.
    logging.set_verbosity(logging.WARNING)
    setup.enable_compilation_cache()
    if values.distributed:
        _join()
    config = _checked(values.config)
    checks.validate(config)
    if mode == "plan":
        from multibodies_jax.training import plan

        print(plan.plan(config, workdir, values.devices or jax.device_count(), values.compiled))
        return OK
    if multihost.is_first():
        print(f"{mode}: {workdir} ({jax.device_count()} {jax.devices()[0].platform} device(s))", flush=True)
    _tell_unused()
    if mode == "all":  # What evaluation lacks is said before hours of training, not after.
        if (workdir / "config.json").exists():
            provenance.check_workdir(config, workdir, create=True, write=False)
        multihost.on_first(lambda: evaluate.open_inputs(config), "inputs")
    if mode in ("train", "all"):
        loop.train(config, workdir)
    if mode in ("evaluate", "all"):
        evaluate.evaluate(config, workdir, values.onnx)
    return OK


def _tell_unused() -> None:
    """Says which accelerator is there, or has a plugin installed, and is not used; silent where JAX_PLATFORMS is set."""
    import jax

    from multibodies_jax import doctor
    from multibodies_jax.training import multihost

    if multihost.is_first() and not os.environ.get("JAX_PLATFORMS"):
        for found in doctor.unused(jax.default_backend(), doctor.nvidia_driver()):
            print(f"note: {found.what}: {found.text}; {found.remedy}.", file=sys.stderr, flush=True)


def _predict(values: Any, argv: Sequence[str], paths: Sequence[str], workdir: pathlib.Path) -> int:
    """Predicts with a work directory where the arguments name one or a config, else with the embedded weights."""
    from multibodies_jax.prediction import predict, predictor, pretrained
    from multibodies_jax.training import setup

    paths = [*paths, *([values.images] if values.images else [])]
    if not paths:
        raise ValueError("predict needs photographs, folders of them, or videos: multibodies predict photo.jpg")
    setup.enable_compilation_cache()
    if values.distributed:
        _join()
    _tell_unused()
    named = _names_config(argv)
    config = _checked(values.config) if named else None
    if named or values.workdir:
        model, out = predictor.load(workdir, config, values.onnx), workdir / "predictions"
    elif values.onnx:
        raise ValueError(
            "--onnx runs the ResNet-50 of a work directory, and the embedded model reads keypoints: leave --onnx out, or "
            "give --workdir=DIR."
        )
    else:
        model, out = pretrained.load_pretrained(), pathlib.Path("predictions")
    if values.weights is not None:
        model = model.weighted_by(values.weights)
    people, n, focal, refine = values.people, values.n, values.focal, values.refine
    return FAILED if predict.predict(model, paths, people, n, values.out or out, focal, refine) else OK


def _names_config(argv: Sequence[str]) -> bool:
    """Whether the arguments have --config or a field of it."""
    flags = (argument.lstrip("-") for argument in argv if argument.startswith("-"))
    return any(flag.partition("=")[0].partition(".")[0] == "config" for flag in flags)


def _join() -> None:
    """Joins the other processes of a run."""
    import jax

    from multibodies_jax.training import multihost

    multihost.initialize()
    programs.PROCESS = jax.process_index()


def _end_soon(values: Any, status: int) -> None:
    """Lets the other processes of a run not wait for this one, which an error ends."""
    if values.distributed:
        from multibodies_jax.training import multihost

        multihost.end_soon(status)


def _others(values: Any, error: Exception) -> str:
    """What to say where the error is that another process of the run is gone; else empty."""
    if not values.distributed or programs.is_full(error) or not _GONE.search(str(error)):
        return ""
    first = str(error.__cause__ or error).strip().partition("\n")[0][:200]
    return f"another process of this run has ended, and will have said why; this one cannot go on without it ({first})."


def _tell_time(spent: compile_time.Spent) -> None:
    from multibodies_jax.training import multihost

    if multihost.is_first():
        print(spent, flush=True)


def _what_fits(mode: str, config: Any, workdir: pathlib.Path) -> str:
    """What to ask for where the memory of the device was full, in a sentence; empty where that is unknown."""
    if mode == "predict":
        return "Each device predicts one person at a time, so that nothing smaller can be asked for; JAX_PLATFORMS=cpu takes no device."
    if mode == "evaluate" or (mode == "all" and _is_trained(config, workdir)):
        size = config.eval.batch
        fewer = f"try --config.eval.batch={size // 2}" if size > 1 else "which cannot be less"
        return f"config.eval.batch is {size} on each device: {fewer}."
    from multibodies_jax.training import plan

    try:
        return plan.what_fits(config, workdir)
    except Exception:  # The message about the full memory matters more than what goes wrong here.
        return ""


def _is_trained(config: Any, workdir: pathlib.Path) -> bool:
    """Whether all stages of a training are done, so that what failed is its evaluation."""
    from multibodies_jax.training import checkpoints, loop

    try:
        stages = loop.stages(config, workdir)
    except Exception:  # The message about the full memory matters more.
        return False
    return all((checkpoints.latest_step(workdir / stage.folder) or 0) >= stage.steps for stage in stages)


def _status(error: Exception) -> int | None:
    """The exit status of an error that is a message to the user; None for a fault of the program."""
    if isinstance(error, (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError)):
        return BAD_INPUT
    from tfds_builders import building

    return FAILED if isinstance(error, (OSError, FloatingPointError, building.BuildError)) else None


def _checked(config: Any) -> Any:
    """The config with None and `~` read, also where its file has them, and its fields checked (`config.eval` is not)."""
    from multibodies_jax.evaluation import checks
    from multibodies_jax.training import config_checks, config_rules

    config_checks.check_fields(config)
    _set_nones(config)
    for path in config_rules.paths(config_checks.RULES | checks.RULES):
        *parents, name = path.split(".")
        part = functools.reduce(lambda inner, parent: inner[parent], parents, config)
        if isinstance(part.get(name), str):
            part[name] = programs.expanded(part[name])
    config_checks.validate(config)
    return config


def _set_nones(config: Any) -> None:
    """Makes --config.FIELD=None the value None, which ml_collections reads as a text or a tuple with nothing in it."""
    from ml_collections import ConfigDict

    for name in config:
        if isinstance(config[name], ConfigDict):
            _set_nones(config[name])
        elif config[name] in ("None", (None,)):
            config[name] = None


def _usage() -> str:
    about = cli_flags.ABOUT_MODES | {name: text for name, (_, text) in _PROGRAMS.items()}
    lines = [f"  {name:12}{text}" for name, text in about.items()]
    return "\n".join(
        (
            "usage: multibodies COMMAND [arguments]",
            "",
            multibodies_jax.__doc__ or "",
            "",
            *lines,
            "",
            "`multibodies COMMAND --help` explains the arguments of one; --version prints the version.",
        )
    )


def _tell(message: str, status: int = BAD_INPUT) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return status
