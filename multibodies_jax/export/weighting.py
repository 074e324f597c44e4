"""What a prediction says of the weights of its hypotheses: their kind, their temperatures, and the sharpness of the
probabilities.

A prediction has the settings of its quantizer (`hypotheses.quantize.select`) as JSON in `quantizer`, and those that other
kinds of weights would have in `temperatures` and `sharpness` (docs/interfaces.md, section 10).
"""

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from multibodies_jax import untrusted
from multibodies_jax.hypotheses import sharpening, weight_kinds, weights

BY_KIND = ("temperatures", "sharpness")
"""Arrays of a prediction: JSON of each kind of weights."""


class SceneError(ValueError):
    """Predictions that make no scene; the message says which and why."""


def settings_of(record: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The settings of a prediction's quantizer.

    Raises:
      FileError: they are damaged.
    """
    return untrusted.parse_json(str(record["quantizer"]), "quantizer")


def settings_under(record: Mapping[str, np.ndarray], kind: str | None) -> dict[str, Any]:
    """The settings of a prediction's quantizer, with other weights if `kind` says some.

    Other weights have their temperature if the record knows it (`kept_temperature`), and their sharpness, or 1.

    Args:
      record: of one person.
      kind: of the weights (`hypotheses.weight_kinds.KINDS`); None are those of the record.

    Raises:
      FileError: they are damaged.
    """
    settings = settings_of(record)
    if kind is None or kind == settings.get("weights"):
        return settings
    temperatures, sharpness = (_of_kinds(record, name) for name in BY_KIND)
    temperature = temperatures.get(kind, settings.get("temperature"))
    return settings | {"weights": kind, "temperature": temperature, "sharpness": sharpness.get(kind, 1.0)}


def without_sharpness(settings: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The settings of a record with a sharpness of 1 for all weights; damaged ones stay, and choosing by them says so."""
    try:
        quantizer = settings_of(settings)
    except untrusted.FileError:
        return dict(settings)
    level = {"quantizer": np.array(json.dumps(quantizer | {"sharpness": 1.0})), "sharpness": np.array("{}")}
    return {**settings, **level}


def in_words(record: Mapping[str, np.ndarray]) -> str:
    """Which weights the hypotheses have, for people: `hypotheses.weight_kinds.KINDS`; empty where the settings are damaged."""
    try:
        settings = settings_of(record)
    except untrusted.FileError:
        return ""
    return weight_kinds.KINDS.get(str(settings.get("weights")), "")


def check_kind(record: Mapping[str, np.ndarray], kind: str) -> None:
    """Refuses weights that the hypotheses of a prediction cannot have.

    Raises:
      ValueError: there are no such weights, or they need learned scores and the record has none.
    """
    if kind not in weight_kinds.KINDS:
        raise ValueError(f"There are no weights {kind!r}: choose one of {', '.join(weight_kinds.KINDS)}.")
    if weight_kinds.reads_scores(kind) and "all_log_scores" not in record:
        raise ValueError(
            f"The weights {kind!r} need learned scores, and the prediction of person {record['person']} of {record['image']} "
            "has none: it is of a model without a score head. Take the weights 'prior' or 'uniform'."
        )


def kept_temperature(record: Mapping[str, np.ndarray], kind: str | None) -> str:
    """A sentence where `settings_under` keeps the temperature of other weights, as the record does not know theirs; else "".

    Args:
      record: before it.
      kind: of the weights that are to be chosen; None are those of the record.
    """
    try:
        settings, known = settings_of(record), _of_kinds(record, "temperatures")
    except untrusted.FileError:
        return ""  # Choosing by them says it.
    old = settings.get("weights")
    if kind is None or kind == old or kind in known or not weight_kinds.reads_prior(kind):
        return ""
    return (
        f"The prediction does not say the temperature of the weights {kind!r}: that of {old!r}, "
        f"{settings.get('temperature')}, is kept. `multibodies predict --weights={kind}` takes theirs."
    )


def weights_of(record: Mapping[str, np.ndarray]) -> Float[np.ndarray, "M"]:
    """The weights under which the prediction's quantizer clusters, which sum to 1.

    Raises:
      SceneError: its settings are damaged.
    """
    log_scores = record.get("all_log_scores")
    scores = None if log_scores is None else log_scores.astype(np.float32)
    with _settings_in_use(record) as settings:
        kind, temperature = settings["weights"], float(settings["temperature"])
        found = _softmax_of(kind, record["all_log_prior"].astype(np.float32), scores, temperature)
    return np.asarray(found, np.float64)


def sharpness_of(record: Mapping[str, np.ndarray]) -> float:
    """That of the probabilities of the prediction's bodies (`sharpening.sharpened`); 1 of files that do not say it.

    Raises:
      SceneError: its settings are damaged.
    """
    with _settings_in_use(record) as settings:
        sharpness = float(settings.get("sharpness", 1.0))
        sharpening.check_sharpness(sharpness)
    return sharpness


@contextlib.contextmanager
def _settings_in_use(record: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """The settings of a prediction's quantizer, whose reader may fail as on damaged ones."""
    try:
        yield settings_of(record)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SceneError(f"The quantizer settings of person {record['person']} are damaged ({error!r}).") from error


def _of_kinds(record: Mapping[str, np.ndarray], name: str) -> dict[str, Any]:
    """What one of `BY_KIND` has; nothing without it."""
    return untrusted.parse_json(str(record.get(name, "{}")), name)


@functools.partial(jax.jit, static_argnames="kind")
def _softmax_of(kind, log_prior, log_scores, temperature):
    return weights.normalized(weight_kinds.log_weights_of(kind, log_prior, log_scores, temperature))
