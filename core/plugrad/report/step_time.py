"""Where the time of a step goes: rollouts, each hook that `timing` has measured, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad.errors import RunFileError
from plugrad.json_text import parse_json
from plugrad.paths import read_bytes
from plugrad.report.passed_over import PassedOver
from plugrad.report.reported_run import ReportedRun, is_number
from plugrad.shown import escaped, printable
from plugrad.trainer.record.run_folder import PROFILE_TIMES, PROFILES

OF_ADVANTAGES = ("prepare_advantages", "compute_advantages")
"""Hooks that run while the loop waits for rollouts."""
PREFIX, SUFFIX = "timing/", "_s"


@dataclass(frozen=True)
class Part:
    """A part of a step."""

    name: str
    seconds: float
    """A mean over the steps."""
    share: float


@dataclass(frozen=True)
class TracedStep:
    """A step that `[profile]` has traced."""

    name: str
    plugins: list[Part]
    """The longest first; shares are of the step."""


def parts_of(run: ReportedRun) -> list[Part]:
    """Return the parts of a step, none if the run has no times. They add up to the step."""
    total = _mean_of(run, "seconds", num_steps := _num_steps(run))
    if not total:
        return []
    hooks = {
        name.removeprefix(PREFIX).removesuffix(SUFFIX): _mean_of(run, name, num_steps)
        for name in run.curves
        if name.startswith(PREFIX) and name.endswith(SUFFIX)
    }
    advantages = sum(hooks.get(name, 0) for name in OF_ADVANTAGES)
    rollouts = max(0.0, _mean_of(run, "rollouts_s", num_steps) - advantages)
    rest = max(0.0, total - rollouts - sum(hooks.values()))
    named = {"rollouts: sampling and scoring": rollouts, **hooks, "model, optimizer and the rest": rest}
    whole = max(total, sum(named.values()))
    return [Part(escaped(name), seconds, seconds / whole) for name, seconds in named.items() if seconds or name not in hooks]


def traced_steps_of(folder: Path, passed_over: PassedOver) -> list[TracedStep]:
    """Return what each plugin took in the steps that were traced. Times that cannot be read are passed over."""
    paths = sorted((folder / PROFILES).glob(f"step_*/{PROFILE_TIMES}"))
    found = [passed_over.reading(path, _traced, None) for path in paths]
    return [step for step in found if step is not None]


def _traced(path: Path) -> TracedStep | None:
    try:
        times = parse_json(read_bytes(path))
        step, plugins = (_seconds_in(times, kind) for kind in ("step", "plugins"))
    except (OSError, ValueError, AttributeError) as error:
        raise RunFileError(f"{printable(path)} cannot be read: {printable(error)}. Remove it.") from error
    whole = sum(step.values())
    longest = sorted(plugins.items(), key=lambda plugin: -plugin[1])
    return TracedStep(
        escaped(path.parent.name), [Part(escaped(name), s, s / whole if whole else 0.0) for name, s in longest]
    )


def _seconds_in(times: Any, kind: str) -> dict[str, float]:
    return {str(name): float(seconds) for name, seconds in times.get(kind, {}).items() if is_number(seconds)}


def is_timed(runs: Sequence[ReportedRun]) -> bool:
    """Return whether a run has the numbers of the extension `timing`."""
    return any(name.startswith(PREFIX) for run in runs for name in run.curves)


def _num_steps(run: ReportedRun) -> int:
    return len(run.curves["seconds"].finite) if "seconds" in run.curves else 0


def _mean_of(run: ReportedRun, name: str, num_steps: int) -> float:
    return sum(run.curves[name].finite) / num_steps if num_steps and name in run.curves else 0.0
