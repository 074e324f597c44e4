"""Readers in a process of their own: whatever they do, the caller gets a value or one error, and goes on."""

import os
import time

import pytest

from multibodies_jax import contained
from tests.helpers import misbehaving

LIMITS = {"seconds": 60.0, "memory": 2**28}


@pytest.mark.parametrize(
    "function, message",
    [
        (misbehaving.fail, "KeyError"),
        (misbehaving.crash, r"crashed \(SIGSEGV\)"),
        (misbehaving.leave, r"crashed \(status 3\)"),
        (misbehaving.swell, "takes more than 256 MiB"),
        (misbehaving.unfit, "cannot be handed over"),
    ],
)
def test_every_end_is_one_error_and_the_next_call_works(function, message):
    with pytest.raises(contained.ContainedError, match=message):
        contained.call(function, **LIMITS)
    assert contained.call(misbehaving.pair, 1, **LIMITS)[0] == 1


def test_what_takes_too_long_is_ended():
    contained.call(misbehaving.pair, 1, **LIMITS)  # Starting the process does not count.
    began = time.monotonic()
    with pytest.raises(contained.ContainedError, match=r"not read within 0\.2 seconds"):
        contained.call(misbehaving.hang, seconds=0.2, memory=2**28)
    assert time.monotonic() - began < 10


def test_calls_share_one_other_process():
    first, second = (contained.call(misbehaving.pair, [i], y={"a": b"x" * 2**17}, **LIMITS) for i in range(2))
    assert first[:2] == ([0], {"a": b"x" * 2**17}) and second[0] == [1]
    assert first[2] == second[2] != os.getpid()
