"""Where weights are on their way to servers, in the run folder, and what a run that was killed has left there."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from plugrad.rollout.servers.weight_labels import is_run_id

WEIGHTS = "weights"


def remove_leftovers(run_folder: Path) -> None:
    """Remove the weights of earlier runs, and their folder where nothing else is in it."""
    folder = run_folder / WEIGHTS
    for left in folder.glob("*"):
        if is_run_id(left.name):
            shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()
