"""SIGTERM is remembered until a training has saved, and ends it as Ctrl+C does."""

import os
import signal

import pytest

from multibodies_jax.training import stopping


def test_a_signal_that_nobody_asks_for_again_is_raised_at_the_end():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopping.StopOnTerm() as stop:
        os.kill(os.getpid(), signal.SIGTERM)  # As during the last save of a stage.
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_a_signal_the_block_ends_as_it_does():
    with stopping.StopOnTerm() as stop:
        pass
    assert not stop.requested
    with pytest.raises(ZeroDivisionError), stopping.StopOnTerm():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError
