"""What every program does first, so that it works wherever it is started: arguments, output and surroundings.

Nothing slow is imported here, because `--help` has to answer at once.
"""

import contextlib
import errno
import functools
import os
import pathlib
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

PROCESS = 0
"""Number of this process of a run of several (`--distributed`), which has reports of errors of its own."""

_HOME = re.compile("~[^/]*")


def start(argv: Sequence[str] | None = None) -> list[str]:
    """Makes the process fit its surroundings, and reads `~` in arguments; the first line of every `main`.

    JAX computes in float32, as the weights are stored, also where JAX_ENABLE_X64 is set for other programs.
    Output never fails on a letter that the terminal's encoding lacks ("±" under LC_ALL=C): it is escaped. Figures are
    files, whatever the MPLBACKEND of a notebook says, which may name a backend that is not installed here.

    Args:
      argv: the arguments, without the program's name; None takes those of the process.

    Returns:
      The arguments, with `~` and `~name` expanded where a value begins with them; see `expanded`.

    Raises:
      SystemExit: `~` stands for a home folder that the system does not know; status 2, after a message.
    """
    os.environ["MPLBACKEND"] = "agg"
    os.environ["JAX_ENABLE_X64"] = "0"
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # Notebooks and tests put streams of their own there.
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        return [expanded(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


def guarded(main: Callable[..., int]) -> Callable[..., int]:
    """Decorates a `main`: an error that nothing in it expects ends in a message and the exit status 1, not a traceback.

    The traceback goes to a file whose place the message names. Ctrl-C ends in a message and the status 130, a reader that
    closed the pipe (`| head`) in status 1; `SystemExit` passes. A `main` inside another needs no second net.
    """

    @functools.wraps(main)
    def caught(*args: object, **kwargs: object) -> int:
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            print("error: interrupted.", file=sys.stderr, flush=True)
            return 130
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):  # Else Python complains when it flushes at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:
            print(unexpected(error), file=sys.stderr, flush=True)
            return 1

    return caught


def unexpected(error: Exception, folder: pathlib.Path | None = None, fits: str = "") -> str:
    """The message of an error that nothing expected; its traceback is written as `keep_traceback` does.

    Args:
      error: as it was caught.
      folder: of the traceback.
      fits: what would fit, where the memory of the device is full (`device_problem`).
    """
    if explained := device_problem(error, fits):
        return f"error: {explained}{keep_traceback(folder)}"
    what = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
    return (
        f"error: {what}\nThis error was not expected: it is a fault of the program, or an input is damaged in a way that the "
        "program does not recognise. Try the same command with an input that worked before; if that stops too, report the "
        f"fault with the file of the traceback.{keep_traceback(folder)}"
    )


def is_full(error: BaseException) -> bool:
    """Whether the memory of the device that JAX computes on was full."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def device_problem(error: Exception, fits: str = "") -> str:
    """What is wrong with the device that JAX computes on, and what to do; empty where the error is about something else.

    Args:
      error: as it was caught.
      fits: a sentence on what would fit in its memory; empty names the fields of all batches.
    """
    if is_full(error):
        first = str(error).strip().partition("\n")[0][:200]
        fits = fits or (
            "Halve the batch until it fits: --config.train.batch, --config.stage1.batch, --config.flow.batch, or "
            "--config.eval.batch; --config.train.accumulate=2 computes the same batch in two parts. A training that began needs "
            "another --workdir for other fields."
        )
        return (
            f"the device's memory is full ({first}). {fits} What other programs hold on the device counts, and so do images "
            "that stay there (--config.data.resident=False)."
        )
    asked = os.environ.get("JAX_PLATFORMS", "")
    if not asked or asked == "cpu" or "jax" not in sys.modules:
        return ""
    try:
        sys.modules["jax"].devices()
    except Exception as missing:  # JAX raises what its plugins raise, also errors without a text.
        return (
            f"JAX_PLATFORMS={asked} asks for a device that JAX cannot use ({str(missing) or 'it found none'}). Install its part of "
            "JAX (pip install -e .[cuda13], .[cuda12] or .[tpu]; `multibodies doctor` says which driver is there), or unset "
            "JAX_PLATFORMS, or set it to cpu."
        )
    return ""


def cores() -> int:
    """The processor cores that this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def words(error: Exception) -> str:
    """An expected error as a message: those of the system say which file it is about, and what to do."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error}): free some space, or choose another place."
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return str(error)
    place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else error.filename
    if isinstance(error, IsADirectoryError):
        return f"{os.fsdecode(error.filename2 or place)} is a folder, and has to be a file: choose another place."
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{place} has to be a folder, or lie in one, and there is a file: choose another place."
    if isinstance(error, FileNotFoundError):
        return f"{place} is not there, or cannot be made: check the path."
    return f"{place} cannot be used ({error.strerror}): choose another place, or make room or change the rights there."


def keep_traceback(folder: pathlib.Path | None = None) -> str:
    """Writes the traceback of the error being handled, and says where; empty where nothing can be written.

    Args:
      folder: a folder where it does no harm; absent, or None, it is the one of temporary files.
    """
    from multibodies_jax import io  # Late: NumPy is slow.

    where = pathlib.Path(tempfile.gettempdir()) if folder is None or not folder.is_dir() else folder
    content = traceback.format_exc().encode("utf-8", "backslashreplace")
    own = f"_process{PROCESS}" if PROCESS else ""
    for name in (f"multibodies_jax_error{own}.log", f"multibodies_jax_error_{os.getpid()}.log"):
        try:  # The first may belong to another user.
            io.write_bytes(where / name, content)
            return f"\n(Full traceback: {where / name})"
        except OSError:
            continue
    return ""


def expanded(argument: str) -> str:
    """An argument with the home folder in place of `~`: of VALUE, --flag=VALUE, and every part of VALUE,VALUE and of
    NAME=VALUE,NAME=VALUE.

    The shell does this for a word that begins with `~` alone; without this, `--out=~/x` would make a folder called `~`.

    Raises:
      ValueError: `~` stands for a home folder that the system does not know.
    """
    flag, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    parts = (part.rpartition("=") for part in value.split(","))
    return flag + equals + ",".join(name + sign + home(path) for name, sign, path in parts)


def home(path: str) -> str:
    """A path with the home folder in place of a `~` or `~name` at its beginning; `~name` of an unknown user stays as it is.

    Raises:
      ValueError: `~` stands for a home folder that the system does not know.
    """
    if not _HOME.match(path):
        return path
    found = os.path.expanduser(path)
    if found == path and path.partition("/")[0] == "~":
        raise ValueError(
            f"{path!r} begins with ~, and this user has no home folder (HOME is not set): give the whole path."
        )
    return found
