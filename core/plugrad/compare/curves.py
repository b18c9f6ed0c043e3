"""The curves of a comparison: each arm's reward over its seeds, against steps and tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from plugrad.compare.planned_run import FinishedRun, series
from plugrad.compare.quantities import tokens_so_far
from plugrad.compare.summary import Summary

Points = list[tuple[float, float]]
WINDOWS = 10
"""Training rewards are averaged over a tenth of the steps, as in the table: noise would hide the differences."""


@dataclass(frozen=True)
class Curve:
    """The points of one arm, for every seed."""

    arm: str
    seeds: list[Points]


@dataclass(frozen=True)
class Panel:
    """One plot: what is drawn against what."""

    title: str
    x_label: str
    curves: list[Curve]
    has_markers: bool = False
    cut: int | None = None
    """The token count at which every run is cut for the reward at equal tokens."""


def panels_of(summary: Summary) -> list[Panel]:
    """Return the panels: training reward against steps and tokens, and held-out reward if there is one."""
    window = window_of(summary)

    def against(name: str) -> list[Curve]:
        return _curves(summary, lambda run: smoothed(_points(run, name), window))

    panels = [
        Panel("training reward", "step", against("step")),
        Panel("training reward", "tokens sampled", against("tokens"), cut=summary.token_budget),
    ]
    held_out = _curves(summary, lambda run: [(float(step), value) for step, value in run.held_out])
    return [*panels, Panel("held-out reward", "step", held_out, has_markers=True)] if held_out else panels


def window_of(summary: Summary) -> int:
    """Return the number of steps over which training rewards are averaged."""
    longest = max((len(run.records) for arm in summary.arms for run in arm.runs.values()), default=0)
    return max(1, longest // WINDOWS)


def smoothed(points: Points, window: int) -> Points:
    """Return centred means over `window` points, over fewer near the ends."""
    before, after = (window - 1) // 2, window // 2
    values = [value for _, value in points]
    return [(x, fmean(values[max(0, index - before) : index + after + 1])) for index, (x, _) in enumerate(points)]


def _curves(summary: Summary, points_of: Callable[[FinishedRun], Points]) -> list[Curve]:
    curves = [Curve(arm.name, [points for run in arm.runs.values() if (points := points_of(run))]) for arm in summary.arms]
    return [curve for curve in curves if curve.seeds]


def _points(run: FinishedRun, against: str) -> Points:
    tokens = dict(zip([record["step"] for record in run.records], tokens_so_far(run.records), strict=True))
    return [(float(tokens[step] if against == "tokens" else step), value) for step, value in series(run.records, "reward")]


def caption(summary: Summary) -> str:
    """Return the caption that explains lines and bands."""
    seeds, window = max(len(arm.runs) for arm in summary.arms), window_of(summary)
    averaged = f"; training reward averaged over {window} steps" if window > 1 else ""
    cut = "; dotted: total tokens of the run that sampled fewest"
    return (f"line: mean of {seeds} seeds; band: minimum to maximum" if seeds > 1 else "one seed") + averaged + cut
