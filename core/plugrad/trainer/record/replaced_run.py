"""The run that `--overwrite` replaces: it stays whole until the new one has done a step, and comes back if that does none.

A process may be killed at any moment. Each state of the folder tells what is left to do.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from plugrad.trainer.capture.later_captures import CAPTURES, FAILED
from plugrad.trainer.record.history import HISTORY

logger = logging.getLogger("plugrad")

REPLACED = "replaced-run"
"""The earlier run, whole. Beside it is what the new run has written so far."""
MOVING = "replaced-run.moving"
"""Some of its files; the others are where they belong, and nothing is of the new run."""
REMOVING = "replaced-run.removing"
"""What is left of it: the new run has done a step."""


def remove(path: Path) -> None:
    """Remove a file, a folder or a symbolic link, if it is there. What a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def names_in(folder: Path, names: Sequence[str]) -> list[str]:
    """Return which of these names are in a folder; a symbolic link is, wherever it leads."""
    return [name for name in names if os.path.lexists(folder / name)]


def set_aside(folder: Path, names: Sequence[str]) -> None:
    """Move what an earlier run wrote into a folder of its own.

    Raises:
        OSError: it cannot be moved.
    """
    found = names_in(folder, names)
    if not found:
        return
    (folder / MOVING).mkdir()
    for name in found:
        (folder / name).rename(folder / MOVING / name)
    (folder / MOVING).rename(folder / REPLACED)


def put_back(folder: Path, names: Sequence[str]) -> bool:
    """Put the earlier run back in place of what the new one wrote; return whether there was one.

    What the new one captured of its failure stays: its message names the folder.

    Raises:
        OSError: it cannot be moved.
    """
    replaced, moving = folder / REPLACED, folder / MOVING
    if replaced.is_dir():
        _keep_captured_failures(folder, replaced)
        for name in names_in(folder, names):
            # A run that was to go on began anew, and left the history where it was.
            if name != HISTORY or os.path.lexists(replaced / HISTORY):
                remove(folder / name)
        replaced.rename(moving)
    if not moving.is_dir():
        return False
    for entry in list(moving.iterdir()):
        entry.rename(folder / entry.name)
    moving.rmdir()
    return True


def _keep_captured_failures(folder: Path, replaced: Path) -> None:
    for path in (folder / CAPTURES).glob(f"{FAILED}*"):
        kept = replaced / CAPTURES / path.name
        kept.parent.mkdir(exist_ok=True)
        remove(kept)
        path.rename(kept)


def forget(folder: Path) -> None:
    """Remove the earlier run: the new one has done a step, or has come to its end."""
    try:
        if (folder / REPLACED).is_dir():
            (folder / REPLACED).rename(folder / REMOVING)
        remove(folder / REMOVING)
    except OSError as error:
        logger.warning("The run that this one replaces cannot be removed from %s: %s.", folder, error)
