"""What every program does first, so that it works wherever it is started: arguments, output and surroundings.

Nothing slow is imported here, because `--help` has to answer at once.
"""

import os
import re
import sys
from collections.abc import Sequence

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
        if hasattr(stream, "reconfigure"):  # Notebooks and tests put streams of their own there.
            stream.reconfigure(errors="backslashreplace")
    try:
        return [expanded(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


def expanded(argument: str) -> str:
    """An argument with the home folder in place of `~`: of VALUE, --flag=VALUE and every part of --flag=VALUE,VALUE.

    The shell does this for a word that begins with `~` alone; without this, `--out=~/x` would make a folder called `~`.

    Raises:
      ValueError: `~` stands for a home folder that the system does not know.
    """
    flag, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    return flag + equals + ",".join(home(part) for part in value.split(","))


def home(path: str) -> str:
    """A path with the home folder in place of a `~` or `~name` at its beginning; `~name` of nobody stays as it is.

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
