"""Values of JSON files that others wrote, checked: a wrong one gives a `PeopleError` that says where it stands."""

import math
import pathlib
from typing import Any

from multibodies_jax import untrusted

_LARGEST_FILE = 2**30
LARGEST_NUMBER = 1e6


class PeopleError(ValueError):
    """A people file that cannot be used; the message names the file and the entry."""


def load(path: pathlib.Path) -> Any:
    """The content of a JSON file of at most 1 GiB.

    Raises:
      PeopleError: it cannot be read, is larger, or is no JSON.
    """
    advice = "Give the file that a pose estimator wrote, with the people of these images only."
    try:
        return untrusted.read_json(path, object, advice, PeopleError, _LARGEST_FILE)
    except FileNotFoundError as error:
        raise PeopleError(f"{path} cannot be read: there is no such file.") from error


def items(value: Any, where: str) -> list:
    """`value`, which has to be a list."""
    if not isinstance(value, list):
        raise PeopleError(f"{where} has to be a list, got {short(value)}")
    return value


def field(entry: Any, key: str, types: tuple[type, ...], where: str) -> Any:
    """`entry[key]` of an object; its type has to be one of `types`, and true and false are no integers."""
    if not isinstance(entry, dict):
        raise PeopleError(f"{where} has to be an object, got {short(entry)}")
    value = entry.get(key)
    if not isinstance(value, types) or isinstance(value, bool):
        wanted = " or ".join(kind.__name__ for kind in types)
        raise PeopleError(f"{where}.{key} has to be {wanted}, got {short(value)}")
    return value


def numbers(value: Any, where: str, missing: bool = False) -> list[float]:
    """A list of finite numbers of at most a million; null, NaN, true, false and strings are none.

    With `missing`, null and NaN stand for what was not found, and become NaN.
    """
    if set(map(type, items(value, where))) <= {int, float} and all(
        -LARGEST_NUMBER <= n <= LARGEST_NUMBER for n in value
    ):
        return [float(number) for number in value]
    result = []
    for index, number in enumerate(value):
        if missing and (number is None or number != number):
            result.append(math.nan)
            continue
        plain = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not plain or not abs(number) <= LARGEST_NUMBER:
            raise PeopleError(f"{where}[{index}] is {short(number)}; expected are finite numbers, in pixels")
        result.append(float(number))
    return result


def identity(value: Any, where: str) -> str:
    """An id as text: 7, 7.0 and "7" are one; text, whole numbers and nothing else."""
    if isinstance(value, str):
        return value
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value % 1 == 0
    if not whole:
        raise PeopleError(f"{where} has to be int or str, got {short(value)}")
    return str(int(value))


def base_name(path: str) -> str:
    """The name of a file without its folders, of POSIX or of Windows: `C:\\d\\a.jpg` is `a.jpg`."""
    return pathlib.PurePosixPath(path.replace("\\", "/")).name


def short(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
