"""Show a running comparison: a grid of arms and seeds in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from plugrad.compare.planned_run import PlannedRun
from plugrad.compare.progress import Progress, RunState
from plugrad.compare.quantities import duration, share

SECONDS_BETWEEN_LINES = 10.0
BAR = 8
WIDE_CELL = 26
"""Columns for a seed's bar, its steps and a reward."""
WAITING, RUNNING, DONE, FAILED = "dim", "cyan", "green", "red"


class ProgressDisplay(Protocol):
    """Shows the start, the steps and the end of every run."""

    def start(self, run: PlannedRun) -> None:
        """Show that a run starts."""
        ...

    def update(self, run: PlannedRun) -> None:
        """Show the steps of a run. Called several times a second."""
        ...

    def end(self, run: PlannedRun) -> None:
        """Show how a run ended."""
        ...

    def close(self) -> None:
        """Stop showing anything."""
        ...


def display_for(console: Console, progress: Progress) -> ProgressDisplay:
    """Return a grid for a terminal, or plain lines for a pipe."""
    return Grid(console, progress) if console.is_terminal else Lines(console, progress)


class Grid:
    """One row per arm and one column per seed, redrawn in place."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._progress = progress
        self._width = console.width
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()
        self._show()

    def start(self, run: PlannedRun) -> None:
        """Show the run as running."""
        self._show()

    def update(self, run: PlannedRun) -> None:
        """Show its steps."""
        self._show()

    def end(self, run: PlannedRun) -> None:
        """Show how it ended."""
        self._show()

    def close(self) -> None:
        """Remove the grid, to make room for the table."""
        self._live.stop()

    def _show(self) -> None:
        self._live.update(Group(grid(self._progress, self._width), summary_line(self._progress)), refresh=True)


class Lines:
    """Plain lines for pipes and logs: one every few seconds, and one for the end of each run."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._printed_at = 0.0

    def start(self, run: PlannedRun) -> None:
        """Start the time to the next line."""
        self._printed_at = time.monotonic()

    def update(self, run: PlannedRun) -> None:
        """Print a line if the last one is old enough."""
        state = self._progress.states[run]
        if time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES and state.step:
            self._printed_at = time.monotonic()
            self._print(run, f"step {state.step}/{run.max_steps}{_reward(state)}{_left(self._progress)}")

    def end(self, run: PlannedRun) -> None:
        """Print how it ended."""
        state = self._progress.states[run]
        if state.status == "failed":
            self._print(run, f"failed after step {state.step}: {state.error}")
        else:
            self._print(run, f"done, {state.step} steps{_reward(state)}{_left(self._progress)}")

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _print(self, run: PlannedRun, text: str) -> None:
        number = list(self._progress.runs).index(run) + 1
        self._console.print(f"[{number}/{len(self._progress.runs)}] {run.arm}, seed {run.seed}: {text}", soft_wrap=True)


def grid(progress: Progress, width: int) -> Table:
    """Return a table of arms and seeds. Each cell shows the progress of one run."""
    seeds = list(dict.fromkeys(run.seed for run in progress.runs))
    arms = list(dict.fromkeys(run.arm for run in progress.runs))
    is_wide = max(map(len, arms)) + WIDE_CELL * len(seeds) <= width
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("ARM", no_wrap=True)
    for seed in seeds:
        table.add_column(f"SEED {seed}" if is_wide else str(seed), no_wrap=True, min_width=WIDE_CELL - 2 if is_wide else 5)
    for arm in arms:
        cells = [_cell(run, progress.states[run], is_wide) for run in progress.runs if run.arm == arm]
        table.add_row(arm, *cells)
    return table


def summary_line(progress: Progress) -> Text:
    """Return the line below the grid: runs done, time left, and the file with the current run's output."""
    numbers = f"{progress.number('done')} of {len(progress.runs)} runs done"
    failed = progress.number("failed")
    current = progress.current
    parts: Sequence[str | tuple[str, str]] = (
        f"\n{numbers}",
        (f", {failed} failed", FAILED) if failed else "",
        _left(progress),
        (f"   {current.log}" if current else "", "dim"),
    )
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _cell(run: PlannedRun, state: RunState, is_wide: bool) -> Text:
    if state.status == "waiting":
        return Text("·", style=WAITING)
    if state.status == "failed":
        return Text(f"failed, step {state.step}" if is_wide else "failed", style=FAILED)
    if state.status == "done":
        return Text("done" if state.reward is None else share(state.reward), style=DONE)
    if not is_wide:
        return Text(f"{100 * state.step // run.max_steps}%", style=RUNNING)
    filled = BAR * state.step // run.max_steps
    reward = "" if state.reward is None else f"  {share(state.reward)}"
    return Text.assemble(
        ("━" * filled, RUNNING), ("━" * (BAR - filled), WAITING), f" {state.step}/{run.max_steps}", (reward, RUNNING)
    )


def _reward(state: RunState) -> str:
    return "" if state.reward is None else f", reward {share(state.reward)}"


def _left(progress: Progress) -> str:
    left = progress.seconds_left
    return f", about {duration(left)} left" if left else ""
