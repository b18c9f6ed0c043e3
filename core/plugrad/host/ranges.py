"""Named ranges in a trace of PyTorch's profiler: parts of a step, hooks, and calls of plugins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch.profiler import record_function

from plugrad.registry.calls_in_progress import mirrored_in
from plugrad.registry.scan import CORE

HOOK = "hook: "
PLUGIN = "plugin: "
STEP = "step: "
_NOTHING = nullcontext()


class _Tracing:
    is_on = False


def hook_range(name: str) -> AbstractContextManager[object]:
    """Return a range for a call of a hook. Outside a trace it costs nothing to speak of."""
    return record_function(f"{HOOK}{name}") if _Tracing.is_on else _NOTHING


def step_range(name: str) -> AbstractContextManager[object]:
    """Return a range for a part of a step, such as its rollouts."""
    return record_function(f"{STEP}{name}") if _Tracing.is_on else _NOTHING


class PluginRanges:
    """Opens a range for each plugin's call, in the thread that makes it. Of calls in calls, only the innermost is open."""

    def __init__(self) -> None:
        self._open: dict[int, record_function] = {}

    def note(self, thread: int, owner: str) -> None:
        """Close the range of the thread's last call, and open that of `owner`, if it is a plugin."""
        # The profiler ends a range in the thread that began it.
        if thread != threading.get_ident():
            return
        last = self._open.pop(thread, None)
        if last is not None:
            last.__exit__(None, None, None)
        if owner and owner != CORE:
            self._open[thread] = record_function(f"{PLUGIN}{owner.removeprefix('the ')}")
            self._open[thread].__enter__()


@contextmanager
def ranges_named() -> Iterator[None]:
    """Name the ranges of the body."""
    _Tracing.is_on = True
    try:
        with mirrored_in(PluginRanges()):
            yield
    finally:
        _Tracing.is_on = False
