"""The first screen of a report: how a run went, in a few figures, and what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from plugrad.report.number_groups import name_of
from plugrad.report.reported_run import ReportedRun
from plugrad.shown import printable
from plugrad.trainer.record.history import FINISHED, RESTARTED, RESUMED, STARTED, STOPPED

TENTH = 10
STATES = {FINISHED: "finished", STOPPED: "stopped", STARTED: "not ended", RESUMED: "not ended", RESTARTED: "not ended"}
ARROW = " → "


def state_of(run: ReportedRun) -> str:
    """Return how the run stands: by its history, which a run that was killed could not end."""
    event = next((line.get("event") for line in reversed(run.history) if line.get("event") in STATES), None)
    return STATES.get(str(event), "no history")


def tiles_of(run: ReportedRun) -> list[tuple[str, str, str]]:
    """Return label, figure and remark of each tile; figures that the run does not have are left out."""
    most = run.tables.get("max_steps")
    tiles = [("Steps", f"{run.last_step:,}", f"of {most:,}" if isinstance(most, int) else "")]
    tiles += [_from_to("Reward", _tenths(_finite(run, "reward")), "mean of the first and last tenth of the steps")]
    held_out = _finite(run, "eval/reward")
    best = f"best {number(max(held_out))}" if held_out else ""
    tiles += [_from_to("Held-out reward", held_out[:1] + held_out[-1:], best)]
    tiles += [_from_to("Loss", _tenths(_finite(run, "loss")), "")]
    seconds, tokens = sum(_finite(run, "seconds")), sum(_finite(run, "num_tokens"))
    speed = _finite(run, "tokens_per_s")
    tiles += [("Time in steps", duration(seconds) if seconds else "", "")]
    tiles += [("Tokens sampled", f"{tokens:,.0f}" if tokens else "", f"{median(speed):,.0f} a second" if speed else "")]
    memory = _finite(run, "memory_gib")
    tiles += [("Peak memory", f"{max(memory):.2f} GiB" if memory else "", "of a process")]
    return [tile for tile in tiles if tile[1]]


def setting_of(run: ReportedRun) -> list[tuple[str, str]]:
    """Return what was trained, and how: a line for each part."""
    tables, plugins = run.tables, run.plugins
    model, rollout = _table(tables, "model"), _table(tables, "rollout")
    name = model.get("name") or (f"{_table(model, 'from_scratch').get('model_type', 'a model')} from scratch")
    lines = [("model", name), *_components(plugins), ("engine", rollout.get("engine"))]
    lines += [("rollouts a step", _product(rollout.get("prompts_per_step"), rollout.get("rollouts_per_example")))]
    lines += [("learning rate", _table(tables, "optimizer").get("lr")), ("seed", tables.get("seed"))]
    lines += [("processes", plugins.get("num_processes"))]
    began = next((line.get("time") for line in run.history), None)
    lines += [("began", str(began).replace("T", " ").replace("+00:00", " UTC") if began else None)]
    lines += [("folder", run.folder.absolute())]
    return [(what, printable(value)) for what, value in lines if value is not None]


def _components(plugins: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for component in plugins.get("components", ()):
        of_set = f" (held-out set {component['set']})" if component.get("set") else ""
        found.setdefault(component["kind"], []).append(f"{name_of(component)}{of_set}")
    kinds = ("loss", "advantage", "environment", "extension")
    return [(kind, ", ".join(found[kind])) for kind in kinds if kind in found]


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tables.get(name)
    return found if isinstance(found, Mapping) else {}


def _product(prompts: Any, rollouts: Any) -> str | None:
    known = isinstance(prompts, int) and isinstance(rollouts, int)
    return f"{prompts * rollouts:,} ({prompts} prompts \u00d7 {rollouts})" if known else None


def _finite(run: ReportedRun, name: str) -> list[float]:
    return run.curves[name].finite if name in run.curves else []


def _tenths(values: Sequence[float]) -> list[float]:
    count = max(1, len(values) // TENTH)
    return [mean(values[:count]), mean(values[-count:])] if values else []


def _from_to(label: str, values: Sequence[float], remark: str) -> tuple[str, str, str]:
    return label, ARROW.join(map(number, values)), remark


def number(value: float) -> str:
    """Return a number in the width of a tile."""
    return f"{value:.3f}" if 1e-2 <= abs(value) < 1e3 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
