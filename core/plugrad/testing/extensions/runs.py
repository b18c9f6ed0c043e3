"""The promise about a whole run: two steps of a small model with one extension."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plugrad.config.run_file import RunFile
from plugrad.host.trial import random_state_of
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.extensions.extension_trial import ExtensionTrial
from plugrad.testing.portable import importable_reference


def _check_run(extension: ExtensionTrial) -> str:
    # Imported here: the trainer imports Accelerate, which takes seconds.
    from plugrad.trainer.record.display import Silent
    from plugrad.trainer.train import train

    component = extension.component
    options = dict(component.forms)
    table = {"name": importable_reference(component), "kwargs": options}
    with TemporaryDirectory(prefix="plugrad-run-") as folder, random_state_of(0), silence_logging():
        result = train(_run_file(table, Path(folder, "run")), display=Silent())
        # Here: they are in the folder.
        skipped = sum(record["skipped_updates"] for record in result.records)
    if result.num_steps < 2:
        raise Broken(f"it ended after {result.num_steps} of 2 steps")
    return f"{result.num_steps} steps, {skipped:g} updates skipped"


def _run_file(extension: dict[str, Any], output_dir: Path) -> RunFile:
    from plugrad.testing.models import TINY

    return RunFile.model_validate(
        {
            "output_dir": str(output_dir),
            "search_paths": [str(Path.cwd())],
            "max_steps": 2,
            "model": {"from_scratch": {"model_type": "qwen3", **TINY}},
            "environment": {"name": "plugrad.testing.extensions.trial_sums:TrialSums"},
            "rollout": {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 3},
            "loss": {"name": "plugrad/ppo_clip"},
            "advantage": {"name": "plugrad/group_normalized"},
            "metrics": ["plugrad/reward"],
            "extension": [extension],
        }
    )


@contextmanager
def silence_logging() -> Iterator[None]:
    """Silence everything below errors: in a trial, warnings are intended."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


RUN: Promise[ExtensionTrial] = Promise(
    "run",
    "a run of two steps with it finishes",
    "Only a run calls all its hooks, from on_run_start to on_run_end.",
    "Read the error. `plugrad train --traceback` with this extension shows all of it.",
    _check_run,
    after=("counts_nothing_new", "gradient"),
)
