"""Traced programs on disk: traced once for all processes, anew for whatever they depend on, and never wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax import traced
from multibodies_jax.hypotheses import quantize

traces = []


def scaled(points, factor, power: int):
    traces.append(power)
    return {"scaled": factor * points**power, "none": None}


def another_process():
    """The function as a process that starts would have it: nothing of it is in memory."""
    return functools.partial(traced.jit(scaled, static_argnames="power"), factor=2.0)


@pytest.fixture(autouse=True)
def nothing_traced():
    traces.clear()


@pytest.fixture
def folder(tmp_path):
    traced.keep_in(tmp_path / "programs")
    return tmp_path / "programs"


points = jnp.arange(3.0)


def test_without_a_folder_it_is_jit(tmp_path):
    traced.keep_in(None)
    for _ in range(2):
        np.testing.assert_array_equal(another_process()(points, power=2)["scaled"], [0, 2, 8])
    assert traces == [2] and not list(tmp_path.iterdir())  # `jax.jit` knows the function again.


def test_a_second_process_traces_nothing(folder):
    first = another_process()(points, power=2)
    second = another_process()(points, power=2)
    np.testing.assert_array_equal(first["scaled"], second["scaled"])
    assert traces == [2] and second["none"] is None
    assert len(list(folder.glob("*/scaled-*.bin"))) == 1


@pytest.mark.parametrize(
    ("values", "power", "expected"),
    [(points, 3, [0, 2, 16]), (jnp.arange(2.0), 2, [0, 2]), (jnp.arange(3), 2, [0, 2, 8])],
)
def test_static_arguments_shapes_and_types_have_programs_of_their_own(folder, values, power, expected):
    another_process()(points, power=2)
    np.testing.assert_array_equal(another_process()(values, power=power)["scaled"], expected)
    assert traces == [2, power]


def test_values_are_arguments(folder):
    np.testing.assert_array_equal(another_process()(points, factor=3.0, power=1)["scaled"], [0, 3, 6])
    np.testing.assert_array_equal(another_process()(points, factor=np.float32(5), power=1)["scaled"], [0, 5, 10])
    assert traces == [1]


def test_another_precision_has_a_program_of_its_own(folder):
    """In the same process, in the next one, and back: a program of another precision would be another's numbers."""
    same = another_process()
    for precision in ("highest", None, "highest", "bfloat16"):
        with jax.default_matmul_precision(precision):
            for function in (same, another_process()):
                function(points, power=2)
    assert traces == [2, 2, 2] and len(list(folder.glob("*/scaled-*.bin"))) == 3


def test_a_damaged_program_is_traced_anew_and_replaced(folder):
    another_process()(points, power=2)
    (path,) = folder.glob("*/*.bin")
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(another_process()(points, power=2)["scaled"], [0, 2, 8])
        assert len(path.read_bytes()) == len(whole)
    assert len(traces) == 4


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    traced.keep_in(tmp_path / "file")
    np.testing.assert_array_equal(another_process()(points, power=2)["scaled"], [0, 2, 8])


def test_only_the_newest_versions_of_the_sources_stay(folder):
    for number in range(5):
        (folder / f"version{number}").mkdir(parents=True)
    another_process()(points, power=2)
    assert len(list(folder.iterdir())) == 3


def test_inside_other_programs_it_is_a_part_of_them(folder):
    outer = jax.jit(lambda x: another_process()(x, power=2)["scaled"].sum())
    assert outer(points) == 10 and jax.grad(outer)(points)[2] == 8
    assert not folder.exists()


@pytest.mark.slow
def test_kept_programs_give_what_the_quantizer_gives(folder):
    rng = np.random.default_rng(0)
    arguments = (
        jnp.asarray(rng.normal(size=(2, 12, 6)), jnp.float32),
        jnp.zeros((2, 12)),
        3,
        jax.random.split(jax.random.key(0), 2),
    )
    kept = quantize.quantize(*arguments)
    traced.keep_in(None)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(quantize.quantize(*arguments)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(folder.glob("*/quantize-*.bin"))
