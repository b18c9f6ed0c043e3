"""From where a run that was asked to resume goes on, and whether it may."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad.config.run_file import RunFile
from plugrad.errors import ResumeError, RunFileError
from plugrad.shown import printable
from plugrad.trainer.checkpoints.checkpoint_folder import Checkpoint, newest_whole, steps_in
from plugrad.trainer.record.history import FINISHED, STOP_AT_REWARD, history
from plugrad.trainer.record.run_diff import Difference, EarlierRun
from plugrad.trainer.record.run_folder import METRICS

MAY_CHANGE = (
    "max_steps", "checkpoint.", "samples.", "capture.", "profile.", "tracking.", "evaluation.", "number of processes",
    "tokens_per_micro_batch", "memory.",
    "model.gradient_checkpointing", "model.compile", "rollout.generation_batch_size", "preflight_timeout_s", "search_paths",
    "metric.", "metric ", "metrics", "plugins.disable",
)  # fmt: skip
"""What changes neither the policy nor what it is trained on; a key that ends with a dot stands for a table, and a kind
that ends with a space for its components."""
SHOWN = 5

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class GoingOn:
    """What a run that was asked to resume finds in its folder."""

    checkpoint: Checkpoint | None = None
    """None where it starts at the beginning."""
    finished_at: int | None = None
    """The step after which it was complete, if there is nothing to do."""


def find(run_file: RunFile) -> GoingOn:
    """Find the newest whole checkpoint of a run. Without checkpoints, the run starts at the beginning.

    Raises:
        ResumeError: none of its checkpoints is whole, or it is past `max_steps`; or the run is complete, is to go on, and
            has no checkpoint.
    """
    folder = Path(run_file.output_dir)
    last = (history(folder) or [{}])[-1]
    step = last.get("step")
    finished_at = step if last.get("event") == FINISHED and isinstance(step, int) else None
    if finished_at is not None and (finished_at >= run_file.max_steps or last.get("by") == STOP_AT_REWARD):
        return GoingOn(finished_at=finished_at)
    checkpoint = newest_whole(folder)
    if checkpoint is None:
        # A run is never left so by being killed. A newer plugrad may have written them, or the disk has lost something.
        if steps := steps_in(folder):
            raise ResumeError(
                f"none of the {len(steps)} checkpoints in {printable(folder)} can be used, for the reasons above. To begin "
                "again would remove them: pass --overwrite instead of --resume for that, or choose another output_dir."
            )
        if finished_at is not None:
            raise ResumeError(
                f"the run in {printable(folder)} was complete after {finished_at} steps and kept no checkpoint, so it "
                f"cannot go on to max_steps = {run_file.max_steps}. Start a new run from its model: model.name = "
                f'"{folder / "model"}". With checkpoint.every_steps, a run keeps a checkpoint of its end.'
            )
        if (folder / METRICS).exists():
            logger.warning("There is no checkpoint in %s: the run starts again at its beginning.", printable(folder))
    elif checkpoint.step > run_file.max_steps:
        raise ResumeError(
            f"the run in {printable(folder)} has done {checkpoint.step} steps, more than max_steps = {run_file.max_steps}. "
            f"Set max_steps to {checkpoint.step} or more; or begin a run in another output_dir."
        )
    return GoingOn(checkpoint)


def note_other_keys(run_file: RunFile) -> None:
    """Log what a run file asks of a complete run that it did not do."""
    try:
        differences = EarlierRun.read(run_file.output_dir).differences_of_keys(run_file)
    except RunFileError as error:
        logger.warning("Whether that run had other settings cannot be told: %s", error)
        return
    # What is not set now may stand in the other as what it came to.
    found = [each for each in differences if each.now is not None and not may_change(each.what)]
    if found:
        shown = "; ".join(f"{each.what}: {_value(each.then)} -> {_value(each.now)}" for each in found[:SHOWN])
        logger.warning(
            "That run had other settings than are asked for now, and nothing is trained with these: %s. For a new run pass "
            "--overwrite instead of --resume, or choose another output_dir.",
            shown,
        )


def check_changes(
    checkpoint: Checkpoint, run_file: RunFile, plugins: Mapping[str, Any], *, allow_changes: bool
) -> list[Difference]:
    """Return what has changed since the checkpoint was written.

    Raises:
        ResumeError: something that may not, and `allow_changes` is False.
    """
    differences = EarlierRun.read(checkpoint.folder).differences(run_file, plugins)
    refused = [each for each in differences if not may_change(each.what)]
    if refused and not allow_changes:
        shown = [f"\n    {each.what}: {_value(each.then)} -> {_value(each.now)}" for each in refused[:SHOWN]]
        more = f"\n    and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        raise ResumeError(
            f"the run cannot go on from step {checkpoint.step} as it began, because this changed:{''.join(shown)}{more}\n"
            "Put it back; or pass --allow-changes to go on with what is there now, which the run folder's history.jsonl "
            "records; or start a new run in another output_dir."
        )
    return differences


def may_change(what: str) -> bool:
    """Return whether a run goes on although this has changed."""
    return any(what.startswith(each) if each[-1] in ". " else what == each for each in MAY_CHANGE)


def _value(value: object) -> str:
    return "-" if value is None else printable(value)
