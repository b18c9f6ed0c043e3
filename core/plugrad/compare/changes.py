"""What has changed since the runs of a comparison, and whether they may become longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plugrad.compare.planned_run import PlannedRun
from plugrad.config.run_file import RunFile
from plugrad.trainer.checkpoints.going_on import may_change
from plugrad.trainer.record.plugins_file import read_plugins
from plugrad.trainer.record.run_diff import EarlierRun, leaves
from plugrad.trainer.record.run_folder import PLUGINS

MAX_STEPS = "max_steps"
CHANGES_NO_RUN = "checkpoint."
"""The beginning of keys that say what a run keeps, and not what it does."""


def changed_keys(before: RunFile, now: RunFile, kept: Sequence[PlannedRun]) -> tuple[list[str], str]:
    """Describe the keys that differ. A larger `max_steps` is none if the runs can go on to it; else also say why not."""
    differing = _differing(before, now)
    short = [run for run in kept if run.is_short]
    if not short and now.max_steps <= before.max_steps:
        return [*differing.values()], ""
    longer = differing.pop(MAX_STEPS, None) or f"{MAX_STEPS} is {now.max_steps} and was less at seed {short[0].seed}"
    why = _why_no_longer(now, short)
    return [*([longer] if why else []), *differing.values()], why


def changed_plugins(run: PlannedRun, now: Mapping[str, Any]) -> list[str]:
    """Describe the packages and files that have changed since a run."""
    try:
        before = read_plugins(run.folder / PLUGINS)
    except ValueError as error:
        return [f"its record of the plugins became unreadable ({error})"]
    numbers = {"--num-processes": (before.get("num_processes", "unknown"), now["num_processes"])}
    numbers |= {package: (before["versions"].get(package), version) for package, version in now["versions"].items()}
    differing = [f"{name} was {was} and is {its}" for name, (was, its) in numbers.items() if was != its]
    # A metric cannot change a run, so a new or changed metric is no reason to run it again.
    was = {component["target"]: component.get("sha256") for component in before["components"]}
    files = [
        f"the {component['kind']} {component['target'].rpartition('/')[2]} has changed"
        for component in now["components"]
        if component["kind"] != "metric" and was.get(component["target"]) != component["sha256"]
    ]
    modules = before.get("modules", {})
    files += [
        f"the module {name} has changed"
        for name, total in now.get("modules", {}).items()
        if modules.get(name, total) != total
    ]
    return [*differing, *files]


def changed_since_checkpoint(run: PlannedRun, now: Mapping[str, Any]) -> list[str]:
    """Describe what keeps a run from going on, as `plugrad train --resume` sees it, apart from its run file."""
    earlier = EarlierRun.read(run.folder)
    differences = earlier.differences(RunFile(**earlier.tables), now)
    return [f"{each.what} was {each.then} and is {each.now}" for each in differences if not may_change(each.what)]


def _why_no_longer(now: RunFile, short: Sequence[PlannedRun]) -> str:
    """Return why runs that came to their end with a smaller `max_steps` cannot go on to this one; empty if they can."""
    table = now.optimizer
    if table.depends_on_length:
        key, value = ("warmup_ratio", table.warmup_ratio) if table.warmup_ratio else ("schedule", repr(table.schedule))
        return f"With optimizer.{key} = {value}, the runs so far would have gone otherwise"
    without = next((run for run in short if not run.keeps_its_end), None)
    if without is not None:
        return (
            f"Its run at seed {without.seed} kept no checkpoint of its end to go on from: checkpoint.every_steps keeps one"
        )
    return ""


def _differing(before: RunFile, now: RunFile) -> dict[str, str]:
    left, right = (
        dict(leaves(run_file.model_dump(mode="json", exclude={"seed", "output_dir"}))) for run_file in (before, now)
    )
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key) and not key.startswith(CHANGES_NO_RUN)]
    return {key: f"{key} was {left.get(key, 'not set')} and is {right.get(key, 'not set')}" for key in keys}
