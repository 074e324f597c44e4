"""The flags of the commands that read a config: what there is, how they are parsed, and what their help says."""

import ast
import dataclasses
import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

MODES = ("train", "evaluate", "predict", "all", "plan")

ABOUT_MODES = {
    "train": "Build the data that are missing and train, from the last checkpoint on.",
    "evaluate": "Evaluate a trained work directory: results.json, results.md, figures.",
    "predict": "Predict weighted bodies for people: PATH... are photographs, folders of them, or videos.",
    "all": "Build the data that are missing, train, evaluate and draw.",
    "plan": "Say what a training on many devices takes: memory of each, steps, images per second; trains nothing.",
}


@dataclasses.dataclass(frozen=True)
class _Flag:
    """A flag of the commands in `modes`: its name, the form of its value, and its help."""

    name: str
    value: str
    help: str
    modes: tuple[str, ...] = MODES


_FLAGS = (
    _Flag("config", "FILE[:ARGUMENT]", "Experiment (default: configs/demo.py); files of configs/ are also installed."),
    _Flag("config.FIELD", "VALUE", "Set a field of it, after --config; docs/reference/config.md explains all."),
    _Flag("workdir", "DIR", "Folder of checkpoints and results (default: runs/NAME of configs/NAME.py)."),
    _Flag(
        "distributed",
        "",
        "One process of several (Slurm, Open MPI, TPU pods, or JAX_... variables).",
        ("train", "evaluate", "predict", "all"),
    ),
    _Flag(
        "onnx",
        "",
        "Run a ResNet-50 trunk in ONNX Runtime, faster on processors (needs the extra onnx).",
        ("evaluate", "predict"),
    ),
    _Flag("devices", "NUMBER", "Devices of all machines together (default: those of this one).", ("plan",)),
    _Flag("compiled", "", "Compile each step for the device of this machine, and take its memory.", ("plan",)),
    _Flag("images", "PATH", "An image, folder or video; the same as PATH without a flag.", ("predict",)),
    _Flag(
        "people", "FILE", "Keypoints of a pose estimator, JSON file or folder (default: the detector).", ("predict",)
    ),
    _Flag("n", "NUMBER", "Number of bodies per person, 1 to M (default: 5).", ("predict",)),
    _Flag(
        "weights",
        "KIND",
        "Of the hypotheses: prior, uniform, scores, scores_and_prior (default: the model's).",
        ("predict",),
    ),
    _Flag("refine", "", "Fit the hypotheses to the visible keypoints (default; --norefine does not).", ("predict",)),
    _Flag("out", "DIR", "Folder for the results (default: predictions, or WORKDIR/predictions).", ("predict",)),
    _Flag("focal", "PIXELS", "Focal length of the images (default: from EXIF, else assumed and said).", ("predict",)),
)
_CONFIG = ("--config", "-config")


class RefusedError(Exception):
    """Wrong arguments; the message says what is wrong and what is right."""


def usage_of(program: str, mode: str | None) -> str:
    """What --help prints: of the command of a mode, or of run.py, whose mode is a flag."""
    flags = [flag for flag in _FLAGS if mode is None or mode in flag.modes]
    if mode is None:
        flags.insert(0, _Flag("mode", "|".join(MODES), "What to do (default: all)."))
    lines = []
    for flag in flags:
        only = f"{', '.join(flag.modes)}: " if mode is None and flag.modes != MODES else ""
        form = f"--{flag.name}={flag.value}" if flag.value else f"--{flag.name}"
        lines.append(f"  {form:27} {only}{flag.help}")
    about = [ABOUT_MODES[mode]] if mode else [f"{name}: {text}" for name, text in ABOUT_MODES.items()]
    statuses = "Exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted (the same command continues)."
    return "\n".join((f"usage: {program} [flags]", "", *about, "", *lines, "", statuses))


def parse(program: str, argv: Sequence[str], mode: str | None) -> tuple[Any, list[str]]:
    """The values of the flags, and the paths without a flag; flags of their own, so that calls do not see each other.

    Args:
      program: its name, for messages.
      argv: the arguments.
      mode: what the program does; None takes it from the flag --mode.

    Raises:
      RefusedError: a flag that does not exist, that another mode has, or whose value cannot be.
    """
    from absl import flags
    from ml_collections import config_flags

    fields, nones = _last_of_each(_modern(argv))
    arguments = [program, *_with_config_file(fields)]
    values = flags.FlagValues()
    strings = {"workdir", "images", "people", "weights", "out"}
    config_flags.DEFINE_config_file("config", None, "", values, sys_argv=arguments)
    if mode is None:
        flags.DEFINE_enum("mode", "all", MODES, "", flag_values=values)
    for flag in _FLAGS:
        if flag.name in strings:
            flags.DEFINE_string(flag.name, None, flag.help, flag_values=values)
        elif flag.name == "n":
            flags.DEFINE_integer(flag.name, 5, flag.help, lower_bound=1, flag_values=values)
        elif flag.name == "focal":
            flags.DEFINE_float(flag.name, None, flag.help, flag_values=values)
        elif flag.name == "devices":
            flags.DEFINE_integer(flag.name, None, flag.help, lower_bound=1, flag_values=values)
        elif flag.name in ("distributed", "onnx", "refine", "compiled"):
            flags.DEFINE_bool(flag.name, flag.name == "refine", flag.help, flag_values=values)
    _check_config_file(arguments)
    given = {
        value if equals else (*argv, "")[place + 1]
        for place, (flag, equals, value) in enumerate(argument.partition("=") for argument in argv)
        if flag in _CONFIG
    }
    if len(given) > 1:
        raise RefusedError(f"--config is there {len(given)} times, and one config is read: leave all but one out.")
    try:
        rest = values(arguments)
        for path in nones:
            functools.reduce(getattr, path.split("."), values.config)  # Names a field that is not there.
            *parents, name = path.split(".")
            functools.reduce(getattr, parents, values.config)[name] = None
    except Exception as error:  # A config is a program of the user's, and may raise anything.
        raise RefusedError(
            f"{_text(error)}\nFields are explained in configs/default.py, and those of single configs in these (all: docs/reference/config.md); "
            f"`{program} --help` lists the flags."
        ) from None
    if empty := [flag.name for flag in _FLAGS if flag.name in values and values[flag.name].value == ""]:
        raise RefusedError(f"--{empty[0]} is empty (a shell variable that is not set?): give a value, or leave it out.")
    chosen = mode or values.mode
    for flag in _FLAGS:
        if flag.name in values and values[flag.name].present and chosen not in flag.modes:
            raise RefusedError(
                f"--{flag.name} is a flag of {', '.join(flag.modes)}, and this is {chosen}: leave it out."
            )
    path = pathlib.Path(config_file(values))
    if not path.is_file():
        raise RefusedError(f"there is no config file {path}. Known: {', '.join(_known_configs())}.")
    paths = rest[1:]
    if paths and chosen != "predict":
        raise RefusedError(
            f"unknown arguments {paths}: values are set with --config.FIELD=VALUE; see `{program} --help`."
        )
    return values, paths


def _check_config_file(arguments: Sequence[str]) -> None:
    """Refuses a file that is no program, like the config.json of a work directory, before it is run as one."""
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in _CONFIG:
            name = (value if equals else "".join(arguments[place + 1 : place + 2])).partition(":")[0]
            if pathlib.Path(name).is_file() and not name.endswith(".py"):
                raise RefusedError(
                    f"--config={name}: a config is a Python file, configs/NAME.py. What a work directory was trained with "
                    "stands in its config.json: give the config that it was made with and the same fields, for a trained one "
                    "with --mode=evaluate."
                )


def _modern(argv: Sequence[str]) -> list[str]:
    """Reads --config.eval.controls=False of earlier versions as the rows of config.eval.methods without the controls."""
    from configs import default

    rows = {"False": default.METHODS, "True": default.METHODS + default.CONTROLS}
    old = "--config.eval.controls="
    return [
        f"--config.eval.methods={rows[argument.removeprefix(old)]}"
        if argument.startswith(old) and argument.removeprefix(old) in rows
        else argument
        for argument in argv
    ]


def _last_of_each(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments with the last value of each field alone (ml_collections joins tuples), and the fields that are None.

    Those are set after the others are parsed: ml_collections reads None as a number where a field has one.
    """
    fields = {}
    for place, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if equals and flag.startswith(tuple(f"{name}." for name in _CONFIG)):
            fields[place] = flag.partition(".")[2], value
    last = {path: place for place, (path, _) in fields.items()}
    nones = [path for path, place in last.items() if fields[place][1] == "None"]
    dropped = {place for place, (path, _) in fields.items() if place != last[path] or path in nones}
    kept = [argument for place, argument in enumerate(argv) if place not in dropped]
    return kept, nones


def _with_config_file(argv: Sequence[str]) -> list[str]:
    """Replaces --config=configs/NAME.py by the installed file where the current folder has none; the demo by default."""
    found, given = list(argv), False
    for place, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag not in _CONFIG:
            continue
        given = True
        if equals:
            found[place] = f"{flag}={_installed(value)}"
        elif place + 1 < len(argv):
            found[place + 1] = _installed(argv[place + 1])
    return found if given else [f"--config={_installed('configs/demo.py')}", *found]


def _installed(config: str) -> str:
    """The path of a config, FILE[:ARGUMENT]: in the current folder, or else in the installed package `configs`."""
    name, colon, argument = config.partition(":")
    path = pathlib.Path(name)
    if path.is_file() or path.parts[:1] != ("configs",):
        return config
    installed = _configs_folder().joinpath(*path.parts[1:])
    return f"{installed}{colon}{argument}" if installed.is_file() else config


def _configs_folder() -> pathlib.Path:
    import configs

    return pathlib.Path(configs.__path__[0])


def _known_configs() -> list[str]:
    here = pathlib.Path("configs")
    folder = here if here.is_dir() else _configs_folder()
    return [f"configs/{path.name}" for path in sorted(folder.glob("[!_]*.py"))]


def config_file(values: Any) -> str:
    """The path of the config that was read."""
    flag = values["config"]  # A flag of ml_collections, which knows where its value came from.
    return (flag.config_filename or "").partition(":")[0]  # configs/NAME.py:ARGUMENT


def _text(error: BaseException) -> str:
    """An error's message; that of a KeyError, and of ml_collections, is the repr of a text.

    ml_collections puts the traceback of a config file around what the file says is wrong with its argument.
    """
    try:
        text = str(ast.literal_eval(str(error)))
    except (ValueError, SyntaxError):
        text = str(error)
    name, _, meant = text.partition("\n")
    if isinstance(error, (AttributeError, KeyError)) and re.fullmatch(r"'\w+'", name):
        return " ".join(filter(None, (f"The config has no field {name}.", meant)))
    flag, _, trace = text.partition(": Error whilst parsing config file:")
    last = trace.rstrip().rpartition("\n")[2]
    known = next((kind for kind in ("ValueError", "TypeError") if last.startswith(f"{kind}: ")), "")
    return f"{flag}: {last.removeprefix(f'{known}: ')}" if known else text
