"""What an evaluation chose on the validation split, as prediction and tables read it of results.json."""

import itertools
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from multibodies_jax import io, untrusted
from multibodies_jax.hypotheses import sharpening

NAMES = ("temperature", "temperatures", "sharpness", "fitting")
"""Keys of results.json that prediction uses."""

SEALED_SINCE = 3  # The first `schema` of results.json whose files all have a checksum (`io.SEAL`).
MOST_TEMPERATURE, MOST_FACTOR = 100.0, 1e6  # Evaluation chooses temperatures of at most 1, and factors of at most 5.


def read(workdir: str | os.PathLike) -> dict[str, Any]:
    """What the evaluation of a work directory chose; empty before an evaluation.

    Raises:
      FileError: results.json is damaged or was changed, or a number in it is out of range.
    """
    path = pathlib.Path(workdir) / "results.json"
    if not path.is_file():
        return {}
    advice = "Run `multibodies evaluate` again, or remove the file and set config.quantizer.temperature."
    results = untrusted.read_json(path, advice=advice)
    if told := untrusted.misspelt(results, (io.SEAL, *NAMES)):
        raise untrusted.FileError(f"{path} {told}. {advice}")
    if was_changed(results):
        raise untrusted.FileError(
            f"{path} was changed since the evaluation wrote it: its own sha256 differs or is absent. {advice}"
        )
    chosen = {name: results[name] for name in NAMES if results.get(name) is not None}
    if wrong := problem(chosen):
        raise untrusted.FileError(f"{path}: {wrong}. {advice}")
    return chosen


def was_changed(results: Mapping[str, Any]) -> bool:
    """Whether the contents of results.json are other ones than an evaluation wrote.

    Since `SEALED_SINCE` every file has its own checksum: without one its key was damaged, and anything else may be.
    """
    version = results.get("schema")
    if io.SEAL not in results and type(version) is int and version >= SEALED_SINCE:
        return True
    return io.seal_is_broken(results)


def problem(chosen: Mapping[str, Any]) -> str:
    """What is out of range of what was chosen, as a sentence without its full stop; "" if nothing."""
    fitting = chosen.get("fitting", {})
    if not isinstance(fitting, dict):
        return f"fitting is {fitting!r}, and an object was expected"
    temperatures = {"temperature": chosen.get("temperature"), "fitting.temperature": fitting.get("temperature")}
    by_name = {"temperatures": temperatures, "sharpness": {}}
    for part, (prefix, its) in itertools.product(by_name, (("", chosen), ("fitting.", fitting))):
        by_kind = its.get(part, {})
        if not isinstance(by_kind, dict):
            return f"{prefix}{part} is {by_kind!r}, and an object was expected"
        by_name[part] |= {f"{prefix}{part}.{kind}": value for kind, value in by_kind.items()}
    factors = {f"fitting.{name}": fitting.get(name) for name in ("prior", "anchor")}
    limits = (
        (by_name["temperatures"], MOST_TEMPERATURE, False),
        (by_name["sharpness"], sharpening.MOST_SHARPNESS, True),
        (factors, MOST_FACTOR, True),
    )
    for values, most, may_be_0 in limits:
        for name, value in values.items():
            if value is None:
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not (value >= 0 if may_be_0 else value > 0) or value > most:
                least = "0" if may_be_0 else "above 0"
                return f"{name} is {value!r}, and a number from {least} to {most:g} was expected"
    return ""
