"""Cut the records of a run back to the step that it goes on from."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from plugrad.errors import ResumeError
from plugrad.json_text import parse_json
from plugrad.paths import open_bytes, write_bytes
from plugrad.shown import printable

logger = logging.getLogger("plugrad")


def keep_first_steps(path: Path, step: int, *, has_every_step: bool = True) -> None:
    """Keep the records of the first `step` steps, and drop those after them and a line that was cut off.

    With `has_every_step`, the file is made where it is missing, and a warning says which steps it lacks at its end.

    Raises:
        ResumeError: a line before that cannot be read.
        OSError: the file cannot be written.
    """
    last = 0
    if path.is_file():
        shorter = path.with_name(f".{path.name}.shorter")
        with open_bytes(path, "rb") as records, open_bytes(shorter, "wb") as kept:
            for number, line in enumerate(records, start=1):
                if not line.endswith(b"\n"):
                    break
                found = _step_of(line, f"{printable(path)}, line {number}")
                if found > step:
                    break
                kept.write(line)
                last = found
            kept.flush()
            os.fsync(kept.fileno())
        shorter.replace(path)
    elif has_every_step:
        write_bytes(path, b"")
    if has_every_step and last < step:
        logger.warning("%s has no record of the steps after %d, up to the checkpoint after step %d.", path, last, step)


def _step_of(line: bytes, where: str) -> int:
    try:
        return int(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(
            f"{where} is no record of a step: {printable(error)}. Remove the line, or put back the file as the run left it."
        ) from error
