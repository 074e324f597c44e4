"""Functions as bad readers are: for the tests of `contained`, which loads this file alone."""

import os
import signal
import sys
import time


def pair(x, y=0):
    """Its arguments and the process that it ran in; prints, as some libraries do."""
    print("noise")
    sys.stdout.flush()
    return x, y, os.getpid()


def fail():
    """Raises an error without a message."""
    raise KeyError


def crash():
    """Ends the interpreter as a wrong pointer does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def leave():
    """Ends the process with a status."""
    os._exit(3)


def hang():
    """Takes longer than anyone waits."""
    time.sleep(600)


def swell():
    """Takes 2 GiB."""
    return bytes(2**31)


def unfit():
    """Returns what cannot be handed over."""
    return lambda: 0
