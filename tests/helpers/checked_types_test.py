"""Annotations of the package are checked at every call in tests: shapes against each other, and what has no arrays as well."""

from typing import Any

import jaxtyping
import numpy as np
import pytest
from beartype import roar

from multibodies_jax.geometry import rotations_np
from multibodies_jax.reporting import statistics
from tests.helpers import checked_types


def _with_arrays(x: jaxtyping.Float[np.ndarray, "N"], y: jaxtyping.Float[np.ndarray, "N"]) -> None: ...


def _with_arrays_inside(x: dict[str, jaxtyping.Float[np.ndarray, "N"]] | None) -> None: ...


def _of_arrays(x: int) -> list[jaxtyping.Float[np.ndarray, "N"]]:
    return [np.zeros(x)]


def _with_a_name(x: "np.ndarray") -> None: ...


def _without(x: np.ndarray, y: list[str] | None = None) -> tuple[int, ...]:
    return (len(x),)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(_with_arrays, True), (_with_arrays_inside, True), (_of_arrays, True), (_with_a_name, True), (_without, False)],
)
def test_jaxtyping_checks_where_arrays_are_annotated(function, expected):
    used = []

    def jaxtyped(function, typechecker):
        used.append(function)
        return typechecker(function)

    checked_types.checked(jaxtyped, typechecker=lambda its: its)(function)
    assert used == [function] * expected


def test_the_package_is_checked():
    wrong: Any = "1"
    with pytest.raises(roar.BeartypeCallHintViolation):
        statistics.verdict(0.0, wrong)
    with pytest.raises(jaxtyping.TypeCheckError, match="forward_kinematics"):
        rotations_np.forward_kinematics(np.zeros((2, 24, 3, 3)), np.zeros((3, 24, 3)))
