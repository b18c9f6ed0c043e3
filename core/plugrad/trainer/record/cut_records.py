"""Cut the records of a run back to the step that it goes on from."""

from __future__ import annotations

import json
import os
from pathlib import Path


def keep_first_steps(path: Path, step: int) -> None:
    """Keep the records of the first `step` steps, and drop those after them and a line that was cut off.

    Raises:
        OSError: the file cannot be written.
    """
    if not path.is_file():
        return
    shorter = path.with_name(f".{path.name}.shorter")
    with path.open("rb") as records, shorter.open("wb") as kept:
        for line in records:
            if not line.endswith(b"\n") or _step_of(line) > step:
                break
            kept.write(line)
        kept.flush()
        os.fsync(kept.fileno())
    shorter.replace(path)


def _step_of(line: bytes) -> int:
    return int(json.loads(line)["step"])
