"""Cut the records of a run back to the step that it goes on from."""

from __future__ import annotations

import os
from pathlib import Path

from plugrad.json_text import parse_json
from plugrad.paths import open_bytes


def keep_first_steps(path: Path, step: int) -> None:
    """Keep the records of the first `step` steps, and drop those after them and a line that was cut off.

    Raises:
        OSError: the file cannot be written.
    """
    if not path.is_file():
        return
    shorter = path.with_name(f".{path.name}.shorter")
    with open_bytes(path, "rb") as records, open_bytes(shorter, "wb") as kept:
        for line in records:
            if not line.endswith(b"\n") or _step_of(line) > step:
                break
            kept.write(line)
        kept.flush()
        os.fsync(kept.fileno())
    shorter.replace(path)


def _step_of(line: bytes) -> int:
    return int(parse_json(line)["step"])
