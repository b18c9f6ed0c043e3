"""`history.jsonl`: when a run began, went on and ended, and what had changed in between."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plugrad.json_text import read_json_lines

HISTORY = "history.jsonl"
STARTED, RESUMED, RESTARTED, STOPPED, FINISHED = "started", "resumed", "restarted", "stopped", "finished"
STOP_AT_REWARD = "stop_at_reward"
"""What ended a run before `max_steps`."""


def note(folder: Path, event: str, step: int, **facts: Any) -> None:
    """Add a line. A disk that is full costs the line, not the run."""
    line = {"event": event, "step": step, "time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with suppress(OSError), (folder / HISTORY).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def history(folder: Path) -> list[dict[str, Any]]:
    """Return the lines so far; none if there is no such file, or somebody spoiled it."""
    with suppress(OSError, ValueError):
        return [line for _, line in read_json_lines(folder / HISTORY, skip_empty=True)]
    return []
