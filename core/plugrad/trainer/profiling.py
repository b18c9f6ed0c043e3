"""`[profile]`: traces of chosen steps, with the names of hooks and plugins, for Perfetto."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile

from plugrad.host.ranges import HOOK, PLUGIN, STEP, ranges_named
from plugrad.json_text import json_of
from plugrad.paths import replace_bytes
from plugrad.shown import printable
from plugrad.trainer.record.run_folder import PROFILE_TIMES, PROFILES

logger = logging.getLogger("plugrad")


def folder_of_profile(run: Path, step: int) -> Path:
    """Return where the traces of a step are."""
    return run / PROFILES / f"step_{step:06d}"


class Profiling:
    """Traces the steps that the run file names, each from its beginning to that of the next.

    Every rank writes `profiles/step_000005/rank_0.json.gz`, which opens in Perfetto, and the main rank `times.json`, the
    seconds in each named range.
    """

    def __init__(self, run: Path, steps: list[int], rank: int) -> None:
        self._run, self._steps, self._rank = run, frozenset(steps), rank
        self._step = 0
        self._open = ExitStack()

    def before(self, step: int) -> None:
        """Write the trace of the step that ends, if there is one, and begin that of `step` if it is asked for."""
        self.close()
        if step in self._steps:
            # Otherwise it prints its own stages over the progress. It reads this when it first begins.
            os.environ.setdefault("KINETO_LOG_LEVEL", "9")
            self._step = step
            # By default it traces every kind of device that there is.
            self._profile = self._open.enter_context(profile(acc_events=True))
            self._open.enter_context(ranges_named())

    def close(self) -> None:
        """Write the trace that is open, if one is."""
        if not self._step:
            return
        step, self._step = self._step, 0
        self._open.close()
        folder = folder_of_profile(self._run, step)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._profile.export_chrome_trace(os.fspath(folder / f"rank_{self._rank}.json.gz"))
            if not self._rank:
                replace_bytes(folder / PROFILE_TIMES, json_of(times_of(self._profile)).encode())
        except (OSError, RuntimeError) as error:
            logger.warning("The trace of step %d is lost: %s", step, printable(error))
        del self._profile


def times_of(traced: profile) -> dict[str, dict[str, float]]:
    """Return the seconds in each named range, by kind: parts of the step, hooks and plugins.

    A hook's seconds include those of the plugins that it calls, and a part's those of its hooks.
    """
    kinds = {"step": STEP, "hooks": HOOK, "plugins": PLUGIN}
    found: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    events = traced.events() or []
    for kind, prefix in kinds.items():
        for event in events:
            if event.name.startswith(prefix) and not _is_on_a_device(event):
                name = event.name.removeprefix(prefix)
                found[kind][name] = found[kind].get(name, 0.0) + event.time_range.elapsed_us() / 1e6
    return found


def _is_on_a_device(event: FunctionEvent) -> bool:
    """A GPU has a range of its own for the same name: from the first to the last kernel."""
    return event.device_type.name != "CPU"
