"""Remove weights that a killed run left in the run folder, on their way to servers."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from plugrad.rollout.servers.weight_labels import is_run_id

WEIGHTS_FOLDER = "weights"
"""The folder in the run folder through which weights reach the servers."""


def remove_stale_weights(run_folder: Path) -> None:
    """Remove the weights of earlier runs, and their folder if nothing else is in it."""
    folder = run_folder / WEIGHTS_FOLDER
    for path in folder.glob("*"):
        if is_run_id(path.name):
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()
