"""Import large packages sooner, for commands and for processes that are started often."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Import torch and Transformers without garbage collections, which take a quarter of the time until a run starts.

    What is imported stays, so they find next to nothing, and each one looks at more than the one before. Nor does a later
    one look at it, if this was the first import of torch: what a process has left behind that runs already is not kept.
    """
    was_enabled, is_first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        yield
        if is_first:
            gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
