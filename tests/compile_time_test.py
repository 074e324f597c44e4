"""Seconds of tracing and compiling: what overlaps counts once, and only what is done while it is measured."""

import jax
import jax.numpy as jnp
import pytest

from multibodies_jax import compile_time


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        ([(1.0, 11.0), (2.0, 15.0)], 3.0),  # Apart.
        ([(1.0, 11.0), (1.0, 13.0), (4.0, 14.0)], 4.0),  # The last one called the others.
        ([(3.0, 13.0), (2.0, 14.0)], 4.0),  # Two threads.
        ([], 0.0),
    ],
)
def test_what_overlaps_counts_once(parts, seconds):
    spent = compile_time.Spent(10.0)
    for duration, end in parts:
        spent.add(duration, end)
    spent.end(20.0)
    assert spent.compiling == pytest.approx(seconds)
    assert str(spent) == f"Tracing and compiling took {seconds:.1f} of 10.0 s (programs: 0)."


def test_programs_of_the_run_alone_count():
    x = jnp.ones(3)
    with compile_time.measured() as spent:
        jax.jit(lambda x: jnp.sin(x) * jax.jit(jnp.cos)(x))(x)
    before = spent.compiling, str(spent)
    assert spent.programs == 1 and spent.compiling > 0
    jax.jit(lambda x: x + 2)(x)
    assert before == (spent.compiling, str(spent)) and spent.programs == 1


def test_what_was_read_from_disk_is_said():
    spent = compile_time.Spent(0.0)
    spent.programs, spent.from_disk = 7, 5
    assert "(programs: 7, 5 of them read from disk)" in str(spent)
