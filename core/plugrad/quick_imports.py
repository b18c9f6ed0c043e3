"""Import large packages sooner, for commands and for processes that are started often."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Import without garbage collections, which take a sixth of the time of importing torch and Transformers.

    What is imported stays, so they find next to nothing, and each one looks at more than the one before.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
