"""The captures of a run that goes on from a checkpoint: those of later steps are taken again."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

CAPTURES = "captures"
FAILED = "failed_step_"
NAME = re.compile(r"step_(\d{6,})")


def remove_later_captures(folder: Path, step: int) -> None:
    """Remove the captures of a run folder that a run which goes on from `step` will write again. Those of failures stay."""
    with suppress(OSError):
        for path in (folder / CAPTURES).iterdir():
            match = NAME.fullmatch(path.name)
            if (match and int(match[1]) > step) or path.name.endswith(".unfinished"):
                shutil.rmtree(path, ignore_errors=True)
