"""`history.jsonl`: when a run began, went on and ended, and what had changed in between."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plugrad.json_text import parse_json, plain
from plugrad.paths import open_bytes, read_bytes

HISTORY = "history.jsonl"
STARTED, RESUMED, RESTARTED, STOPPED, FINISHED = "started", "resumed", "restarted", "stopped", "finished"
STOP_AT_REWARD = "stop_at_reward"
"""What ended a run before `max_steps`."""


def note(folder: Path, event: str, step: int, **facts: Any) -> None:
    """Add a line. A disk that is full costs the line, not the run."""
    line = {"event": event, "step": step, "time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with suppress(OSError), open_bytes(folder / HISTORY, "a+b", buffering=0) as file:
        # After a line that was cut off, a new one.
        start = b"\n" if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n" else b""
        file.write(start + json.dumps(plain(line)).encode() + b"\n")


def history(folder: Path) -> list[dict[str, Any]]:
    """Return the lines so far, without those that were cut off or that somebody spoiled; none if there is no such file."""
    found: list[Any] = []
    with suppress(OSError):
        for line in read_bytes(folder / HISTORY).split(b"\n"):
            with suppress(ValueError):
                found.append(parse_json(line))
    return [line for line in found if isinstance(line, dict)]
