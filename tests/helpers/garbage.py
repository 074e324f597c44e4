"""Collection of garbage that a test made itself."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def only_new() -> Iterator[None]:
    """Leaves what is in memory already to later collections: `gc.collect` would look at millions of objects of JAX."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
