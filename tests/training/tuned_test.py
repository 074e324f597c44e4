"""What an evaluation chose is read where it can have been chosen, and nothing else is."""

import json

import pytest

from multibodies_jax import io, untrusted
from multibodies_jax.training import tuned

_GOOD = {"temperature": 0.25, "fitting": {"prior": 0.3, "anchor": 0, "steps": 10, "temperature": 1}, "schema": 2}
_GOOD |= {"temperatures": {"prior": 0.25, "scores_and_prior": 0.1}, "sharpness": {"prior": 0.0, "scores": 1.4}}


def _write(folder, results):
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def test_before_an_evaluation_nothing_is_chosen(tmp_path):
    assert tuned.read(tmp_path) == {}


def test_what_was_chosen_is_read_sealed_or_of_an_older_version(tmp_path):
    expected = {name: _GOOD[name] for name in tuned.NAMES}
    assert tuned.read(_write(tmp_path, _GOOD)) == tuned.read(_write(tmp_path, io.sealed(_GOOD))) == expected
    assert tuned.read(_write(tmp_path, {"temperature": None})) == {}


@pytest.mark.parametrize("value", [1e9, -3, 0, float("nan"), float("inf"), "0.1", True, [0.1]])
def test_numbers_out_of_range_are_refused(tmp_path, value):
    for name, results in (
        ("temperature", {"temperature": value}),
        ("fitting.temperature", {"fitting": {"temperature": value}}),
        ("temperatures.prior", {"temperatures": {"prior": value}}),
        ("fitting.temperatures.prior", {"fitting": {"temperatures": {"prior": value}}}),
        *(() if value == 0 else [("fitting.prior", {"fitting": {"prior": value}})]),
        *(() if value == 0 else [("sharpness.scores", {"sharpness": {"scores": value}})]),
        *(() if value == 0 else [("fitting.sharpness.prior", {"fitting": {"sharpness": {"prior": value}}})]),
    ):
        with pytest.raises(
            untrusted.FileError, match=rf"results.json: {name} is .*, and a number from .* was expected"
        ):
            tuned.read(_write(tmp_path, results))
    with pytest.raises(untrusted.FileError, match="fitting is 3, and an object was expected"):
        tuned.read(_write(tmp_path, {"fitting": 3}))
    with pytest.raises(untrusted.FileError, match=r"fitting.temperatures is 3, and an object was expected"):
        tuned.read(_write(tmp_path, {"fitting": {"temperatures": 3}}))


def test_a_changed_file_is_refused(tmp_path):
    lost = io.sealed(_GOOD | {"schema": 3})
    lost["qqqqqq"] = lost.pop(io.SEAL)  # Resembles nothing.
    for changed in (io.sealed(_GOOD) | {"temperature": 0.5}, lost, _GOOD | {"schema": 3}):
        with pytest.raises(untrusted.FileError, match=r"was changed .*Run `multibodies evaluate` again"):
            tuned.read(_write(tmp_path, changed))
